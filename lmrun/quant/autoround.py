"""Learned rounding: gradients decide which way each weight rounds.

Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent for the Quantization of LLMs",
arXiv 2309.05516 (AutoRound): every weight has a place on its group's grid, w / s + z + v, which is
rounded to a code, and the offset v is learned so that a decoder layer's output comes close to a
target, all linears of the layer together. Rounding passes gradients straight through.

Five things differ from the paper (`lmrun/quant/README.md` says what was measured of each). Places
begin where GPTQ put the weights when it rounded them, so that less text reaches a lower error. A
step is the mean of the last gradients over their root mean square (Adam: Kingma and Ba,
arXiv 1412.6980), not their sign: a weight whose code only swings to and fro stands still. Ranges
are searched, not learned: steps of one size for all groups are noise for most. The error of a token
counts relative to its target's size, since a norm reads it next: trained models have a first token
a hundred times as large as others, which would decide alone. And the best iterate is chosen on
sequences that are not learned on.

The gradient of a place is that of the rounded weight, up to the scale of its group, which the step
does not depend on: so a step is one pass over the places, a few rows at a time, and autograd sees
the layer's own operations alone. Everything is drawn from the seed and summed in a fixed order: the
same inputs give the same codes on the same numeric class, however many tasks run at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lmrun.quant.gptq import Factor
from lmrun.quant.weight import QuantizedWeight

CHUNK_WEIGHTS = 1 << 17
"""Weights that are rounded or moved at a time on a CPU."""
CHECK_EVERY = 16
"""One of so many sequences is not learned on: it says which iterate is the best."""
CHECKS = (0.5, 1.0)
"""Shares of the iterations after which an iterate is compared with the start."""
MEAN_DECAY, SQUARE_DECAY = 0.8, 0.95
"""What is left of the means of gradients and of their squares after a step."""
SMALLEST_SQUARE = 1e-30
MARGIN = 0.49
"""Of a step: how far beyond the first or the last code a place may lie."""

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
    """Of the first step in code units, times the iterations; it falls linearly to zero. A place
    moves by about half of it at most."""


PRESETS = {
    "light": Preset(iterations=40, sequences=2, rate=0.5),
    "best": Preset(iterations=100, sequences=4, rate=0.5),
}


@dataclass(frozen=True)
class Learning:
    """What decides about the codes beside weights and examples."""

    bits: int
    preset: Preset
    seed: int
    compute: torch.dtype = torch.float32
    """In which the weights are given to `Forward`; places are float32."""
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
    """Where the learning of one linear begins, and the grid that it stays on."""

    places: Tensor
    """float32 [N, K], in code units: their nearest integers in 0 … top are the codes. `learn`
    changes them."""
    scales: Tensor
    """float16 or float32 [N, groups]."""
    zeros: Tensor
    """uint8 [N, groups]."""

    @classmethod
    def nearest(cls, weight: Tensor, grid: QuantizedWeight) -> "Start":
        """Places of weights [N, K] on the grid of ``grid``, whose codes do not matter."""
        grouped = weight.view(*grid.scales.shape, -1) / grid.scales.float()[:, :, None]
        grouped += grid.zeros.float()[:, :, None]
        top = 2**grid.bits - 1
        places = grouped.clamp_(-MARGIN, top + MARGIN).view(weight.shape)
        return cls(places, grid.scales, grid.zeros)

    @classmethod
    def gptq(cls, weight: Tensor, codes: QuantizedWeight, factor: Factor) -> "Start":
        """Places at which GPTQ, solving with ``factor``, rounded weights [N, K] to ``codes``: what
        it had made of each weight by the errors of the features before it."""
        order = factor.order
        change = codes.dequantize().sub_(weight)[:, order]
        wanted = weight[:, order].add_(change).addmm_(change, factor.feedback, alpha=-1)
        moved = torch.empty_like(wanted)
        moved[:, order] = wanted
        return cls.nearest(moved, codes)

    @classmethod
    def joined(cls, parts: Sequence["Start"]) -> "Start":
        """Rows of one matrix, put together."""
        return cls(
            torch.cat([one.places for one in parts]),
            torch.cat([one.scales for one in parts]),
            torch.cat([one.zeros for one in parts]),
        )


@dataclass(frozen=True)
class Learned:
    """What `learn` found."""

    codes: dict[str, QuantizedWeight]
    first_error: float
    """Relative squared error of the layer's output, the mean over the tokens of the checks: of the
    start."""
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
            role: _Linear(start, learning.bits, learning.compute) for role, start in starts.items()
        }
        self._weights = {role: one.leaf for role, one in self._linears.items()}
        self._parts = [(one, rows) for one in self._linears.values() for rows in one.chunks()]
        for _ in run(lambda part: part[0].round(part[1]), self._parts):
            pass
        for leaf in self._weights.values():
            leaf.requires_grad_()
        every = list(range(examples.count))
        self._checked, learned = every, every
        if examples.count >= 2 * CHECK_EVERY:
            self._checked = every[CHECK_EVERY - 1 :: CHECK_EVERY]
            learned = [one for one in every if one not in self._checked]
        self._order = _Order(learned, learning.seed)

    def error(self) -> float:
        """Relative squared error of the output, the mean over the tokens of the checks."""

        def part(chosen: list[int]) -> float:
            with torch.no_grad():
                output = self._forward(self._weights, self._examples.inputs(chosen))
                return float(_relative_error(output, self._examples.targets(chosen)).double())

        errors: list[float] = list(self._run(part, [[one] for one in self._checked]))
        return sum(errors) / len(errors)

    def codes(self) -> dict[str, QuantizedWeight]:
        """Those of the iterate."""
        return {role: one.quantized() for role, one in self._linears.items()}

    def step(self, number: int) -> None:
        """One step along the gradient of a batch."""
        preset = self._preset
        chosen = self._order.take(min(preset.sequences, len(self._order)))
        tasks = [chosen[i : i + self._task] for i in range(0, len(chosen), self._task)]
        total: list[Tensor] = []
        for found in self._run(self._gradients, tasks):
            if total:
                for one, other in zip(total, found, strict=True):
                    one.add_(other)
            else:
                total = list(found)
        gradients = dict(zip(self._linears.values(), total, strict=True))
        rate = preset.rate * (1 - number / preset.iterations) / preset.iterations

        def move(part: tuple[_Linear, slice]) -> None:
            linear, rows = part
            linear.move(rows, gradients[linear][rows], number + 1, rate)
            linear.round(rows)

        for _ in self._run(move, self._parts):
            pass

    def _gradients(self, chosen: list[int]) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            output = self._forward(self._weights, self._examples.inputs(chosen))
            error = _relative_error(output, self._examples.targets(chosen))
            return torch.autograd.grad(error * len(chosen), list(self._weights.values()))


def _relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean over tokens of the squared error over the squared size of the target."""
    size = target.square().mean(-1).clamp_(min=SMALLEST_SQUARE)
    return ((output.float() - target).square().mean(-1) / size).mean()


