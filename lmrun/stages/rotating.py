"""A float model seen through rotations that are fused into its weights.

QuaRot (arXiv 2404.00456) and SpinQuant's R1 and R2 (arXiv 2405.16406): the residual stream h
becomes h Q, and the values of each KV head become v R, with Q [hidden, hidden] and R [head_dim,
head_dim] orthogonal. Whatever reads the stream has the weight of the norm before it folded in, then
takes Qᵀ back; whatever writes it writes through Q. An RMS norm whose weights are one commutes with
Q, so the model's function stays the same and costs nothing at run time. q_norm and k_norm act
inside a head, behind the linears, and stay as they are.

What changes in the folder that is written: every norm of the stream is ones, and the head has the
last norm folded in, so a tied head becomes a tensor of its own (`spec.tie_word_embeddings` and
`config.json` say false; `lm_head.weight` [vocab, hidden] is added). Names and shapes of all other
tensors stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lmrun.models.spec import ModelSpec
from lmrun.quant import rotation
from lmrun.stages.decoder import READERS, LayerWeights
from lmrun.stages.layer_source import LayerSource

_VALUES = 1 << 20
"""Added to the seed for the values' rotation, so that it is not part of the stream's."""
_NORM_OF = {"qkv": "input_layernorm", "gate_up": "post_attention_layernorm"}
_CHUNK_ROWS = 16384
"""Rows of the embedding or the head turned at a time."""


@dataclass(frozen=True)
class Rotations:
    """The two matrices of a model, float32."""

    residual: Tensor
    """[hidden, hidden]."""
    value: Tensor
    """[head_dim, head_dim]: one for all KV heads of all layers."""

    @classmethod
    def of(cls, spec: ModelSpec, seed: int) -> "Rotations":
        """Randomized Hadamard matrices for the sizes of a model."""
        return cls(
            rotation.hadamard(spec.hidden_size, seed),
            rotation.hadamard(spec.head_dim, seed + _VALUES),
        )


@dataclass(frozen=True)
class RotatedSource:
    """A float model whose layers, embedding and head come out rotated: a `LayerSource`."""

    source: LayerSource
    """The model as it is."""
    rotations: Rotations

    @classmethod
    def of(cls, source: LayerSource, seed: int) -> "RotatedSource":
        """The rotated view; the seed draws the signs of the Hadamard matrices."""
        return cls(source, Rotations.of(source.spec, seed))

    @property
    def spec(self) -> ModelSpec:
        """The model as it is written: the head is a tensor of its own."""
        return replace(self.source.spec, tie_word_embeddings=False)

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """``config.json`` of the rotated model."""
        return {**config, "tie_word_embeddings": False}

    def layer(self, index: int) -> LayerWeights:
        """One layer between rotated streams."""
        return rotate_layer(self.source.spec, self.source.layer(index), self.rotations)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Rows of the rotated embedding: [..., hidden] for ids [...]."""
        return self.source.embed(token_ids) @ self.rotations.residual

    def outer(self, name: str) -> Tensor:
        """`model.embed_tokens.weight`, `model.norm.weight` (ones), or `lm_head.weight`, with the
        last norm folded in: always there, also where the model's own head is tied."""
        if name == "model.norm.weight":
            return torch.ones(self.source.spec.hidden_size)
        vocab_size = self.source.spec.vocab_size
        parts = range(0, vocab_size, _CHUNK_ROWS)
        return torch.cat([self.outer_rows(name, one, one + _CHUNK_ROWS) for one in parts])

    def outer_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows of the embedding or of the head."""
        norm = None
        if name == "lm_head.weight":
            norm = self.source.outer("model.norm.weight")
            if self.source.spec.tie_word_embeddings:
                name = "model.embed_tokens.weight"
        rows = self.source.outer_rows(name, start, stop)
        return (rows if norm is None else rows * norm) @ self.rotations.residual


def rotate_layer(spec: ModelSpec, weights: LayerWeights, rotations: Rotations) -> LayerWeights:
    """A layer between rotated streams: the same function of h Q as before of h, times Q."""
    stream, value = rotations.residual, rotations.value
    linears, biases, norms = dict(weights.linears), dict(weights.biases), dict(weights.norms)
    for name, norm in _NORM_OF.items():
        for role in READERS[name]:
            linears[role] = (linears[role] * norms[norm]) @ stream
        norms[norm] = torch.ones_like(norms[norm])
    for role in ("o_proj", "down_proj"):
        linears[role] = stream.T @ linears[role]
    heads = linears["v_proj"].view(spec.num_kv_heads, spec.head_dim, -1)
    linears["v_proj"] = torch.matmul(value.T, heads).flatten(0, 1)
    if "v_proj" in biases:
        biases["v_proj"] = (biases["v_proj"].view(-1, spec.head_dim) @ value).flatten()
    reads = linears["o_proj"].view(spec.hidden_size, spec.num_heads, spec.head_dim)
    linears["o_proj"] = torch.matmul(reads, value).flatten(1)
    return LayerWeights(weights.index, linears, biases, norms)
