"""Learned rounding: signed gradients on which way each weight rounds and how far each range goes.

Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent for the Quantization of LLMs",
arXiv 2309.05516 (AutoRound). A weight w becomes s (clamp(round(w / s + v) + z, 0, top) - z); the
offset v in [-1/2, 1/2] of each weight and the factors of both ends of each group's range are
learned so that a decoder layer's output comes close to a target, all linears of the layer together.
Rounding passes gradients straight through; a step is the gradient's sign times a rate that falls
linearly to zero. The gradient of the codes is written out by hand, some rows at a time, so that no
temporary is larger than a core's cache; autograd sees the layer's own operations alone.

Everything is drawn from the seed and summed in a fixed order: the same inputs give the same codes
on the same numeric class, however many tasks run at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lmrun.quant.rtn import LARGEST_SCALE, SMALLEST_SCALE
from lmrun.quant.weight import QuantizedWeight, Scheme

CHUNK_WEIGHTS = 1 << 17
"""Weights whose codes or gradients are worked on at a time on a CPU."""
CHECK_EVERY = 16
"""One of so many sequences is not learned on: it says which iterate is the best."""
CHECKS = (0.0, 0.5, 0.75, 1.0)
"""Shares of the iterations after which an iterate is looked at; the first is the start."""

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Output of a layer for weights by role and an input [batch, tokens, hidden]; differentiable."""


class Mapper(Protocol):
    """Runs tasks, maybe several at once; results in the order of the tasks."""

    def __call__(
        self, function: Callable[[Any], Any], tasks: Iterable[Any], /
    ) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Preset:
    """How long is learned, and how fast."""

    iterations: int
    sequences: int
    """Sequences that a step looks at."""
    rate: float
    """Of the offsets in the first step, times the iterations: what an offset may move in all is
    half of it."""
    range_rate: float
    """Of the ranges' factors, likewise."""


PRESETS = {
    "light": Preset(iterations=50, sequences=8, rate=2.0, range_rate=0.1),
    "best": Preset(iterations=200, sequences=8, rate=2.0, range_rate=0.1),
}


@dataclass(frozen=True)
class Learning:
    """What decides about the codes beside weights and examples."""

    scheme: Scheme
    preset: Preset
    seed: int
    compute: torch.dtype = torch.float32
    """In which the weights are given to `Forward`; what is learned is float32."""
    task_sequences: int = 1
    """Sequences of a task: part of what decides the bytes."""


@dataclass(frozen=True)
class Examples:
    """What a layer is learned on."""

    count: int
    """Sequences."""
    inputs: Callable[[Sequence[int]], Tensor]
    """[batch, tokens, hidden] of some sequences: what the layer will read."""
    targets: Callable[[Sequence[int]], Tensor]
    """[batch, tokens, hidden]: what it should give."""


@dataclass(frozen=True)
class Start:
    """Where the learning of one linear begins."""

    weight: Tensor
    """float32 [N, K]: rounded to nearest before anything is learned."""
    low: Tensor
    """float32 [N, groups]: lower end of each group's range, at most 0."""
    high: Tensor
    """Upper end, at least 0; minus `low` where the scheme is symmetric."""

    @classmethod
    def of(cls, weight: Tensor, codes: QuantizedWeight) -> "Start":
        """Begins with given codes: each weight is moved to the nearest value that rounds so."""
        n, groups = codes.scales.shape
        scale, zero = codes.scales.float(), codes.zeros.float()
        middle = codes.dequantize()
        reach = (scale * INSIDE)[:, :, None]
        moved = (weight - middle).view(n, groups, -1)
        moved = torch.minimum(torch.maximum(moved, -reach), reach)
        top = 2**codes.bits - 1
        return cls(middle.add_(moved.view(weight.shape)), -zero * scale, (top - zero) * scale)


INSIDE = 0.49
"""Of a step: how far from its code's value a weight may lie that still rounds to it."""


@dataclass(frozen=True)
class Learned:
    """What `learn` found."""

    codes: dict[str, QuantizedWeight]
    first_error: float
    """Mean squared error of the layer's output on the sequences that are not learned on: before."""
    error: float
    """And of the codes that are given back, which is the least that was seen."""


