"""Checkpoints of a stage that goes layer by layer: what makes it resume after `kill -9`.

    layer-N.safetensors   what layer N produced; its presence marks the layer as finished
    hidden-N.safetensors  the input of layer N, for the next layer only

Each file is written aside, flushed and renamed. The hidden states of layer N + 1 are written before
layer N's file, so that a finished layer always has what the next one needs.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

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
            tensor_files.write_safetensors(self._hidden(index + 1), [hidden])
        listed = [LazyTensor.of(name, np.asarray(array)) for name, array in tensors.items()]
        tensor_files.write_safetensors(self._layer(index), listed)
        self._hidden(index).unlink(missing_ok=True)

    def entries(self, index: int) -> dict[str, TensorEntry]:
        """The tensors of a finished layer."""
        return read_header(self._layer(index))

    def _layer(self, index: int) -> Path:
        return self._folder / f"layer-{index}.safetensors"

    def _hidden(self, index: int) -> Path:
        return self._folder / f"hidden-{index}.safetensors"


def _is_whole(path: Path) -> bool:
    """Has a header that fits the file."""
    if not path.is_file():
        return False
    try:
        read_header(path)
    except LmrunError:
        return False
    return True
