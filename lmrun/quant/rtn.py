"""Round to nearest: asymmetric codes of a weight matrix, group by group. Arrays in, arrays out.

A group is `group_size` consecutive input features of one output feature; it has one scale, stored
in float16, and one zero point in code units: weight = (code - zero) * scale.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 2.0**-20
SMALLEST_NORMAL = 2.0**-14
"""Below it float16 holds few digits of a scale."""
LARGEST_SCALE = 65504.0


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight matrix [N, K] in codes."""

    codes: Tensor
    """uint8 [N, K], one code a byte."""
    scales: Tensor
    """float16 [N, K/G]."""
    zeros: Tensor
    """uint8 [N, K/G], in code units."""

    def dequantize(self) -> Tensor:
        """float32 [N, K]: what a kernel computes with."""
        n, groups = self.scales.shape
        centred = self.codes.view(n, groups, -1).float() - self.zeros.float()[:, :, None]
        return (centred * self.scales.float()[:, :, None]).view(n, -1)


def group_range(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight of each group, zero included: two tensors [N, K/G]."""
    n, k = weight.shape
    if k % group_size:
        raise ValueError(f"group_size={group_size}: must divide {k} input features.")
    groups = weight.view(n, k // group_size, group_size)
    return groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)


@dataclass(frozen=True)
class Grid:
    """The values that the weights of each group may take: (code - zero) * scale."""

    step: Tensor
    """float32 [N, K/G]: the scale that codes are chosen with."""
    scale: Tensor
    """float32 [N, K/G] that float16 holds exactly: what is stored."""
    zero: Tensor
    """float32 [N, K/G], integers."""
    top: int
    """Largest code."""

    def codes(self, grouped: Tensor) -> Tensor:
        """float32 integers [N, K/G, G], zero point taken off, of weights in groups."""
        low, high = -self.zero[:, :, None], self.top - self.zero[:, :, None]
        return (grouped / self.step[:, :, None]).round_().clamp_(low, high)


def covering_grid(low: Tensor, high: Tensor, bits: int) -> Grid:
    """The grid of searched ranges [N, K/G]: the scale is rounded up to float16.

    The codes reach both ends, so for low <= w <= high the error of a weight is at most half a
    scale. For the ranges that AWQ finds this is better than `nearest_grid` (stories3m in groups of
    32: perplexity 5.245, not 5.281).
    """
    top = 2**bits - 1
    exact = _exact_scale(low, high, top)
    half = exact.half()
    up = torch.where(half.float() < exact, (half.view(torch.int16) + 1).view(torch.half), half)
    scale = up.float()
    return Grid(scale, scale, (-low / scale).round().clamp(0, top), top)


def nearest_grid(low: Tensor, high: Tensor, bits: int) -> Grid:
    """The grid of round-to-nearest as it is usually measured: codes of the exact scale.

    For low <= w <= high the error of a weight is at most half a scale, and what rounding the scale
    to float16 adds: 2^-11 of a scale for each code between the weight and zero, so less than 2^-7
    of a scale in 4 bits. Scales too small for that precision are those of `covering_grid`.
    """
    top = 2**bits - 1
    exact = _exact_scale(low, high, top)
    covering = covering_grid(low, high, bits)
    is_small = exact < SMALLEST_NORMAL
    step = torch.where(is_small, covering.scale, exact)
    scale = torch.where(is_small, covering.scale, exact.half().float())
    return Grid(step, scale, (-low / step).round().clamp(0, top), top)


def _exact_scale(low: Tensor, high: Tensor, top: int) -> Tensor:
    return ((high - low) / top).clamp(SMALLEST_SCALE, LARGEST_SCALE)


def round_trip(weight: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """What weights [N, K] become when their groups are quantized to searched ranges [N, K/G]."""
    grouped = weight.view(*low.shape, -1)
    found = covering_grid(low, high, bits)
    return found.codes(grouped).mul_(found.scale[:, :, None]).view(weight.shape)


def quantize(
    weight: Tensor, group_size: int, bits: int = 4, clip: tuple[Tensor, Tensor] | None = None
) -> QuantizedWeight:
    """Codes of a float32 matrix [N, K].

    ``clip`` gives the range of each group (two tensors [N, K/G]) and `covering_grid` is used;
    weights outside it take its end. Without it the grid is `nearest_grid` of the whole range.
    Raises `ValueError` where the group size does not divide K, or a weight is not finite.
    """
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("weight: expected finite numbers, got NaN or infinity.")
    if clip is None:
        found = nearest_grid(*group_range(weight, group_size), bits)
    else:
        found = covering_grid(*clip, bits)
    codes = found.codes(weight.reshape(*found.scale.shape, group_size)) + found.zero[:, :, None]
    return QuantizedWeight(
        codes.to(torch.uint8).view(weight.shape), found.scale.half(), found.zero.to(torch.uint8)
    )
