"""Sizes in words, and words into sizes."""

import re

from lmrun.errors import ConfigError

_UNITS = {"B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _UNITS[f"{_letter}iB"] = 1024**_power
    _UNITS[f"{_letter}B"] = 1000**_power


def parse_bytes(text: str, key: str) -> int:
    """`2GiB`, `1.5 GB`, … in bytes; ``key`` begins the error message."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]i?B|B)", text)
    if match is None:
        raise ConfigError(f"{key}={text}: expected a size such as 2GiB, got {text!r}.")
    return int(float(match[1]) * _UNITS[match[2]])


def show_bytes(count: int) -> str:
    """Bytes for people: `512 B`, `8.5 MiB`, `1.25 GiB`; three significant digits."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    if unit == "B":
        return f"{count} B"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"
