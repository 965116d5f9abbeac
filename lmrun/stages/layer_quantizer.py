"""Quantizes the linears of one decoder layer: scales folded in first, then codes.

`METHODS` is the table. Those here put together a search for channel scales (none, AWQ, SmoothQuant)
and a way of rounding (to nearest, with searched ranges, GPTQ).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import torch
from torch import Tensor

from lmrun.errors import StageError
from lmrun.models.spec import ModelSpec
from lmrun.quant import awq, gptq, rtn, smoothquant
from lmrun.quant.awq import InputStatistics
from lmrun.quant.gptq import Factor
from lmrun.quant.weight import QuantizedWeight
from lmrun.stages.decoder import INPUTS, READERS, LayerWeights
from lmrun.stages.layer_stream import Propagate
from lmrun.stages.quantize_report import RowFacts, role_row
from lmrun.stages.quantizing import (
    LayerMethod,
    LayerTask,
    Needs,
    Observed,
    QuantizedLayer,
    QuantSettings,
)

Part = TypeVar("Part")
SAMPLE_TOKENS = 512
"""Tokens that the search for SmoothQuant's alpha looks at."""
PART_ROWS = 1024
"""Output features of a linear that are one task, whatever the number of workers."""


class Scales(StrEnum):
    """How channel scales are found."""

    NONE = "none"
    AWQ = "awq"
    SMOOTHQUANT = "smoothquant"


class Rounding(StrEnum):
    """How codes are chosen."""

    NEAREST = "nearest"
    CLIPPED = "clipped"
    """To nearest, in the ranges that AWQ searches."""
    GPTQ = "gptq"


@dataclass(frozen=True)
class InputScales:
    """The channel scales of an input."""

    scales: Tensor
    """float32 [K]."""
    alpha: float | None = None


@dataclass(frozen=True)
class Composed:
    """A search for scales and a way of rounding."""

    scales: Scales
    rounding: Rounding
    propagate: Propagate = Propagate.FLOAT

    def needs(self, settings: QuantSettings) -> Needs:
        """Second moments for all but plain rounding; what the search for scales reads."""
        searches_alpha = self.scales is Scales.SMOOTHQUANT and settings.alpha is None
        return Needs(
            moments=self.scales is not Scales.NONE or self.rounding is not Rounding.NEAREST,
            magnitudes=self.scales is not Scales.NONE,
            sample_tokens=SAMPLE_TOKENS if searches_alpha else 0,
            propagate=self.propagate,
        )

    def quantize(self, task: LayerTask) -> QuantizedLayer:
        """One input after another, so that what was observed of it can be dropped."""
        weights = task.layer.take_weights()
        found = search(self.scales, task, weights)
        weights = fold_scales(task.spec, weights, {k: one.scales for k, one in found.items()})
        for name, one in found.items():
            scale_moment(task.observed, name, one.scales)
        return round_layer(self.rounding, task, weights, found)


METHODS: Mapping[str, LayerMethod] = {
    "rtn": Composed(Scales.NONE, Rounding.NEAREST),
    "awq": Composed(Scales.AWQ, Rounding.CLIPPED),
    "gptq": Composed(Scales.NONE, Rounding.GPTQ),
    "awq_gptq": Composed(Scales.AWQ, Rounding.GPTQ),
    "smoothquant": Composed(Scales.SMOOTHQUANT, Rounding.GPTQ),
}
"""`quant.method` → how it quantizes a layer, without those that learn (`methods.py`)."""


def round_layer(
    rounding: Rounding,
    task: LayerTask,
    weights: LayerWeights,
    found: Mapping[str, InputScales] | None = None,
) -> QuantizedLayer:
    """Codes of every linear that is not kept; ``weights.linears`` is emptied as they are made.

    ``found`` are the scales that are folded into the weights, and taken off the second moments,
    already.
    """
    linears = dict(weights.linears)
    if isinstance(weights.linears, dict):
        weights.linears.clear()
    codes: dict[str, QuantizedWeight] = {}
    report: dict[str, dict[str, object]] = {}
    wanted = frozenset(task.roles)
    for name in INPUTS:
        roles = [role for role in READERS[name] if role in wanted]
        moment = task.observed.moments.pop(name, None)
        if not roles:
            continue
        with named(task, name):
            found_codes, damping = codes_of(
                rounding, task, {role: linears[role] for role in roles}, moment
            )
        codes |= found_codes
        scales = found.get(name) if found else None
        facts = RowFacts(
            moment,
            channel_scales=scales.scales if scales else None,
            alpha=scales.alpha if scales else None,
            damping=damping,
        )
        rows = task.workers.map(
            lambda one: role_row(*one), [(linears[role], codes[role], facts) for role in roles]
        )
        report |= dict(zip(roles, rows, strict=True))
        for role in roles:
            del linears[role]
    kept = LayerWeights(weights.index, linears, weights.biases, weights.norms)
    return QuantizedLayer(codes, kept, report)


