"""Writes an engine workspace, streaming: csrc/workspace/README.md is the contract.

Each tensor is produced when its turn comes and dropped after it is written, so that the peak is one
tensor, whatever the model's size. Equal inputs give equal bytes.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import StageError
from lmrun.quant.packing import NUMPY_DTYPES

MODEL_FILE = "model.json"
RANK_FILE = "rank-0.safetensors"
FORMAT = "lmrun-workspace"
SCHEMA_VERSION = 1
LAYOUT = "cpu-tile16"
TENSOR_ALIGNMENT = 64
FILE_ALIGNMENT = 2 << 20
PAD_PREFIX = "__pad__."


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of the workspace whose data is made when it is written."""

    name: str
    dtype: str
    """F32, F16, BF16 or U8."""
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]
    """Makes the array, of exactly this shape and `NUMPY_DTYPES[dtype]` (BF16: bits in uint16)."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize

    @classmethod
    def of(cls, name: str, array: NDArray[Any], dtype: str | None = None) -> "LazyTensor":
        """A tensor already in memory; ``dtype`` is needed for BF16 alone."""
        names = {"float32": "F32", "float16": "F16", "uint8": "U8"}
        return cls(name, dtype or names[array.dtype.name], array.shape, lambda: array)


def write_workspace(
    folder: Path, model_json: Mapping[str, Any], tensors: Iterable[LazyTensor]
) -> None:
    """Write ``model.json`` and ``rank-0.safetensors`` into an existing folder.

    Format, schema version and layout are added to ``model_json``. A tensor that is not what it was
    declared to be raises `StageError` with its name.
    """
    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "layout": LAYOUT, "tp": 1}
    document.update(model_json)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    (folder / MODEL_FILE).write_text(text, encoding="utf-8")
    entries = _with_padding(list(tensors))
    header, last_pad = _header(entries)
    with (folder / RANK_FILE).open("wb") as out:
        out.write(len(header).to_bytes(8, "little"))
        out.write(header)
        for entry in entries:
            if isinstance(entry, LazyTensor):
                out.write(_checked(entry).data)
            else:
                out.write(bytes(entry))
        out.write(bytes(last_pad))


def _with_padding(tensors: list[LazyTensor]) -> list[LazyTensor | int]:
    """The tensors with the bytes of padding before those that would start unaligned."""
    entries: list[LazyTensor | int] = []
    offset = 0
    for tensor in tensors:
        missing = -offset % TENSOR_ALIGNMENT
        if missing:
            entries.append(missing)
        entries.append(tensor)
        offset += missing + tensor.num_bytes
    return entries


def _header(entries: list[LazyTensor | int]) -> tuple[bytes, int]:
    """The header, padded so that the data are aligned, and the bytes that end the file."""
    fields: dict[str, Any] = {}
    offset = pads = 0
    for entry in entries:
        if isinstance(entry, LazyTensor):
            name, dtype, shape, size = entry.name, entry.dtype, entry.shape, entry.num_bytes
        else:
            name, dtype, shape, size = f"{PAD_PREFIX}{pads}", "U8", (entry,), entry
            pads += 1
        if name in fields:
            raise StageError(f"workspace: the tensor {name} comes twice.")
        fields[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    length = 0
    while True:  # the last pad is part of the header whose length it depends on
        last = -(8 + length + offset) % FILE_ALIGNMENT
        last_field = {"dtype": "U8", "shape": [last], "data_offsets": [offset, offset + last]}
        whole = {**fields, f"{PAD_PREFIX}{pads}": last_field} if last else fields
        text = json.dumps(whole, separators=(",", ":")).encode()
        needed = len(text) + -(8 + len(text)) % TENSOR_ALIGNMENT
        if needed <= length:
            return text.ljust(length), last
        length = needed


def _checked(tensor: LazyTensor) -> NDArray[Any]:
    array = np.ascontiguousarray(tensor.load())
    expected = NUMPY_DTYPES[tensor.dtype]
    if array.shape != tensor.shape or array.dtype != expected:
        raise StageError(
            f"{tensor.name}: expected {expected} {list(tensor.shape)},"
            f" got {array.dtype} {list(array.shape)}."
        )
    return array
