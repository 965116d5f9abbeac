"""Learned rounding of a layer: which codes it starts from, and what it is learned on.

The layer reads what the quantized layers before it give, and learns to give what the float model's
layer gives (`Propagate.BOTH`), all its linears together. Channel scales, if any, are searched and
folded in first; the start are codes of another method.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from lmrun.errors import StageError
from lmrun.quant import autoround
from lmrun.quant.autoround import Examples, Learning, Preset, Start
from lmrun.quant.weight import QuantizedWeight
from lmrun.stages import layer_quantizer
from lmrun.stages.decoder import INPUTS, READERS, LayerWeights
from lmrun.stages.layer_quantizer import InputScales, Rounding, Scales
from lmrun.stages.layer_stream import Propagate
from lmrun.stages.quantize_report import RowFacts, role_row
from lmrun.stages.quantizing import LayerTask, Needs, QuantizedLayer, QuantSettings

TASK_TOKENS = 1024
"""Tokens of a part of a batch that one task learns on (a sequence, where that is longer)."""


@dataclass(frozen=True)
class LearnedRounding:
    """A `LayerMethod`: scales, a start, then signed gradients."""

    scales: Scales
    start: Rounding
    presets: Mapping[str, Preset]
    """By `quant.preset`."""

    def needs(self, settings: QuantSettings) -> Needs:
        """Second moments for the start and the report; inputs and targets."""
        return Needs(
            moments=True,
            magnitudes=self.scales is not Scales.NONE,
            propagate=Propagate.BOTH,
            keep_inputs=True,
        )

    def quantize(self, task: LayerTask) -> QuantizedLayer:
        """Codes that are learned together. The start is kept where nothing better was found."""
        weights = task.layer.take_weights()
        found = layer_quantizer.search(self.scales, task, weights)
        scales = {name: one.scales for name, one in found.items()}
        weights = layer_quantizer.fold_scales(task.spec, weights, scales)
        for name, one in scales.items():
            layer_quantizer.scale_moment(task.observed, name, one)
        started, dampings = self._start(task, weights)
        learned = self._learn(task, weights, started)
        return _reported(task, weights, learned, found, dampings)

    def _start(
        self, task: LayerTask, weights: LayerWeights
    ) -> tuple[dict[str, QuantizedWeight], dict[str, float | None]]:
        """Codes by role, and the damping that the Hessian of each input got."""
        codes: dict[str, QuantizedWeight] = {}
        dampings: dict[str, float | None] = {}
        settings = replace(task.settings, mse=True)
        for name in INPUTS:
            linears = {r: weights.linears[r] for r in READERS[name] if r in task.roles}
            if not linears:
                continue
            moment = task.observed.moments[name]
            with layer_quantizer.named(task, name):
                found, dampings[name] = layer_quantizer.codes_of(
                    self.start, replace(task, settings=settings), linears, moment
                )
            codes |= found
        return codes, dampings

    def _learn(
        self, task: LayerTask, weights: LayerWeights, started: Mapping[str, QuantizedWeight]
    ) -> dict[str, QuantizedWeight]:
        layer, settings = task.layer, task.settings
        preset = self.presets[settings.preset]
        if settings.is_rehearsal:
            preset = replace(preset, iterations=1)
        starts = {role: Start.of(weights.linears[role], one) for role, one in started.items()}

        def forward(linears: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
            all_ = {**weights.linears, **linears}
            return layer.forward(
                LayerWeights(layer.index, all_, weights.biases, weights.norms), hidden
            )

        learning = Learning(
            settings.scheme,
            preset,
            settings.seed + layer.index,
            layer.compute,
            max(1, TASK_TOKENS // layer.num_tokens),
        )
        examples = Examples(layer.num_sequences, layer.inputs, layer.targets)
        learned = autoround.learn(starts, forward, examples, learning, task.workers.map)
        if not learned.error < float("inf"):
            raise StageError(
                f"layers.{layer.index}: expected a finite error of the learned output, got NaN or"
                " infinity. The checkpoint overflows on the calibration text; check its weights."
            )
        return learned.codes


def _reported(
    task: LayerTask,
    weights: LayerWeights,
    codes: Mapping[str, QuantizedWeight],
    found: Mapping[str, InputScales],
    dampings: Mapping[str, float | None],
) -> QuantizedLayer:
    rows: dict[str, dict[str, object]] = {}
    for name, damping in dampings.items():
        scales = found.get(name)
        facts = RowFacts(
            task.observed.moments.pop(name),
            channel_scales=scales.scales if scales else None,
            damping=damping,
        )
        roles = [role for role in READERS[name] if role in codes]
        places = [(weights.linears[role], codes[role], facts) for role in roles]
        rows |= dict(zip(roles, task.workers.map(lambda one: role_row(*one), places), strict=True))
    kept = {role: one for role, one in weights.linears.items() if role not in codes}
    weights = LayerWeights(weights.index, kept, weights.biases, weights.norms)
    return QuantizedLayer(codes, weights, rows)
