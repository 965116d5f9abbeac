"""Reading tensors through a checkpoint's index and writing safetensors files, one at a time.

NumPy alone: bfloat16 travels as its bits in uint16 (`lmrun.quant.packing.NUMPY_DTYPES`).
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import StageError
from lmrun.models.safetensors_header import TensorEntry
from lmrun.quant.packing import NUMPY_DTYPES

Array = NDArray[Any]
HEADER_ALIGNMENT = 8


@dataclass(frozen=True)
class LazyTensor:
    """A tensor whose data is made when it is written."""

    name: str
    dtype: str
    """As safetensors spells it, a key of `NUMPY_DTYPES`."""
    shape: tuple[int, ...]
    load: Callable[[], Array]
    """Makes the array, of exactly this shape and `NUMPY_DTYPES[dtype]` (BF16: bits in uint16)."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize

    @classmethod
    def of(cls, name: str, array: Array, dtype: str | None = None) -> "LazyTensor":
        """A tensor already in memory; uint16 carries the bits of BF16."""
        names = {"float32": "F32", "float16": "F16", "uint16": "BF16", "uint8": "U8", "int8": "I8"}
        names |= {"int32": "I32", "int64": "I64"}
        return cls(name, dtype or names[array.dtype.name], array.shape, lambda: array)

    def array(self) -> Array:
        """The data; `StageError` with the tensor's name where it is not what was declared."""
        array = np.ascontiguousarray(self.load())
        expected = NUMPY_DTYPES[self.dtype]
        if array.shape != self.shape or array.dtype != expected:
            raise StageError(
                f"{self.name}: expected {expected} {list(self.shape)},"
                f" got {array.dtype} {list(array.shape)}."
            )
        return array


def read(entry: TensorEntry) -> Array:
    """The tensor's data, copied from its file. `StageError` for a type that is not carried here."""
    if entry.dtype not in NUMPY_DTYPES:
        raise StageError(f"{entry.file}: {entry.name}: the type {entry.dtype} is not read.")
    count = math.prod(entry.shape)
    with entry.file.open("rb") as file:
        file.seek(entry.offset)
        array = np.fromfile(file, NUMPY_DTYPES[entry.dtype], count)
    if array.size != count:
        raise StageError(f"{entry.file}: {entry.name}: expected {count} elements, the file ended.")
    return array.reshape(entry.shape)


def read_rows(entry: TensorEntry, rows: NDArray[np.int64]) -> Array:
    """Rows of a matrix, in the order asked for; no more of the file comes into memory."""
    if entry.dtype not in NUMPY_DTYPES:
        raise StageError(f"{entry.file}: {entry.name}: the type {entry.dtype} is not read.")
    try:
        mapped = np.memmap(
            entry.file, NUMPY_DTYPES[entry.dtype], "r", entry.offset, shape=entry.shape
        )
    except ValueError as error:
        raise StageError(f"{entry.file}: {entry.name}: {error}.") from error
    return np.asarray(mapped[rows])


def to_float32(array: Array, dtype: str) -> NDArray[np.float32]:
    """F32, F16 or BF16 data in float32."""
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def from_float32(array: NDArray[np.float32], dtype: str) -> Array:
    """The data as F32, F16 or BF16 (bits in uint16), rounded to nearest even; finite numbers."""
    if dtype == "BF16":
        bits = array.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return array.astype(NUMPY_DTYPES[dtype])


def write_safetensors(
    path: Path, tensors: Iterable[LazyTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write an ordinary safetensors file, streaming; flushed and renamed, so whole or absent."""
    listed = list(tensors)
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in listed:
        if tensor.name in fields:
            raise StageError(f"{path.name}: the tensor {tensor.name} comes twice.")
        end = offset + tensor.num_bytes
        fields[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    header = text + b" " * (-len(text) % HEADER_ALIGNMENT)
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as out:
        out.write(len(header).to_bytes(8, "little"))
        out.write(header)
        for tensor in listed:
            out.write(tensor.array().data)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(path)
