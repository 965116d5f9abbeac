"""Writes an engine workspace, streaming: csrc/workspace/README.md is the contract.

Each tensor is produced when its turn comes and dropped after it is written, so that the peak is one
tensor, whatever the model's size. Equal inputs give equal bytes.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lmrun.errors import StageError
from lmrun.quant.layout import FILE_ALIGNMENT, TENSOR_ALIGNMENT
from lmrun.stages.tensor_files import LazyTensor

__all__ = ["LazyTensor", "write_workspace"]

MODEL_FILE = "model.json"
RANK_FILE = "rank-0.safetensors"
FORMAT = "lmrun-workspace"
SCHEMA_VERSION = 2
LAYOUT = "cpu-tile16"
PAD_PREFIX = "__pad__."


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
                out.write(entry.array().data)
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
