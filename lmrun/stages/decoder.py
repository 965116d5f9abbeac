"""A Llama-family decoder layer in plain torch, float32: what calibration runs.

One layer at a time, so that a model larger than memory passes through. Activations are
[batch, tokens, features]; equal to transformers in float32 arithmetic up to rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.rope import inv_freq
from lmrun.models.safetensors_header import TensorEntry
from lmrun.models.spec import ModelSpec
from lmrun.stages import tensor_files

INPUTS = ("qkv", "o", "gate_up", "down")
"""Inputs of a layer's linears, as they are computed; q, k, v share one, and gate, up."""
READERS: dict[str, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Roles of the linears that read each input."""

Multiply = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]
"""The linear of a role: x [..., K] · weight [N, K]ᵀ, and its bias."""


@dataclass(frozen=True)
class LayerWeights:
    """The tensors of one layer: float32, or with matrices in the type that products compute in."""

    index: int
    linears: Mapping[str, Tensor]
    """Role → [out_features, in_features]."""
    biases: Mapping[str, Tensor]
    """Role → [out_features], where the model has one."""
    norms: Mapping[str, Tensor]
    """`input_layernorm`, `post_attention_layernorm`, and `q_norm`, `k_norm` where used."""

    def to(
        self, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> "LayerWeights":
        """With matrices of a type, all on a device; norms and biases stay float32."""

        def moved(tensors: Mapping[str, Tensor], kind: torch.dtype) -> dict[str, Tensor]:
            return {name: tensor.to(device, kind) for name, tensor in tensors.items()}

        return LayerWeights(
            self.index,
            moved(self.linears, dtype),
            moved(self.biases, torch.float32),
            moved(self.norms, torch.float32),
        )


@dataclass(frozen=True)
class LayerTrace:
    """What a layer computed on its way; all but ``hidden`` in the type of its matrices."""

    hidden: Tensor | None
    """Its output [batch, tokens, hidden], float32; None where it is not asked for."""
    inputs: Mapping[str, Tensor]
    """Each of `INPUTS` → [batch, tokens, in_features]."""
    key: Tensor
    """[batch, kv_heads, tokens, head_dim], after RoPE: what the KV cache stores."""
    value: Tensor


@dataclass(frozen=True)
class RotaryTables:
    """Cosine and sine of every position: [tokens, head_dim]."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, spec: ModelSpec, num_tokens: int) -> "RotaryTables":
        """Tables for positions 0 … num_tokens - 1."""
        angles = torch.outer(torch.arange(num_tokens).float(), torch.from_numpy(inv_freq(spec)))
        both = torch.cat([angles, angles], dim=-1)
        return cls(both.cos(), both.sin())

    def to(self, device: torch.device) -> "RotaryTables":
        """The same on a device."""
        return RotaryTables(self.cos.to(device), self.sin.to(device))

    def rotate(self, heads: Tensor) -> Tensor:
        """RoPE of [batch, heads, tokens, head_dim]; feature i turns with i + head_dim / 2."""
        first, second = heads.chunk(2, dim=-1)
        return heads * self.cos + torch.cat([-second, first], dim=-1) * self.sin


def load_tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    """A float tensor of a checkpoint in float32; NaN or infinity is refused with its name."""
    entry = checkpoint.tensors[name]
    array = tensor_files.to_float32(tensor_files.read(entry), entry.dtype)
    tensor = torch.from_numpy(array)
    check_finite(tensor, entry)
    return tensor


def check_finite(tensor: Tensor, entry: TensorEntry) -> None:
    """Refuse NaN and infinity with the name of the checkpoint's tensor that they come from."""
    if not bool(torch.isfinite(tensor).all()):
        raise not_finite(entry)


def not_finite(entry: TensorEntry) -> StageError:
    """The refusal of a tensor that holds NaN or infinity."""
    return StageError(
        f"{entry.file}: {entry.name}: expected finite numbers, got NaN or infinity."
        " The checkpoint is damaged: copy it again."
    )


def load_layer(checkpoint: Checkpoint, index: int) -> LayerWeights:
    """The tensors of one layer of a float checkpoint."""
    spec = checkpoint.spec
    linears = spec.layer(index)
    prefix = f"model.layers.{index}"
    norms = {name: f"{prefix}.{name}.weight" for name in _NORMS}
    if spec.qk_norm:
        norms |= {name: f"{prefix}.self_attn.{name}.weight" for name in ("q_norm", "k_norm")}
    return LayerWeights(
        index=index,
        linears={one.role: load_tensor(checkpoint, f"{one.prefix}.weight") for one in linears},
        biases={
            one.role: load_tensor(checkpoint, f"{one.prefix}.bias")
            for one in linears
            if one.has_bias
        },
        norms={name: load_tensor(checkpoint, tensor) for name, tensor in norms.items()},
    )


_NORMS = ("input_layernorm", "post_attention_layernorm")


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean of x² + eps) · weight over the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def embed(checkpoint: Checkpoint, token_ids: Tensor) -> Tensor:
    """Rows of the embedding matrix: [batch, tokens, hidden] for ids [batch, tokens]."""
    return F.embedding(token_ids, load_tensor(checkpoint, checkpoint.embedding_name))


