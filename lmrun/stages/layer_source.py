"""Where the float32 tensors of a model come from: a checkpoint, or something that changes it.

A source reads one layer at a time from safetensors and keeps none. Rotation is a source around
another one (`lmrun/stages/rotating.py`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lmrun.models.checkpoint import Checkpoint
from lmrun.models.spec import ModelSpec
from lmrun.stages import decoder, tensor_files
from lmrun.stages.decoder import LayerWeights


class LayerSource(Protocol):
    """A float model, layer by layer; every tensor is float32 on the CPU and finite."""

    @property
    def spec(self) -> ModelSpec:
        """The model as it comes out of this source (a rotated one is untied)."""
        ...

    def layer(self, index: int) -> LayerWeights:
        """The tensors of one layer."""
        ...

    def embed(self, token_ids: Tensor) -> Tensor:
        """Rows of the embedding matrix: [..., hidden] for ids [...]."""
        ...

    def outer(self, name: str) -> Tensor:
        """`model.embed_tokens.weight`, `model.norm.weight`, or `lm_head.weight` (untied only)."""
        ...

    def outer_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Some rows of `outer`, for matrices that need not be in memory whole."""
        ...


@dataclass(frozen=True)
class CheckpointSource:
    """The tensors of a float checkpoint as they are."""

    checkpoint: Checkpoint

    @property
    def spec(self) -> ModelSpec:
        """That of the checkpoint."""
        return self.checkpoint.spec

    def layer(self, index: int) -> LayerWeights:
        """Read when asked for; NaN or infinity is refused with the tensor's name."""
        return decoder.load_layer(self.checkpoint, index)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Only the rows that are asked for are read."""
        entry = self.checkpoint.tensors[self.checkpoint.embedding_name]
        unique, inverse = torch.unique(token_ids, return_inverse=True)
        rows = tensor_files.read_rows(entry, unique.numpy())
        found = torch.from_numpy(tensor_files.to_float32(rows, entry.dtype))
        decoder.check_finite(found, entry)
        return found[inverse]

    def outer(self, name: str) -> Tensor:
        """A whole tensor, in float32."""
        if name == "model.embed_tokens.weight":
            name = self.checkpoint.embedding_name
        return decoder.load_tensor(self.checkpoint, name)

    def outer_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Read alone."""
        if name == "model.embed_tokens.weight":
            name = self.checkpoint.embedding_name
        entry = self.checkpoint.tensors[name]
        rows = tensor_files.read_rows(entry, np.arange(start, min(stop, entry.shape[0])))
        found = torch.from_numpy(tensor_files.to_float32(rows, entry.dtype))
        decoder.check_finite(found, entry)
        return found