def codes_of(
    rounding: Rounding,
    task: LayerTask,
    weights: Mapping[str, Tensor],
    moment: Tensor | None,
) -> tuple[dict[str, QuantizedWeight], float | None]:
    """Codes of linears that share an input: parts of `PART_ROWS` rows, several at once; and the
    damping that GPTQ's Hessian got."""
    settings = task.settings
    scheme = settings.scheme
    factor: Factor | None = None
    clipped_by: Tensor | None = None
    if rounding is Rounding.GPTQ:
        assert moment is not None
        factor = gptq.factor(moment, act_order=settings.act_order, damping=settings.damping)
    elif rounding is Rounding.CLIPPED:
        assert moment is not None
        clipped_by = moment

    def part(_role: str, rows: Tensor) -> QuantizedWeight:
        if factor is not None:
            return gptq.quantize(rows, factor, scheme, mse=settings.mse)
        if clipped_by is not None:
            return rtn.quantize(rows, scheme, clip=awq.search_clip(rows, clipped_by, scheme))
        return rtn.quantize(rows, scheme, mse=settings.mse)

    if factor is not None and factor.order.device.type != "cpu":
        # a GPU waits for each input feature in turn: all output features at once
        stacked = gptq.quantize(torch.cat(list(weights.values())), factor, scheme, mse=settings.mse)
        split = stacked.split([len(weight) for weight in weights.values()])
        codes = dict(zip(weights, split, strict=True))
    else:
        parts = in_parts(task, weights, part)
        codes = {role: joined(all_) for role, all_ in parts.items()}
    for role, one in codes.items():
        if not bool(torch.isfinite(one.scales).all()):
            raise ValueError(f"{role}: expected finite scales, got NaN or infinity.")
    return codes, factor.damping if factor else None


def in_parts(
    task: LayerTask, weights: Mapping[str, Tensor], function: Callable[[str, Tensor], Part]
) -> dict[str, list[Part]]:
    """Role → what a function of role and rows gives for each `PART_ROWS` rows, in their order;
    several at once."""

    def one_part(place: tuple[str, int]) -> Part:
        role, start = place
        return function(role, weights[role][start : start + PART_ROWS])

    places = [
        (role, start)
        for role, weight in weights.items()
        for start in range(0, len(weight), PART_ROWS)
    ]
    found: dict[str, list[Part]] = {}
    for (role, _), one in zip(places, task.workers.map(one_part, places), strict=True):
        found.setdefault(role, []).append(one)
    return found


def joined(parts: list[QuantizedWeight]) -> QuantizedWeight:
    """Rows of one matrix, put together."""
    if len(parts) == 1:
        return parts[0]
    return QuantizedWeight(
        torch.cat([one.codes for one in parts]),
        torch.cat([one.scales for one in parts]),
        torch.cat([one.zeros for one in parts]),
        parts[0].bits,
    )


def search(kind: Scales, task: LayerTask, weights: LayerWeights) -> dict[str, InputScales]:
    """Scales of each input that a quantized linear reads."""
    if kind is Scales.NONE:
        return {}
    wanted = frozenset(task.roles)
    names = [name for name in INPUTS if any(role in wanted for role in READERS[name])]

    def search_input(name: str) -> InputScales:
        readers = [weights.linears[role] for role in READERS[name] if role in wanted]
        share = value_channels(task.spec, readers[0].device) if name == "o" else None
        with named(task, name):
            found = _search_one(kind, task, name, readers, share)
            if not bool(torch.isfinite(found.scales).all()):
                raise ValueError("expected finite scales, got NaN or infinity.")
        return found

    return dict(zip(names, task.workers.map(search_input, names), strict=True))


def _search_one(
    kind: Scales, task: LayerTask, name: str, readers: list[Tensor], share: Tensor | None
) -> InputScales:
    observed, settings = task.observed, task.settings
    magnitudes = observed.magnitudes[name]
    if kind is Scales.AWQ:
        statistics = InputStatistics(observed.moments[name], magnitudes.abs_mean)
        return InputScales(awq.search_scales(readers, statistics, settings.scheme, share))
    if settings.alpha is not None:
        scales = smoothquant.scales(readers, magnitudes.abs_max, settings.alpha, share)
        return InputScales(scales, settings.alpha)
    found = smoothquant.search_alpha(
        readers, observed.samples[name], magnitudes.abs_max, settings.scheme, share
    )
    return InputScales(found.scales, found.alpha)


def scale_moment(observed: Observed, name: str, scales: Tensor) -> None:
    """The second moment of x / scales in place of that of x."""
    moment = observed.moments.get(name)
    if moment is not None:
        moment.div_(scales[:, None]).div_(scales[None, :])


@contextmanager
def named(task: LayerTask, what: str) -> Iterator[None]:
    """`ValueError` of an algorithm as `StageError` with the layer's name."""
    try:
        yield
    except ValueError as error:
        raise StageError(f"layers.{task.layer.index}: {what}: {error}") from error


def value_channels(spec: ModelSpec, device: torch.device) -> Tensor:
    """int64 [heads · head_dim]: the value feature that each input feature of `o_proj` reads."""
    heads = torch.arange(spec.num_heads, device=device) // (spec.num_heads // spec.num_kv_heads)
    features = torch.arange(spec.head_dim, device=device)
    return (heads[:, None] * spec.head_dim + features[None, :]).reshape(-1)


def fold_scales(
    spec: ModelSpec, weights: LayerWeights, scales_of: Mapping[str, Tensor]
) -> LayerWeights:
    """Multiply the scales of each input into its readers and divide what feeds them.

    qkv and gate/up are fed by a norm; o by the values (heads that share one share the scales);
    down by up. The model's function stays the same. Matrices are changed in place.
    """
    linears, biases, norms = weights.linears, dict(weights.biases), dict(weights.norms)
    for name, scales in scales_of.items():
        for role in READERS[name]:
            linears[role].mul_(scales)
        if name == "o":
            of_values = torch.empty(spec.num_kv_heads * spec.head_dim, device=scales.device)
            of_values[value_channels(spec, scales.device)] = scales
            linears["v_proj"].div_(of_values[:, None])
            if "v_proj" in biases:
                biases["v_proj"] = biases["v_proj"] / of_values
        elif name == "down":
            linears["up_proj"].div_(scales[:, None])
        else:
            norm = "input_layernorm" if name == "qkv" else "post_attention_layernorm"
            norms[norm] = norms[norm] / scales
    return LayerWeights(weights.index, linears, biases, norms)
