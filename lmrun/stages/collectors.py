"""What is gathered while a layer runs over the calibration text (`layer_stream.Collector`)."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lmrun.stages.decoder import INPUTS, LayerTrace
from lmrun.stages.workers import Workers

TILE = 512
"""Features a side of the tiles that second moments are added up in."""


@dataclass(frozen=True)
class InputMagnitudes:
    """Of one input of K features, over all tokens: float32 [K] each."""

    abs_mean: Tensor
    abs_max: Tensor
    square_sum: Tensor


class Magnitudes:
    """`InputMagnitudes` of each of `INPUTS`."""

    def __init__(self) -> None:
        self._tokens = 0
        self._abs_sum: dict[str, Tensor] = {}
        self._abs_max: dict[str, Tensor] = {}
        self._square_sum: dict[str, Tensor] = {}

    def of(self, trace: LayerTrace) -> tuple[int, Mapping[str, InputMagnitudes]]:
        """Sums of a batch (``abs_mean`` is a sum here)."""
        found = {}
        for name, x in trace.inputs.items():
            rows = x.flatten(0, 1).float()
            square_sum = rows.square().sum(0)
            magnitudes = rows.abs()
            found[name] = InputMagnitudes(magnitudes.sum(0), magnitudes.amax(0), square_sum)
        return trace.hidden.shape[0] * trace.hidden.shape[1], found

    def add(self, found: tuple[int, Mapping[str, InputMagnitudes]]) -> None:
        """In float64, in the order of the batches."""
        tokens, of_inputs = found
        self._tokens += tokens
        for name, one in of_inputs.items():
            if name in self._abs_max:
                self._abs_sum[name] += one.abs_mean
                self._square_sum[name] += one.square_sum
                self._abs_max[name] = torch.maximum(self._abs_max[name], one.abs_max)
            else:
                self._abs_sum[name] = one.abs_mean.double()
                self._square_sum[name] = one.square_sum.double()
                self._abs_max[name] = one.abs_max

    def result(self) -> dict[str, InputMagnitudes]:
        """By `INPUTS`."""
        return {
            name: InputMagnitudes(
                (self._abs_sum[name] / self._tokens).float(),
                self._abs_max[name],
                self._square_sum[name].float(),
            )
            for name in self._abs_max
        }


class SecondMoments:
    """Mean of x xᵀ of inputs: float32 [K, K] each, added up in tiles of the upper triangle.

    Products of bfloat16 come out of torch rounded to bfloat16, and H has to be better than that: a
    Cholesky factor with 1 % of damping failed on what was added up so. Hence the first batch is
    added in float32 and its products are taken off those of every later batch *before* these are
    rounded: what is rounded is only how far a batch differs from the first. The error is a tenth
    (4e-5 of the norm of H, 32 batches of 2048 tokens), at 4 % of time. The products that are taken
    off wait in the lower triangle of the sum. ``is_exact`` adds all in float32: for short texts,
    where few roundings make up for each other.
    """

    def __init__(
        self, workers: Workers, names: Collection[str] = INPUTS, is_exact: bool = False
    ) -> None:
        self._workers, self._names, self._is_exact = workers, tuple(names), is_exact
        self._tokens = 0
        self._batches = 0
        self._sums: dict[str, Tensor] = {}
        self._diagonal: dict[tuple[str, int], Tensor] = {}

    def of(self, trace: LayerTrace) -> dict[str, Tensor]:
        """The inputs themselves, [tokens, K]."""
        return {name: trace.inputs[name].flatten(0, 1) for name in self._names}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Each tile on one thread: the order of its sum is that of the batches."""
        first = next(iter(found.values()))
        is_first = not self._sums
        if is_first:
            for name, rows in found.items():
                k = rows.shape[1]
                self._sums[name] = torch.zeros((k, k), device=rows.device)
        self._tokens += len(first)
        if first.device.type != "cpu":
            self._add_whole(found)
            return
        is_exact = self._is_exact or first.dtype is torch.float32
        if not is_exact and not is_first:
            self._batches += 1

        def tile(place: tuple[str, int, int]) -> None:
            name, i, j = place
            left, right = found[name][:, i : i + TILE], found[name][:, j : j + TILE]
            part = self._sums[name][i : i + TILE, j : j + TILE]
            if is_exact or is_first:
                part.addmm_(left.float().T, right.float())
                if not is_exact:
                    self._expect(name, i, j, part)
            else:
                expected = self._expected(name, i, j).to(left.dtype)
                part.add_(torch.addmm(expected, left.T, right))

        for _ in self._workers.map(tile, list(self._tiles())):
            pass

    def result(self) -> dict[str, Tensor]:
        """By input; whole (both triangles), and no longer this object's."""
        for name, i, j in self._tiles():
            total = self._sums[name]
            part = total[i : i + TILE, j : j + TILE]
            if self._batches:
                part.sub_(self._expected(name, i, j), alpha=self._batches)
            part.div_(self._tokens)
            if i < j:
                total[j : j + TILE, i : i + TILE] = part.T
        found, self._sums = self._sums, {}
        return found

    def _tiles(self) -> Iterator[tuple[str, int, int]]:
        """Input, first row and first column of each tile."""
        for name, total in self._sums.items():
            for i in range(0, len(total), TILE):
                for j in range(i, len(total), TILE):
                    yield name, i, j

    def _expect(self, name: str, i: int, j: int, part: Tensor) -> None:
        negative = part.neg().bfloat16().float()
        if i == j:
            self._diagonal[name, i] = negative
        else:
            self._sums[name][j : j + TILE, i : i + TILE] = negative.T

    def _expected(self, name: str, i: int, j: int) -> Tensor:
        """Minus the products of the first batch, rounded to bfloat16."""
        if i == j:
            return self._diagonal[name, i]
        return self._sums[name][j : j + TILE, i : i + TILE].T

    def _add_whole(self, found: Mapping[str, Tensor]) -> None:
        """On a GPU, which has products of bfloat16 that come out in float32."""
        for name, rows in found.items():
            if rows.dtype is torch.float32:
                self._sums[name].addmm_(rows.T, rows)
            else:
                self._sums[name].add_(torch.mm(rows.T, rows, out_dtype=torch.float32))


class TokenSample:
    """Some tokens of each input, evenly spread: float32 [tokens, K]."""

    def __init__(self, count: int, num_tokens: int) -> None:
        self._step = max(1, num_tokens // count)
        self._parts: dict[str, list[Tensor]] = {}

    def of(self, trace: LayerTrace) -> dict[str, Tensor]:
        """Every n-th token of the batch."""
        return {name: x.flatten(0, 1)[:: self._step].float() for name, x in trace.inputs.items()}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """In the order of the text."""
        for name, rows in found.items():
            self._parts.setdefault(name, []).append(rows)

    def result(self) -> dict[str, Tensor]:
        """By input."""
        return {name: torch.cat(parts) for name, parts in self._parts.items()}
