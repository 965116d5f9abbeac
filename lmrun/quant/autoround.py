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
does not depend on. A weight is read once in a forward pass, so its gradient is made in parts on the
way back (`_Product`), moves the places, which are rounded again, and is gone: no gradient of a
whole matrix is ever held. Everything is drawn from the seed and summed in a fixed order: the same
inputs give the same codes on the same numeric class, however many tasks run at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lmrun.quant import gptq
from lmrun.quant.gptq import Factor
from lmrun.quant.weight import QuantizedWeight, Scheme

CHUNK_WEIGHTS = 1 << 17
"""Weights that are rounded or moved at a time on a CPU."""
CHECK_EVERY = 16
"""One of so many sequences is not learned on: it says which iterate is the best."""
CHECKS = (0.5, 1.0)
"""Shares of the iterations after which an iterate is compared with the start. A layer is not given
up early: the first of tinystories-656k is no better than its start after a quarter of the steps,
and 16 % better at the end."""
PART_TOKENS = 256
"""Tokens of a product that are one task."""
PART_WEIGHTS = 1 << 19
"""Weights whose gradient is one task."""
PLACES_A_CODE = 4096
"""Places between two codes of 4 bits, which 16 bits hold so: a step is 50 of them at first."""
MEAN_DECAY, SQUARE_DECAY = 0.8, 0.95
"""What is left of the means of gradients and of their squares after a step."""
SMALLEST_SQUARE = 1e-30
MARGIN = 0.49
"""Of a step: how far beyond the first or the last code a place may lie."""

Multiply = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]
"""The linear of a role: x [..., K] · weight [N, K]ᵀ, and its bias."""
Forward = Callable[[Mapping[str, Tensor], Tensor, Multiply], Tensor]
"""Output of a layer for weights by role and an input [batch, tokens, hidden]; reads each weight
once, by what it is given, and is differentiable where that is."""


class Mapper(Protocol):
    """Runs tasks, maybe several at once; results in the order of the tasks."""

    def __call__(
        self, function: Callable[[Any], Any], tasks: Iterable[Any], /
    ) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Preset:
    """How long is learned, and how fast."""

    iterations: int
    tokens: int
    """Tokens that a step looks at: as many sequences as they make, one at least."""
    rate: float
    """Of the first step in code units, times the iterations; it falls linearly to zero. A place
    moves by about half of it at most."""


PRESETS = {
    "light": Preset(iterations=40, tokens=512, rate=0.5),
    "best": Preset(iterations=100, tokens=1024, rate=0.5),
}


@dataclass(frozen=True)
class Learning:
    """What decides about the codes beside weights and examples."""

    preset: Preset
    seed: int
    compute: torch.dtype = torch.float32
    """In which the weights are given to `Forward`."""


@dataclass(frozen=True)
class Examples:
    """What a layer is learned on."""

    count: int
    """Sequences."""
    num_tokens: int
    """Of each."""
    inputs: Callable[[Sequence[int]], Tensor]
    """[batch, tokens, hidden] of some sequences: what the layer will read."""
    targets: Callable[[Sequence[int]], Tensor]
    """[batch, tokens, hidden]: what it should give."""


