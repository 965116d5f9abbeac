"""Workspaces read back by the formulas of csrc/workspace/README.md, and their perplexity."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from lmrun.models.spec import ModelSpec
from lmrun.quant import packing
from lmrun.quant.layout import MATRICES

Tensors = dict[str, NDArray[Any]]


def read_workspace(folder: Path) -> tuple[dict[str, str], Tensors]:
    """Dtypes and arrays of rank-0.safetensors (bfloat16 as bits)."""
    raw = (folder / "rank-0.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    dtypes, arrays = {}, {}
    for name, entry in json.loads(raw[8:start]).items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        dtype = packing.NUMPY_DTYPES[entry["dtype"]]
        dtypes[name] = entry["dtype"]
        arrays[name] = np.frombuffer(raw[begin:end], dtype).reshape(entry["shape"])
    return dtypes, arrays


def unpacked(folder: Path, spec: ModelSpec) -> Tensors:
    """The tensors of a workspace as a float checkpoint names them, in float32."""
    dtypes, stored = read_workspace(folder)

    def matrix(name: str, n: int, k: int, parts: Sequence[int] = ()) -> NDArray[np.float32]:
        if f"{name}.qweight" in stored:
            return _dequantized(stored, name, (n, k), parts)
        weight = packing.unpack_weight(stored[f"{name}.weight"], n, k)
        if dtypes[f"{name}.weight"] == "BF16":
            return (weight.astype(np.uint32) << 16).view(np.float32)
        return weight.astype(np.float32)

    hidden = spec.hidden_size
    found: Tensors = {
        "model.embed_tokens.weight": matrix("tok_embeddings", spec.vocab_size, hidden),
        "model.norm.weight": stored["norm.weight"],
    }
    if not spec.tie_word_embeddings:
        found["lm_head.weight"] = matrix("output", spec.vocab_size, hidden)
    for index in range(spec.num_layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        found[f"{theirs}.input_layernorm.weight"] = stored[f"{ours}.attention_norm.weight"]
        found[f"{theirs}.post_attention_layernorm.weight"] = stored[f"{ours}.ffn_norm.weight"]
        if spec.qk_norm:
            for norm in ("q_norm", "k_norm"):
                found[f"{theirs}.self_attn.{norm}.weight"] = stored[
                    f"{ours}.attention.{norm}.weight"
                ]
        linears = {linear.role: linear for linear in spec.layer(index)}
        for name, roles in MATRICES:
            parts = [linears[role] for role in roles]
            ends = np.cumsum([part.out_features for part in parts])
            rows = np.split(
                matrix(
                    f"{ours}.{name}.0",
                    int(ends[-1]),
                    parts[0].in_features,
                    [part.out_features for part in parts],
                ),
                ends[:-1],
            )
            for part, weight in zip(parts, rows, strict=True):
                found[f"{part.prefix}.weight"] = weight
            if parts[0].has_bias:
                biases = np.split(stored[f"{ours}.{name}.0.bias"], ends[:-1])
                for part, bias in zip(parts, biases, strict=True):
                    found[f"{part.prefix}.bias"] = bias
    return found


def _dequantized(
    stored: Tensors, name: str, shape: tuple[int, int], parts: Sequence[int]
) -> NDArray[np.float32]:
    """A code matrix [n, k] in float32; ``parts`` are the output features of its linears."""
    n, k = shape
    tiles = stored[f"{name}.qweight"]
    is_bytes = tiles.shape[1] == -(-k // 4)
    codes = packing.unpack_bytes(tiles, n, k) if is_bytes else packing.unpack_codes(tiles, n)
    if f"{name}.row_scales" in stored:
        scales = packing.unpack_groups(stored[f"{name}.row_scales"][:, None], n)
        zeros = np.full(scales.shape, 128, np.uint8)
    else:
        scales = packing.unpack_groups(stored[f"{name}.scales"], n)
        zeros = packing.unpack_groups(stored[f"{name}.zeros"], n)
    weight = packing.dequantize(codes, scales, zeros)
    if f"{name}.order" in stored:
        orders = stored[f"{name}.order"]
        rows = np.repeat(np.arange(len(orders)), parts if len(orders) > 1 else n)
        columns = np.argsort(orders, axis=1)[rows]
        weight = np.take_along_axis(weight, columns, axis=1)
    return weight


def transformers_model(
    folder: Path, tensors: Tensors, *, activation_top: float | None = None, kept: Sequence[str] = ()
) -> LlamaForCausalLM:
    """A Llama of transformers in fp32 on these weights, of the config.json in ``folder``.

    ``activation_top``: what the largest activation of a token becomes where the decoder's linears
    see int8: 127 here, 127.5 in compressed-tensors. ``kept`` names linears that see floats.
    """
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager")).eval().float()
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    if activation_top is not None:

        def rounded(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            scale = (inputs[0].abs().amax(-1, keepdim=True) / activation_top).clamp(min=1e-30)
            return ((inputs[0] / scale).round().clamp(-128, 127) * scale,)

        for name, module in model.named_modules():
            if name.endswith("_proj") and name.removeprefix("model.") not in kept:
                module.register_forward_pre_hook(rounded)
    return model
