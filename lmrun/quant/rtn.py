"""Round to nearest: asymmetric codes of a weight matrix, group by group. Arrays in, arrays out.

A group is `group_size` consecutive input features of one output feature; it has one scale, stored
in float16, and one zero point in code units: weight = (code - zero) * scale.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE = 2.0**-20
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


def scale_and_zero(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale (float32 that float16 holds exactly) and zero point (float32 integer) of ranges.

    The scale is rounded up, so that the codes reach both ends: for low <= w <= high the error of a
    weight is at most half a scale.
    """
    top = 2**bits - 1
    exact = ((high - low) / top).clamp(SMALLEST_SCALE, LARGEST_SCALE)
    half = exact.half()
    up = torch.where(half.float() < exact, (half.view(torch.int16) + 1).view(torch.half), half)
    scale = up.float()
    zero = (-low / scale).round().clamp(0, top)
    return scale, zero


def round_trip(weight: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """What weights [N, K] become when their groups are quantized to the ranges [N, K/G]."""
    grouped = weight.view(*low.shape, -1)
    scale, zero = scale_and_zero(low, high, bits)
    scale, zero = scale[:, :, None], zero[:, :, None]
    codes = ((grouped / scale).round() + zero).clamp(0, 2**bits - 1)
    return ((codes - zero) * scale).view(weight.shape)


def quantize(
    weight: Tensor, group_size: int, bits: int = 4, clip: tuple[Tensor, Tensor] | None = None
) -> QuantizedWeight:
    """Codes of a float32 matrix [N, K].

    ``clip`` gives the range of each group (two tensors [N, K/G]); weights outside it take its end.
    Raises `ValueError` where the group size does not divide K, or a weight is not finite.
    """
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("weight: expected finite numbers, got NaN or infinity.")
    low, high = clip or group_range(weight, group_size)
    scale, zero = scale_and_zero(low, high, bits)
    grouped = weight.reshape(*low.shape, group_size)
    codes = ((grouped / scale[:, :, None]).round() + zero[:, :, None]).clamp(0, 2**bits - 1)
    return QuantizedWeight(
        codes.to(torch.uint8).view(weight.shape), scale.half(), zero.to(torch.uint8)
    )