def learn(
    starts: Mapping[str, Start],
    forward: Forward,
    examples: Examples,
    learning: Learning,
    run: Mapper = map,
) -> Learned:
    """Codes by role of the linears of one layer, learned together.

    ``run`` spreads tasks (parts of a batch, rows of a matrix) over threads.
    """
    learner = _Learner(starts, forward, examples, learning, run)
    checks = {round(share * learning.preset.iterations) for share in CHECKS}
    best = first = learner.error()
    codes = learner.codes()
    for step in range(learning.preset.iterations):
        learner.step(step)
        if step + 1 in checks and (error := learner.error()) < best:
            best, codes = error, learner.codes()
    return Learned(codes, first, best)


class _Learner:
    """The linears of a layer while they are learned."""

    def __init__(
        self,
        starts: Mapping[str, Start],
        forward: Forward,
        examples: Examples,
        learning: Learning,
        run: Mapper,
    ) -> None:
        self._forward, self._examples, self._run = forward, examples, run
        self._preset, self._task = learning.preset, learning.task_sequences
        self._linears = {
            role: _Linear(start, learning.scheme, learning.compute)
            for role, start in starts.items()
        }
        self._weights = {role: one.leaf for role, one in self._linears.items()}
        self._parts = [(one, rows) for one in self._linears.values() for rows in one.chunks()]
        for _ in run(lambda part: part[0].round(part[1]), self._parts):
            pass
        for leaf in self._weights.values():
            leaf.requires_grad_()
        every = range(examples.count)
        held = examples.count >= 2 * CHECK_EVERY
        self._checked = list(every[CHECK_EVERY - 1 :: CHECK_EVERY] if held else every)
        learned = [one for one in every if one not in self._checked] if held else list(every)
        self._order = _Order(learned, learning.seed)

    def error(self) -> float:
        """Mean squared error of the output on the sequences of the checks."""

        def part(chosen: list[int]) -> float:
            difference = self._forward(self._weights, self._examples.inputs(chosen)).float()
            return float(difference.sub_(self._examples.targets(chosen)).square().mean().double())

        with torch.no_grad():
            errors: list[float] = list(self._run(part, [[one] for one in self._checked]))
        return sum(errors) / len(errors)

    def codes(self) -> dict[str, QuantizedWeight]:
        """Those of the iterate."""
        return {role: one.quantized() for role, one in self._linears.items()}

    def step(self, number: int) -> None:
        """One step along the signs of the gradient of a batch."""
        preset = self._preset
        chosen = self._order.take(min(preset.sequences, len(self._order)))
        tasks = [chosen[i : i + self._task] for i in range(0, len(chosen), self._task)]
        total: list[Tensor] | None = None
        for found in self._run(self._gradients, tasks):
            if total is None:
                total = list(found)
            else:
                for one, other in zip(total, found, strict=True):
                    one.add_(other)
        assert total is not None
        gradients = dict(zip(self._linears.values(), total, strict=True))
        left = (1 - number / preset.iterations) / preset.iterations
        rates = (preset.rate * left, preset.range_rate * left)

        def update(part: tuple[_Linear, slice]) -> None:
            linear, rows = part
            linear.update(rows, gradients[linear][rows].float(), *rates)
            linear.round(rows)

        with torch.no_grad():
            for _ in self._run(update, self._parts):
                pass

    def _gradients(self, chosen: list[int]) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            output = self._forward(self._weights, self._examples.inputs(chosen))
            difference = output.float() - self._examples.targets(chosen)
            loss = difference.square().sum() / len(chosen)
            return torch.autograd.grad(loss, list(self._weights.values()))


class _Order:
    """Sequences in random order, each once before any comes again."""

    def __init__(self, sequences: list[int], seed: int) -> None:
        self._sequences = sequences
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[int] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def take(self, number: int) -> list[int]:
        while len(self._waiting) < number:
            order = torch.randperm(len(self._sequences), generator=self._generator).tolist()
            self._waiting += [self._sequences[place] for place in order]
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken


