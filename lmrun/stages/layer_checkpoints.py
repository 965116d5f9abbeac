"""Checkpoints of a stage that goes layer by layer: what makes it resume after `kill -9`.

    layer-N.safetensors   what layer N produced
    hidden-N.safetensors  the input of layer N, for the next layer only
    NAME.sha256           digest of each of them; its presence marks the file as whole

Each file is written aside, flushed and renamed, its digest after it. The hidden states of layer
N + 1 come before layer N's file, so that a finished layer always has what the next one needs. What
was changed or torn since counts as absent: it is computed again.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lmrun.artifacts.files import sha256, write_text
from lmrun.errors import LmrunError
from lmrun.models.safetensors_header import TensorEntry, read_header
from lmrun.stages import tensor_files
from lmrun.stages.tensor_files import Array, LazyTensor

_HIDDEN = "hidden"


class LayerCheckpoints:
    """The checkpoints in one folder, which is created."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def num_done(self, needs_hidden_below: int = 0) -> int:
        """Layers 0 … n - 1 are finished; unreadable files count as absent.

        Where 0 < n < ``needs_hidden_below``, the input of layer n must be whole, or nothing counts
        as finished.
        """
        done = 0
        while _is_whole(self._layer(done)):
            done += 1
        if 0 < done < needs_hidden_below and not _is_whole(self._hidden(done)):
            return 0
        return done

    def hidden(self, index: int) -> Tensor | None:
        """The input of a layer, float32, if an earlier attempt got that far."""
        path = self._hidden(index)
        if not path.exists():
            return None
        return torch.from_numpy(tensor_files.read(read_header(path)[_HIDDEN]))

    def save(self, index: int, tensors: Mapping[str, Array], next_hidden: Tensor | None) -> None:
        """Mark a layer as finished; ``next_hidden`` is None after the last layer."""
        if next_hidden is not None:
            hidden = LazyTensor.of(_HIDDEN, next_hidden.numpy())
            _write(self._hidden(index + 1), [hidden])
        listed = [LazyTensor.of(name, np.asarray(array)) for name, array in tensors.items()]
        _write(self._layer(index), listed)
        _digest_file(self._hidden(index)).unlink(missing_ok=True)
        self._hidden(index).unlink(missing_ok=True)

    def entries(self, index: int) -> dict[str, TensorEntry]:
        """The tensors of a finished layer."""
        return read_header(self._layer(index))

    def _layer(self, index: int) -> Path:
        return self._folder / f"layer-{index}.safetensors"

    def _hidden(self, index: int) -> Path:
        return self._folder / f"hidden-{index}.safetensors"


def _write(path: Path, tensors: list[LazyTensor]) -> None:
    _digest_file(path).unlink(missing_ok=True)
    tensor_files.write_safetensors(path, tensors)
    write_text(_digest_file(path), sha256(path) + "\n")


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Has the bytes that were written, and a header that fits them."""
    try:
        if _digest_file(path).read_text(encoding="utf-8").strip() != sha256(path):
            return False
        read_header(path)
    except (OSError, UnicodeDecodeError, LmrunError):
        return False
    return True
