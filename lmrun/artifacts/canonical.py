"""Canonical JSON: one spelling for equal values, so that equal values hash alike."""

import hashlib
import json
import math
from enum import Enum
from pathlib import PurePath
from typing import Any


def canonical(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with sorted keys, no spaces, and floats as the shortest repr of 12 significant digits.

    A float that is a whole number is written as that integer. Enums count as their value. A value
    JSON has no form for (NaN, a path, an object) raises `TypeError` or `ValueError`.
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"canonical JSON has no form for {value}.")
        rounded = float(f"{value:.12g}")
        return int(rounded) if rounded.is_integer() else rounded
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("canonical JSON takes strings as keys.")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, PurePath):
        raise TypeError(f"canonical JSON holds no paths, got {value}.")
    raise TypeError(f"canonical JSON has no form for {type(value).__name__}.")