class _Linear:
    """The learned state of one linear [N, K], and its weights as they are rounded now."""

    def __init__(self, start: Start, scheme: Scheme, compute: torch.dtype) -> None:
        self._top = scheme.top
        self._middle = scheme.middle if scheme.symmetric else None
        self._weight = start.weight
        self._low, self._high = start.low, start.high
        self._offset = torch.zeros_like(start.weight, dtype=torch.float16)
        self._low_factor = torch.ones_like(start.low)
        self._high_factor = torch.ones_like(start.high)
        self._width = scheme.width(start.weight.shape[1])
        self.leaf = torch.empty_like(start.weight, dtype=compute)

    def chunks(self) -> list[slice]:
        """Rows that are worked on at a time."""
        n, k = self._weight.shape
        step = max(1, CHUNK_WEIGHTS // k) if self._weight.device.type == "cpu" else n
        return [slice(i, i + step) for i in range(0, n, step)]

    def round(self, rows: slice) -> None:
        """Bring rows of `leaf` up to date."""
        scale, zero = self._grid(rows)
        codes = self._codes(rows, scale, zero).clamp_(0, self._top)
        self.leaf.data[rows] = codes.sub_(zero).mul_(scale).flatten(1)

    def quantized(self) -> QuantizedWeight:
        """What is stored."""
        codes = torch.empty_like(self._weight, dtype=torch.uint8)
        scales = torch.empty_like(self._low, dtype=torch.float16)
        zeros = torch.empty_like(scales, dtype=torch.uint8)
        for rows in self.chunks():
            scale, zero = self._grid(rows)
            codes[rows] = self._codes(rows, scale, zero).clamp_(0, self._top).flatten(1)
            scales[rows], zeros[rows] = scale[:, :, 0], zero[:, :, 0]
        bits = (self._top + 1).bit_length() - 1
        return QuantizedWeight(codes, scales, zeros, bits)

    def update(self, rows: slice, gradient: Tensor, rate: float, range_rate: float) -> None:
        """One step of some rows; ``gradient`` is that of their rounded weights.

        With c the code and w' = s (c - z): dw'/ds = c - z - inside w / s, dw'/dz = -s outside, and
        dw'/dv = s inside, where inside is 1 for a code that is not clamped.
        """
        scale, zero = self._grid(rows)
        codes = self._codes(rows, scale, zero)
        gradient = gradient.view(codes.shape)
        clamped = codes.clamp(0, self._top)
        inside = codes.eq_(clamped)
        passed = gradient * inside
        if range_rate:
            ratio = self._weight[rows].view(codes.shape) / scale
            centred = clamped.sub_(zero).sub_(ratio.mul_(inside))
            of_scale = centred.mul_(gradient).sum(2)
            of_zero = (passed.sum(2) - gradient.sum(2)).mul_(scale[:, :, 0])
            self._update_range(rows, of_scale, of_zero, range_rate)
        offset = self._offset[rows]
        moved = passed.sign_().mul_(-rate).flatten(1).add_(offset)
        offset.copy_(moved.clamp_(-0.5, 0.5))

    def _update_range(self, rows: slice, of_scale: Tensor, of_zero: Tensor, rate: float) -> None:
        low, high = self._low[rows], self._high[rows]
        low_factor, high_factor = self._low_factor[rows], self._high_factor[rows]
        if self._middle is not None:
            high_factor.sub_(of_scale.sign_().mul_(rate)).clamp_(min=0)
            low_factor.copy_(high_factor)
            return
        end = low * low_factor
        scale = ((high * high_factor - end) / self._top).clamp_(SMALLEST_SCALE, LARGEST_SCALE)
        of_zero = of_zero / scale
        share = of_scale.add_(of_zero * end / scale)
        of_low = -low * (share + of_zero * self._top)
        low_factor.sub_(of_low.sign_().mul_(rate)).clamp_(min=0)
        high_factor.sub_((share * high).sign_().mul_(rate)).clamp_(min=0)

    def _grid(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Scale and zero point [rows, groups, 1], both as they are stored."""
        low = self._low[rows] * self._low_factor[rows]
        high = self._high[rows] * self._high_factor[rows]
        scale = ((high - low) / self._top).clamp_(SMALLEST_SCALE, LARGEST_SCALE).half().float()
        if self._middle is not None:
            zero = torch.full_like(scale, self._middle)
        else:
            zero = (-low / scale).round_().clamp_(0, self._top)
        return scale[:, :, None], zero[:, :, None]

    def _codes(self, rows: slice, scale: Tensor, zero: Tensor) -> Tensor:
        """float32 [rows, groups, width], before they are clamped to 0 … top."""
        shape = (*scale.shape[:2], self._width)
        codes = self._weight[rows].view(shape) / scale
        return codes.add_(self._offset[rows].view(shape)).round_().add_(zero)
