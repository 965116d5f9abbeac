"""Sizes and counts in words, and words into sizes."""

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


def show_count(amount: float, unit: str) -> str:
    """`1.51 GB`, `312 TFLOP/s`: powers of 1000, three significant digits."""
    prefix = ""
    for larger in ("k", "M", "G", "T", "P"):
        if amount < 999.5:
            break
        amount, prefix = amount / 1000, larger
    return f"{amount:.3g} {prefix}{unit}"


def things(count: int, name: str) -> str:
    """`1 artifact`, `2 artifacts`."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def show_seconds(seconds: float) -> str:
    """`12.5 us`, `7.3 ms`, `7.0 s`, `4 min`."""
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"
