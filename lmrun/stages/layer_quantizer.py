"""Quantizes the linears of one decoder layer: which scales fold into what, and in which order."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lmrun.errors import StageError
from lmrun.models.spec import ModelSpec
from lmrun.quant import awq, rtn
from lmrun.quant.awq import InputStatistics
from lmrun.quant.weight import QuantizedWeight, Scheme
from lmrun.stages.decoder import INPUTS, READERS, LayerWeights
from lmrun.stages.workers import Workers

INPUT_OF = {role: name for name in INPUTS for role in READERS[name]}


@dataclass(frozen=True)
class QuantSettings:
    """The part of the recipe that decides about codes."""

    method: str
    """`rtn` or `awq`."""
    bits: int
    group_size: int
    skip: frozenset[str]
    """Names of linears kept in 16 bits (`LinearSpec.name`)."""

    @property
    def scheme(self) -> Scheme:
        """How the linears are stored."""
        return Scheme(self.bits, self.group_size)

    def kept(self, spec: ModelSpec, layer: int) -> frozenset[str]:
        """Roles of a layer kept in 16 bits."""
        return frozenset(one.role for one in spec.layer(layer) if one.name in self.skip)


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer after quantization."""

    codes: Mapping[str, QuantizedWeight]
    """Role → codes; roles kept in 16 bits are in ``weights.linears`` alone."""
    weights: LayerWeights
    """The float tensors with the scales folded in."""
    relative_errors: Mapping[str, float]
    """Role → output error over output energy on the calibration text; AWQ only."""


def quantize_layer(
    spec: ModelSpec,
    weights: LayerWeights,
    statistics: Mapping[str, InputStatistics] | None,
    settings: QuantSettings,
    workers: Workers,
) -> QuantizedLayer:
    """Codes of a layer; ``statistics`` (by `INPUTS`) is needed by `awq` alone."""
    kept = settings.kept(spec, weights.index)
    roles = [role for role in weights.linears if role not in kept]
    if settings.method == "rtn" or statistics is None:
        return QuantizedLayer(
            {role: _codes(weights, role, settings, None) for role in roles}, weights, {}
        )
    scales = _search_scales(spec, weights, statistics, settings, workers)
    folded = _fold_scales(spec, weights, scales)
    scaled = {
        name: inputs.scaled(scales[name]) if name in scales else inputs
        for name, inputs in statistics.items()
    }

    def quantized(role: str) -> tuple[QuantizedWeight, float]:
        inputs = scaled[INPUT_OF[role]]
        weight = folded.linears[role]
        clip = awq.search_clip(weight, inputs, settings.scheme)
        codes = _codes(folded, role, settings, clip)
        energy = awq.output_error(weight, inputs)
        error = awq.output_error(codes.dequantize() - weight, inputs)
        return codes, error / energy if energy > 0 else 0.0

    found = dict(zip(roles, workers.map(quantized, roles), strict=True))
    codes = {role: one for role, (one, _) in found.items()}
    return QuantizedLayer(codes, folded, {role: error for role, (_, error) in found.items()})


def value_channels(spec: ModelSpec) -> Tensor:
    """int64 [heads · head_dim]: the value feature that each input feature of `o_proj` reads."""
    heads = torch.arange(spec.num_heads) // (spec.num_heads // spec.num_kv_heads)
    return (heads[:, None] * spec.head_dim + torch.arange(spec.head_dim)[None, :]).reshape(-1)


def _codes(
    weights: LayerWeights,
    role: str,
    settings: QuantSettings,
    clip: tuple[Tensor, Tensor] | None,
) -> QuantizedWeight:
    try:
        return rtn.quantize(weights.linears[role], settings.scheme, clip=clip)
    except ValueError as error:
        raise StageError(f"layers.{weights.index}: {role}: {error}") from error


def _search_scales(
    spec: ModelSpec,
    weights: LayerWeights,
    statistics: Mapping[str, InputStatistics],
    settings: QuantSettings,
    workers: Workers,
) -> dict[str, Tensor]:
    """Scales [in_features] of each input that a quantized linear reads."""
    kept = settings.kept(spec, weights.index)
    channels = value_channels(spec)

    def search(name: str) -> Tensor:
        readers = [weights.linears[role] for role in READERS[name] if role not in kept]
        share = channels if name == "o" else None
        return awq.search_scales(readers, statistics[name], settings.scheme, share)

    names = [name for name in INPUTS if any(role not in kept for role in READERS[name])]
    return dict(zip(names, workers.map(search, names), strict=True))


def _fold_scales(
    spec: ModelSpec, weights: LayerWeights, scales_of: Mapping[str, Tensor]
) -> LayerWeights:
    """Multiply the scales of each input into its readers and divide what feeds them.

    qkv and gate/up are fed by a norm; o by the values (heads that share one share the scales);
    down by up. The model's function stays the same.
    """
    linears, biases, norms = dict(weights.linears), dict(weights.biases), dict(weights.norms)
    channels = value_channels(spec)
    for name, scales in scales_of.items():
        for role in READERS[name]:
            linears[role] = linears[role] * scales
        if name == "o":
            of_values = torch.empty(spec.num_kv_heads * spec.head_dim)
            of_values[channels] = scales
            linears["v_proj"] = linears["v_proj"] / of_values[:, None]
            if "v_proj" in biases:
                biases["v_proj"] = biases["v_proj"] / of_values
        elif name == "down":
            linears["up_proj"] = linears["up_proj"] / scales[:, None]
        else:
            norm = "input_layernorm" if name == "qkv" else "post_attention_layernorm"
            norms[norm] = norms[norm] / scales
    return LayerWeights(weights.index, linears, biases, norms)