def run_layer(
    spec: ModelSpec,
    weights: LayerWeights,
    hidden: Tensor,
    rotary: RotaryTables,
    multiply: Multiply | None = None,
) -> Tensor:
    """Output of one layer over whole sequences, causal, float32 like its input.

    Products are in the type of ``weights.linears``, by ``multiply`` or torch; norms and the
    residual are float32. NaN or infinity stops with the layer's name.
    """
    output = trace_layer(spec, weights, hidden, rotary, multiply=multiply).hidden
    assert output is not None
    return output


def trace_layer(
    spec: ModelSpec,
    weights: LayerWeights,
    hidden: Tensor,
    rotary: RotaryTables,
    *,
    multiply: Multiply | None = None,
    has_output: bool = True,
) -> LayerTrace:
    """What `run_layer` computes on its way; without ``has_output`` all but the last product, a
    quarter of all."""
    linear = multiply or _linear
    dtype = weights.linears["q_proj"].dtype
    normed = rms_norm(hidden, weights.norms["input_layernorm"], spec.rms_norm_eps).to(dtype)

    query = _heads(spec, weights, "q_proj", normed, linear)
    key = _heads(spec, weights, "k_proj", normed, linear)
    value = _heads(spec, weights, "v_proj", normed, linear)
    if spec.qk_norm:
        query = rms_norm(query.float(), weights.norms["q_norm"], spec.rms_norm_eps)
        key = rms_norm(key.float(), weights.norms["k_norm"], spec.rms_norm_eps)
    query, key = rotary.rotate(query).to(dtype), rotary.rotate(key).to(dtype)
    context = F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=spec.attention_scale, enable_gqa=True
    )
    context = context.transpose(1, 2).flatten(2)
    hidden = hidden + linear("o_proj", context, weights.linears["o_proj"], None)
    ffn_in = rms_norm(hidden, weights.norms["post_attention_layernorm"], spec.rms_norm_eps)
    ffn_in = ffn_in.to(dtype)
    gate = F.silu(linear("gate_proj", ffn_in, weights.linears["gate_proj"], None))
    middle = gate * linear("up_proj", ffn_in, weights.linears["up_proj"], None)
    output = None
    if has_output:
        output = hidden + linear("down_proj", middle, weights.linears["down_proj"], None)
    if not bool(torch.isfinite(middle if output is None else output).all()):
        raise StageError(
            f"layers.{weights.index}: expected finite activations, got NaN or infinity."
            " The checkpoint overflows on the calibration text; check its weights."
        )
    inputs = {"qkv": normed, "o": context, "gate_up": ffn_in, "down": middle}
    return LayerTrace(output, inputs, key, value)


def _heads(
    spec: ModelSpec, weights: LayerWeights, role: str, x: Tensor, linear: Multiply
) -> Tensor:
    """[batch, heads, tokens, head_dim] of a projection."""
    bias = weights.biases.get(role)
    projected = linear(role, x, weights.linears[role], None if bias is None else bias.to(x.dtype))
    return projected.view(*x.shape[:-1], -1, spec.head_dim).transpose(1, 2)


def _linear(_role: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, bias)
