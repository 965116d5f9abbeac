"""Workspaces whose linears are stored as a test wants them, beside the model they mean."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lmrun.models.registry import spec_from_config
from lmrun.models.rope import inv_freq
from lmrun.models.spec import ModelSpec
from lmrun.quant import layout, packing
from lmrun.quant.layout import MATRICES, TensorSize, WeightQuant
from lmrun.stages.tensor_files import LazyTensor
from lmrun.stages.workspace_writer import write_workspace

Array = NDArray[Any]
NORMS = {
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}


def write(model: PreTrainedModel, quant: WeightQuant, folder: Path, seed: int = 0) -> None:
    """Write the workspace of a float32 model with its linears in codes.

    The linears of ``model`` become what their codes mean.
    """
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    spec = spec_from_config(config, "config")
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    made = dict(_tensors(spec, state, quant, np.random.default_rng(seed)))
    sizes = layout.workspace_tensors(spec, "F32", quant)
    write_workspace(
        folder, _document(spec, quant), [_lazy(size, made[size.name]) for size in sizes]
    )


def _lazy(size: TensorSize, array: Array) -> LazyTensor:
    return LazyTensor(size.name, size.dtype, size.shape, lambda: np.ascontiguousarray(array))


def _document(spec: ModelSpec, quant: WeightQuant) -> dict[str, Any]:
    names = (
        "architecture hidden_size intermediate_size num_layers num_heads num_kv_heads head_dim"
        " vocab_size context_length rms_norm_eps tie_word_embeddings qkv_bias qk_norm"
        " attention_scale bos_token_id"
    )
    return {
        **{name: getattr(spec, name) for name in names.split()},
        "rope_attention_factor": 1.0,
        "eos_token_ids": list(spec.eos_token_ids),
        "weights": {
            "method": quant.method,
            "bits": quant.bits,
            "group_size": quant.group_size,
            "symmetric": quant.is_symmetric,
            "activation_bits": quant.activation_bits,
        },
        "source": {},
    }


def _tensors(
    spec: ModelSpec, state: dict[str, Array], quant: WeightQuant, random: np.random.Generator
) -> Iterator[tuple[str, Array]]:
    yield "tok_embeddings.weight", packing.pack_weight(state["model.embed_tokens.weight"])
    yield "output.weight", packing.pack_weight(state["lm_head.weight"])
    yield "norm.weight", state["model.norm.weight"]
    yield "rope.inv_freq", inv_freq(spec)
    for index in range(spec.num_layers):
        for name, source in NORMS.items():
            yield f"layers.{index}.{name}", state[f"model.layers.{index}.{source}"]
        linears = {linear.role: linear for linear in spec.layer(index)}
        for matrix, roles in MATRICES:
            name = f"layers.{index}.{matrix}.0"
            weights = [state[f"{linears[role].prefix}.weight"] for role in roles]
            orders = layout.order_rows(spec, tuple(linears[role] for role in roles))
            yield from _matrix(name, weights, orders, quant, random)
            if linears[roles[0]].has_bias:
                parts = [state[f"{linears[role].prefix}.bias"] for role in roles]
                yield f"{name}.bias", np.concatenate(parts)


def _matrix(
    name: str,
    weights: list[Array],
    num_orders: int,
    quant: WeightQuant,
    random: np.random.Generator,
) -> Iterator[tuple[str, Array]]:
    """Codes of stacked linears; each becomes its own codes' meaning, in place."""
    k = weights[0].shape[1]
    orders = np.tile(np.arange(k, dtype=np.int32), (num_orders, 1))
    if quant.has_order:
        orders = random.permuted(orders, axis=1)
    parts = []
    for i, weight in enumerate(weights):
        order = orders[min(i, num_orders - 1)]
        codes, scales, zeros = _quantized(weight[:, order], quant)
        parts.append((codes, scales, zeros))
        groups = scales.shape[1]
        centred = codes.reshape(-1, groups, k // groups).astype(np.float32) - zeros[..., None]
        weight[:, order] = (centred * scales[..., None].astype(np.float32)).reshape(-1, k)
    codes, scales, zeros = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pack = packing.pack_codes if quant.bits == 4 else packing.pack_bytes
    yield f"{name}.qweight", pack(codes)
    if quant.activation_bits == 8:
        yield f"{name}.row_scales", packing.pack_groups(scales)[:, 0]
    else:
        yield f"{name}.scales", packing.pack_groups(scales)
        yield f"{name}.zeros", packing.pack_groups(zeros)
    if quant.has_order:
        yield f"{name}.order", orders


def _quantized(weight: Array, quant: WeightQuant) -> tuple[Array, Array, Array]:
    """Codes [N, K], scales and zeros [N, groups], rounded to nearest."""
    n, k = weight.shape
    groups = weight.reshape(n, -1, quant.group_size or k)
    top = 2**quant.bits - 1
    dtype = np.float32 if quant.activation_bits == 8 else packing.NUMPY_DTYPES[quant.scale_dtype]
    if quant.is_symmetric:
        zeros = np.full(groups.shape[:2], 2 ** (quant.bits - 1), np.uint8)
        scales = (np.abs(groups).max(-1) * 2 / (top - 1)).astype(dtype)
    else:
        low = np.minimum(groups.min(-1), 0)
        scales = ((np.maximum(groups.max(-1), 0) - low) / top).astype(dtype)
        zeros = np.clip(np.round(-low / scales), 0, top).astype(np.uint8)
    raw = np.round(groups / scales[..., None].astype(np.float32)) + zeros[..., None]
    return np.clip(raw, 0, top).astype(np.uint8).reshape(n, k), scales, zeros


class Int8Linear(torch.nn.Module):
    """A linear of int8 weights whose inputs are quantized token by token, as the engine does it."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scale = weight.abs().amax(1) / 127
        self.codes = torch.round(weight / self.scale[:, None]).double()
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., K] float32."""
        scale = x.abs().amax(-1, keepdim=True) / 127
        codes = torch.where(scale > 0, torch.round(x / scale), 0).clamp(-127, 127)
        y = (codes.double() @ self.codes.T).float() * (scale * self.scale)
        return y if self.bias is None else y + self.bias