@dataclass(frozen=True)
class Start:
    """Where the learning of one linear begins, and the grid that it stays on."""

    stored: Tensor
    """[N, K]: the place of each weight in code units. Of 4 bits int16, `PLACES_A_CODE` of them
    between two codes (half of the memory), of 8 float32."""
    scales: Tensor
    """float16 or float32 [N, groups]."""
    zeros: Tensor
    """uint8 [N, groups]."""
    bits: int

    @classmethod
    def nearest(cls, weight: Tensor, grid: QuantizedWeight) -> "Start":
        """Places of weights [N, K] on the grid of ``grid``, whose codes do not matter."""
        grouped = weight.view(*grid.scales.shape, -1) / grid.scales.float()[:, :, None]
        grouped += grid.zeros.float()[:, :, None]
        kind = torch.int16 if grid.bits == 4 else torch.float32
        stored = torch.empty(weight.shape, dtype=kind, device=weight.device)
        start = cls(stored, grid.scales, grid.zeros, grid.bits)
        start.put(slice(None), grouped.view(weight.shape))
        return start

    @classmethod
    def gptq(cls, weight: Tensor, factor: Factor, scheme: Scheme) -> "Start":
        """Places at which GPTQ rounds weights [N, K]: what it made of each weight by the errors of
        the features before it."""
        codes, targets = gptq.quantize_with_targets(weight, factor, scheme)
        return cls.nearest(targets, codes)

    @classmethod
    def joined(cls, parts: Sequence["Start"]) -> "Start":
        """Rows of one matrix, put together."""
        return cls(
            torch.cat([one.stored for one in parts]),
            torch.cat([one.scales for one in parts]),
            torch.cat([one.zeros for one in parts]),
            parts[0].bits,
        )

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    def places(self, rows: slice = slice(None)) -> Tensor:
        """float32 of some rows, in code units: their nearest integers in 0 … top are the codes."""
        stored = self.stored[rows]
        if stored.dtype is torch.float32:
            return stored
        return stored.float().add_(0.5).div_(PLACES_A_CODE).add_(self.top / 2)

    def put(self, rows: slice, places: Tensor) -> None:
        """Places of some rows, which are changed: kept within the codes. No one changes sides of
        the middle between two codes by being stored."""
        places.clamp_(-MARGIN, self.top + MARGIN)
        if self.stored.dtype is not torch.float32:
            places.sub_(self.top / 2).mul_(PLACES_A_CODE).floor_()
        self.stored[rows] = places

    def codes(self, rows: slice = slice(None)) -> Tensor:
        """float32 integers of some rows."""
        return self.places(rows).round().clamp_(0, self.top)


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
    """Codes by role of the linears of one layer, learned together; ``starts`` are changed.

    ``run`` spreads tasks (sequences, tokens of a product, rows of a matrix) over threads.
    """
    learner = _Learner(starts, forward, examples, learning, run)
    iterations = learning.preset.iterations
    checks = {round(share * iterations) for share in CHECKS}
    best = first = learner.error()
    codes = learner.codes()
    for step in range(iterations):
        learner.step(step)
        if step + 1 in checks and (error := learner.error()) < best:
            best = error
            codes.clear()  # before there are others
            codes = learner.codes()
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
        self._preset = learning.preset
        self._linears = {
            role: _Linear(start, learning.compute, run) for role, start in starts.items()
        }
        self._weights = {role: one.leaf for role, one in self._linears.items()}
        parts = [(one, rows) for one in self._linears.values() for rows in one.parts()]
        for _ in run(lambda part: part[0].round(part[1]), parts):
            pass
        every = list(range(examples.count))
        self._checked, learned = every, every
        if examples.count >= 2 * CHECK_EVERY:
            self._checked = every[CHECK_EVERY - 1 :: CHECK_EVERY]
            learned = [one for one in every if one not in self._checked]
        self._order = _Order(learned, learning.seed)
        wanted = max(1, self._preset.tokens // examples.num_tokens)
        self._sequences = min(wanted, len(learned))

    def error(self) -> float:
        """Relative squared error of the output, the mean over the tokens of the checks."""

        def part(chosen: list[int]) -> float:
            with torch.no_grad():
                output = self._forward(self._weights, self._examples.inputs(chosen), _linear)
                return float(_relative_error(output, self._examples.targets(chosen)).double())

        errors: list[float] = list(self._run(part, [[one] for one in self._checked]))
        return sum(errors) / len(errors)

    def codes(self) -> dict[str, QuantizedWeight]:
        """Those of the iterate."""
        return {role: one.quantized() for role, one in self._linears.items()}

    def step(self, number: int) -> None:
        """One step along the gradient of a batch."""
        chosen = self._order.take(self._sequences)
        iterations = self._preset.iterations
        rate = self._preset.rate * (1 - number / iterations) / iterations
        way_back = torch.zeros((), requires_grad=True)

        def multiply(role: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            if role not in self._linears:
                return F.linear(x, weight, bias)
            step = _Step(self._linears[role], number + 1, rate)
            product: Tensor = _Product.apply(x, way_back, step)  # type: ignore[no-untyped-call]
            return product if bias is None else product + bias

        with torch.enable_grad():
            output = self._forward(self._weights, self._examples.inputs(chosen), multiply)
            _relative_error(output, self._examples.targets(chosen)).backward()  # type: ignore[no-untyped-call]


def _linear(_role: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, bias)


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

    def take(self, number: int) -> list[int]:
        while len(self._waiting) < number:
            drawn = torch.randperm(len(self._sequences), generator=self._generator, device="cpu")
            self._waiting += [self._sequences[place] for place in drawn.tolist()]
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken


class _Linear:
    """The places of one linear [N, K], and its weights as they are rounded now."""

    def __init__(self, start: Start, compute: torch.dtype, run: Mapper) -> None:
        self._start, self._run = start, run
        self._mean = torch.zeros_like(start.stored, dtype=torch.bfloat16)
        self._square = torch.zeros_like(self._mean)
        self.leaf = torch.empty_like(start.stored, dtype=compute)

    def parts(self) -> list[slice]:
        """Rows that are one task."""
        return self._slices(slice(0, len(self.leaf)), PART_WEIGHTS)

    def multiply(self, x: Tensor) -> Tensor:
        """x [tokens, K] · weightᵀ."""
        return self._product(x, self.leaf.T)

    def multiply_back(self, gradient: Tensor) -> Tensor:
        """Gradient [tokens, N] · weight."""
        return self._product(gradient, self.leaf)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        product = torch.empty((len(left), right.shape[1]), dtype=left.dtype, device=left.device)
        step = PART_TOKENS if left.device.type == "cpu" else max(1, len(left))

        def part(start: int) -> None:
            tokens = slice(start, start + step)
            with torch.no_grad():
                torch.mm(left[tokens], right, out=product[tokens])

        for _ in self._run(part, range(0, len(left), step)):
            pass
        return product

    def learn(self, x: Tensor, gradient: Tensor, number: int, rate: float) -> None:
        """Step ``number`` (from 1), by the input [tokens, K] and the gradient of the output
        [tokens, N]."""

        def part(rows: slice) -> None:
            with torch.no_grad():
                of_weights = torch.mm(gradient[:, rows].T, x)
            for some in self._slices(rows, CHUNK_WEIGHTS):
                own = slice(some.start - rows.start, some.stop - rows.start)
                self._move(some, of_weights[own], number, rate)
                self.round(some)

        for _ in self._run(part, self.parts()):
            pass

    def _slices(self, rows: slice, weights: int) -> list[slice]:
        step = max(1, weights // self.leaf.shape[1])
        if self.leaf.device.type != "cpu":
            return [rows]
        starts = range(rows.start, rows.stop, step)
        return [slice(start, min(start + step, rows.stop)) for start in starts]

    def round(self, rows: slice) -> None:
        """Bring rows of `leaf` up to date."""
        scale = self._start.scales[rows].float()[:, :, None]
        codes = self._start.codes(rows).view(*scale.shape[:2], -1)
        codes -= self._start.zeros[rows].float()[:, :, None]
        self.leaf[rows] = codes.mul_(scale).flatten(1)

    def _move(self, rows: slice, gradient: Tensor, number: int, rate: float) -> None:
        """``gradient`` is that of the rounded weights of some rows."""
        gradient = gradient.float()
        mean = self._mean[rows].float().lerp_(gradient, 1 - MEAN_DECAY)
        square = self._square[rows].float().lerp_(gradient.square(), 1 - SQUARE_DECAY)
        self._mean[rows], self._square[rows] = mean, square
        size = rate * (1 - SQUARE_DECAY**number) ** 0.5 / (1 - MEAN_DECAY**number)
        places = self._start.places(rows)
        places.addcdiv_(mean, square.add_(SMALLEST_SQUARE).sqrt_(), value=-size)
        self._start.put(rows, places)

    def quantized(self) -> QuantizedWeight:
        """What is stored."""
        start = self._start
        codes = torch.empty_like(start.stored, dtype=torch.uint8)
        for rows in self.parts():
            codes[rows] = start.codes(rows)
        return QuantizedWeight(codes, start.scales.half(), start.zeros, start.bits)


@dataclass(frozen=True)
class _Step:
    """What the way back does with a linear."""

    linear: _Linear
    number: int
    rate: float


class _Product(torch.autograd.Function):
    """x [..., K] · weightᵀ; on the way back the gradient of x is made, then the weight learns.

    ``way_back`` is a number that asks for a gradient, so that there is a way back where x does
    not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, way_back: Tensor, step: _Step) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.step = step
        return step.linear.multiply(x.flatten(0, -2)).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:  # noqa: ANN401
        (x,), step = ctx.saved_tensors, ctx.step
        rows = gradient.flatten(0, -2)
        back = None
        if ctx.needs_input_grad[0]:
            back = step.linear.multiply_back(rows).view(*gradient.shape[:-1], -1)
        step.linear.learn(x.flatten(0, -2), rows, step.number, step.rate)
        return back, None, None
