"""Learned rounding of a layer: where it starts, and what it is learned on.

The layer reads what the quantized layers before it give, and learns to give what the float model's
layer gives (`Propagate.BOTH`), all its linears together. The start is GPTQ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lmrun.errors import StageError
from lmrun.quant import autoround, gptq
from lmrun.quant.autoround import Examples, Learning, Multiply, Preset, Start
from lmrun.quant.gptq import Factor
from lmrun.quant.weight import QuantizedWeight
from lmrun.stages import layer_quantizer
from lmrun.stages.computing import release_memory
from lmrun.stages.decoder import INPUTS, READERS, LayerWeights
from lmrun.stages.layer_stream import Propagate
from lmrun.stages.quantize_report import ERROR_ROWS, RowFacts, role_row
from lmrun.stages.quantizing import LayerTask, Needs, QuantizedLayer, QuantSettings


@dataclass(frozen=True)
class LearnedRounding:
    """A `LayerMethod`: GPTQ, then gradients."""

    presets: Mapping[str, Preset]
    """By `quant.preset`."""

    def needs(self, settings: QuantSettings) -> Needs:
        """Second moments for the start and the report; inputs and targets."""
        return Needs(moments=True, propagate=Propagate.BOTH, keep_inputs=True)

    def quantize(self, task: LayerTask) -> QuantizedLayer:
        """Codes that are learned together. The start is kept where nothing better was found."""
        weights = task.layer.take_weights()
        linears = dict(weights.linears)
        weights = LayerWeights(weights.index, linears, weights.biases, weights.norms)
        some = {role: linears[role][:: _step(linears[role])].clone() for role in task.roles}
        dampings: dict[str, float] = {}
        starts: dict[str, Start] = {}
        for name in INPUTS:
            roles = [role for role in READERS[name] if role in some]
            if roles:
                readers = {role: linears.pop(role) for role in roles}
                with layer_quantizer.named(task, name):
                    found_starts, dampings[name] = _starts(task, name, readers)
                starts |= found_starts
                moments = task.observed.moments
                moments[name] = moments[name].bfloat16()  # for the report alone
        release_memory()
        codes = self._learn(task, weights, starts)
        report = _report(task, some, codes, dampings)
        return QuantizedLayer(codes, weights, report)

    def _learn(
        self, task: LayerTask, weights: LayerWeights, starts: Mapping[str, Start]
    ) -> dict[str, QuantizedWeight]:
        """``weights`` holds the linears that stay as they are."""
        layer, settings = task.layer, task.settings
        preset = self.presets[settings.preset]
        if settings.is_rehearsal:
            preset = replace(preset, iterations=1)

        def forward(linears: Mapping[str, Tensor], hidden: Tensor, multiply: Multiply) -> Tensor:
            all_ = {**weights.linears, **linears}
            given = LayerWeights(layer.index, all_, weights.biases, weights.norms)
            return layer.forward(given, hidden, multiply)

        learning = Learning(preset, layer.index, layer.compute)
        examples = Examples(layer.num_sequences, layer.num_tokens, layer.inputs, layer.targets)
        learned = autoround.learn(starts, forward, examples, learning, task.workers.map)
        if not learned.error < float("inf"):
            raise StageError(
                f"layers.{layer.index}: expected a finite error of the learned output, got NaN or"
                " infinity. The checkpoint overflows on the calibration text; check its weights."
            )
        return learned.codes


def _starts(
    task: LayerTask, name: str, weights: dict[str, Tensor]
) -> tuple[dict[str, Start], float]:
    """Places of linears that share an input, by GPTQ, and the damping that its Hessian got;
    ``weights`` is emptied."""
    settings = task.settings
    factor: Factor = gptq.factor(
        task.observed.moments[name], act_order=settings.act_order, damping=settings.damping
    )

    def part(role: str, rows: Tensor) -> Start:
        start = Start.gptq(rows, factor, settings.scheme)
        if not bool(torch.isfinite(start.scales).all()):
            raise ValueError(f"{role}: expected finite scales, got NaN or infinity.")
        return start

    parts = layer_quantizer.in_parts(task, weights, part)
    found = {}
    for role in list(weights):
        del weights[role]
        found[role] = Start.joined(parts.pop(role))
    return found, factor.damping


def _step(weight: Tensor) -> int:
    """The report's errors are of every so manieth output feature."""
    return -(-len(weight) // ERROR_ROWS)


def _report(
    task: LayerTask,
    some: Mapping[str, Tensor],
    codes: Mapping[str, QuantizedWeight],
    dampings: Mapping[str, float],
) -> dict[str, dict[str, object]]:
    """Rows of the report from ``some`` output features of each linear."""
    rows: dict[str, dict[str, object]] = {}
    for name, damping in dampings.items():
        facts = RowFacts(task.observed.moments.pop(name).float(), damping=damping)

        def row(role: str, facts: RowFacts = facts) -> dict[str, object]:
            every = slice(None, None, -(-len(codes[role].codes) // ERROR_ROWS))
            one = codes[role]
            part = QuantizedWeight(one.codes[every], one.scales[every], one.zeros[every], one.bits)
            return role_row(some[role], part, facts)

        roles = [role for role in READERS[name] if role in codes]
        rows |= dict(zip(roles, task.workers.map(row, roles), strict=True))
    return rows