class _Order:
    """Sequences in random order, each once before any comes again."""

    def __init__(self, sequences: list[int], seed: int) -> None:
        self._sequences = sequences
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self._waiting: list[int] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def take(self, number: int) -> list[int]:
        while len(self._waiting) < number:
            drawn = torch.randperm(len(self._sequences), generator=self._generator, device="cpu")
            self._waiting += [self._sequences[place] for place in drawn.tolist()]
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken


class _Linear:
    """The places of one linear [N, K], and its weights as they are rounded now; no method records
    anything for autograd."""

    def __init__(self, start: Start, bits: int, compute: torch.dtype) -> None:
        self._start, self._bits = start, bits
        self._top = 2**bits - 1
        self._mean = torch.zeros_like(start.places, dtype=torch.bfloat16)
        self._square = torch.zeros_like(self._mean)
        self.leaf = torch.empty_like(start.places, dtype=compute)

    def chunks(self) -> list[slice]:
        """Rows that are worked on at a time."""
        n, k = self.leaf.shape
        step = max(1, CHUNK_WEIGHTS // k) if self.leaf.device.type == "cpu" else n
        return [slice(i, i + step) for i in range(0, n, step)]

    def round(self, rows: slice) -> None:
        """Bring rows of `leaf` up to date."""
        scale = self._start.scales[rows].float()[:, :, None]
        codes = self._start.places[rows].round().clamp_(0, self._top).view(*scale.shape[:2], -1)
        codes -= self._start.zeros[rows].float()[:, :, None]
        self.leaf.data[rows] = codes.mul_(scale).flatten(1)

    def move(self, rows: slice, gradient: Tensor, number: int, rate: float) -> None:
        """Step ``number`` (from 1) of some rows; ``gradient`` is that of their rounded weights."""
        gradient = gradient.float()
        mean = self._mean[rows].float().lerp_(gradient, 1 - MEAN_DECAY)
        square = self._square[rows].float().lerp_(gradient.square_(), 1 - SQUARE_DECAY)
        self._mean[rows], self._square[rows] = mean, square
        size = rate * (1 - SQUARE_DECAY**number) ** 0.5 / (1 - MEAN_DECAY**number)
        places = self._start.places[rows]
        places.addcdiv_(mean, square.add_(SMALLEST_SQUARE).sqrt_(), value=-size)
        places.clamp_(-MARGIN, self._top + MARGIN)

    def quantized(self) -> QuantizedWeight:
        """What is stored."""
        start = self._start
        codes = torch.empty_like(start.places, dtype=torch.uint8)
        for rows in self.chunks():
            codes[rows] = start.places[rows].round().clamp_(0, self._top)
        return QuantizedWeight(codes, start.scales.half(), start.zeros, self._bits)
