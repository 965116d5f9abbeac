"""What is gathered while a layer runs over the calibration text (`layer_stream.Collector`)."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmrun import _engine
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

    reads_output = False

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
        return len(trace.inputs["qkv"].flatten(0, 1)), found

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

    Products of bfloat16 come out of torch's CPU kernels rounded to bfloat16, and H has to be better
    than that: a Cholesky factor with 1 % of damping failed on what was added up so. The engine's
    own kernel adds them up in float32.
    """

    reads_output = False

    def __init__(self, workers: Workers, names: Collection[str] = INPUTS) -> None:
        self._workers, self._names = workers, tuple(names)
        self._tokens = 0
        self._sums: dict[str, Tensor] = {}

    def of(self, trace: LayerTrace) -> dict[str, Tensor]:
        """The inputs themselves, [tokens, K]."""
        return {name: trace.inputs[name].flatten(0, 1) for name in self._names}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Each tile on one thread: the order of its sum is that of the batches."""
        first = next(iter(found.values()))
        if not self._sums:
            for name, rows in found.items():
                k = rows.shape[1]
                self._sums[name] = torch.zeros((k, k), device=rows.device)
        self._tokens += len(first)
        if first.device.type != "cpu":
            self._add_whole(found)
            return

        def tile(place: tuple[str, int, int]) -> None:
            name, i, j = place
            left, right = found[name][:, i : i + TILE], found[name][:, j : j + TILE]
            part = self._sums[name][i : i + TILE, j : j + TILE]
            if left.dtype is torch.bfloat16:
                _engine.add_moments(_bits(left), _bits(right), part.numpy(), upper=i == j)
            else:
                part.addmm_(left.T, right)

        for _ in self._workers.map(tile, list(self._tiles())):
            pass

    def result(self) -> dict[str, Tensor]:
        """By input; whole (both triangles), and no longer this object's."""
        for name, i, j in self._tiles():
            total = self._sums[name]
            part = total[i : i + TILE, j : j + TILE].div_(self._tokens)
            if i == j:
                part.copy_(part.triu() + part.triu(1).T)
            else:
                total[j : j + TILE, i : i + TILE] = part.T
        found, self._sums = self._sums, {}
        return found

    def _tiles(self) -> Iterator[tuple[str, int, int]]:
        """Input, first row and first column of each tile."""
        for name, total in self._sums.items():
            for i in range(0, len(total), TILE):
                for j in range(i, len(total), TILE):
                    yield name, i, j

    def _add_whole(self, found: Mapping[str, Tensor]) -> None:
        """On a GPU, which has products of bfloat16 that come out in float32."""
        for name, rows in found.items():
            if rows.dtype is torch.float32:
                self._sums[name].addmm_(rows.T, rows)
            else:
                self._sums[name].add_(torch.mm(rows.T, rows, out_dtype=torch.float32))


def _bits(rows: Tensor) -> npt.NDArray[np.int16]:
    """bfloat16 as NumPy can hold it."""
    bits: npt.NDArray[np.int16] = rows.view(torch.int16).numpy()
    return bits


class TokenSample:
    """Some tokens of each input, evenly spread: float32 [tokens, K]."""

    reads_output = False

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
