"""Reads the header of a safetensors file and trusts none of it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.errors import PlanError

DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
DTYPE_BYTES |= {"U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8}
MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library."""


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies."""

    name: str
    dtype: str
    """As safetensors spells it: `F16`, `I32`, …"""
    shape: tuple[int, ...]
    file: Path
    offset: int
    """Of the first byte, from the start of the file."""
    num_bytes: int


def read_header(file: Path) -> dict[str, TensorEntry]:
    """The tensors of a file, by name. `PlanError` names the file and what is wrong with it."""
    try:
        with file.open("rb") as opened:
            size = file.stat().st_size
            length = header_bytes(file, opened.read(8), size)
            text = opened.read(length)
    except OSError as error:
        raise PlanError(f"{file}: expected a readable file, got {error.strerror}.") from error
    return check_header(file, text, 8 + length, size)


def header_bytes(file: Path, first: bytes, size: int) -> int:
    """Length of the header of a file of ``size`` bytes, from its ``first`` 8."""
    length = int.from_bytes(first[:8], "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise _broken(file, f"a header of {length} bytes in a file of {size}")
    return length


def check_header(file: Path, text: bytes, start: int, size: int) -> dict[str, TensorEntry]:
    """The tensors of a header whose data begins at ``start`` in a file of ``size`` bytes.

    The file itself is not opened.
    """
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(file, f"a header that is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _broken(file, "a header that is no JSON object")
    header.pop("__metadata__", None)
    entries = {name: _entry(file, name, fields, start) for name, fields in header.items()}
    end = start
    for entry in sorted(entries.values(), key=lambda item: item.offset):
        if entry.offset != end:
            raise _broken(file, f"a gap or an overlap before tensor {entry.name}")
        end += entry.num_bytes
    if end != size:
        raise PlanError(
            f"{file}: expected {end} bytes by its header, got {size}."
            " The file is truncated or damaged: copy it again."
        )
    return entries


def _broken(file: Path, what: str) -> PlanError:
    return PlanError(f"{file}: expected a safetensors file, got {what}. Copy it again.")


def _entry(file: Path, name: str, fields: Any, start: int) -> TensorEntry:  # noqa: ANN401 - JSON
    try:
        dtype = str(fields["dtype"])
        shape = tuple(int(length) for length in fields["shape"])
        begin, end = (int(offset) for offset in fields["data_offsets"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _broken(file, f"a malformed entry for tensor {name}") from error
    if dtype not in DTYPE_BYTES:
        raise _broken(file, f"dtype {dtype} for tensor {name}")
    num_bytes = math.prod(shape) * DTYPE_BYTES[dtype]
    if begin < 0 or min(shape, default=1) < 0 or end - begin != num_bytes:
        raise _broken(file, f"{end - begin} bytes for tensor {name}, {dtype} {list(shape)}")
    return TensorEntry(name, dtype, shape, file, start + begin, num_bytes)
