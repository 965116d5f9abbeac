"""A rehearsal: what would fail after hours fails in the first minute.

Before the layers, every weight is looked at for NaN and infinity, and one layer passes through
every step of the stage with one batch of the text: observed, quantized (whatever iterates does so
once), packed, kept, run on.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from lmrun import log
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.safetensors_header import TensorEntry
from lmrun.models.spec import ModelSpec
from lmrun.quant.packing import NUMPY_DTYPES
from lmrun.stages import decoder
from lmrun.stages.decoder import LayerWeights
from lmrun.stages.layer_source import LayerSource

CHUNK = 1 << 22
"""Elements looked at at a time."""
SCAN_S = 30.0
"""Seconds after which no further tensor is looked at: 60 GB, where the files are in memory."""
_EXPONENTS = {
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
"""Bits that are all set in NaN and infinity alone."""

_log = log.get(__name__)


@dataclass(frozen=True)
class FirstLayer:
    """A model's first layer, as if one more followed: a `LayerSource`."""

    source: LayerSource

    @property
    def spec(self) -> ModelSpec:
        """Of two layers, so that the first one's output is wanted."""
        return replace(self.source.spec, num_layers=2)

    def layer(self, index: int) -> LayerWeights:
        """The first one."""
        assert index == 0
        return self.source.layer(0)

    def embed(self, token_ids: Tensor) -> Tensor:
        """As the model does."""
        return self.source.embed(token_ids)

    def outer(self, name: str) -> Tensor:
        """As of the model."""
        return self.source.outer(name)

    def outer_rows(self, name: str, start: int, stop: int) -> Tensor:
        """As of the model."""
        return self.source.outer_rows(name, start, stop)


def scan(checkpoint: Checkpoint, seconds: float = SCAN_S) -> int:
    """Look at every float tensor for NaN and infinity; `StageError` names the first that has some.

    Returns how many tensors were looked at before the time was over.
    """
    start = time.monotonic()
    looked_at = 0
    for entry in checkpoint.tensors.values():
        if time.monotonic() - start > seconds:
            _log.info("rehearsal: %d of %d tensors are finite", looked_at, len(checkpoint.tensors))
            break
        if entry.dtype in _EXPONENTS and not _is_finite(entry):
            raise decoder.not_finite(entry)
        looked_at += 1
    return looked_at


def _is_finite(entry: TensorEntry) -> bool:
    kind, mask = _EXPONENTS[entry.dtype]
    count = entry.num_bytes // NUMPY_DTYPES[entry.dtype].itemsize
    with entry.file.open("rb") as file:
        file.seek(entry.offset)
        while count > 0:
            bits = np.fromfile(file, kind, min(count, CHUNK))
            if bits.size == 0 or bool(((bits & mask) == mask).any()):
                return False
            count -= bits.size
    return True


def folder(partial: Path) -> "tempfile.TemporaryDirectory[str]":
    """Where the rehearsal keeps what it makes, for as long as it takes."""
    return tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=partial)
