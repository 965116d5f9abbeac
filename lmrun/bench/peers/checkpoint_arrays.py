"""Reads a Hugging Face folder of floats with NumPy alone; for the Python of a peer's venv."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def read_config(folder: Path) -> dict[str, Any]:
    """Its config.json."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    return config


class Arrays:
    """The tensors of model.safetensors by name, as float32."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "model.safetensors"
        with self._file.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self._header = json.loads(file.read(size))
        self._begin = 8 + size

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        kind = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[entry["dtype"]]
        values = np.fromfile(
            self._file,
            kind,
            count=(end - begin) // np.dtype(kind).itemsize,
            offset=self._begin + begin,
        ).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)
