"""What every quantizer here gives back: a weight matrix in codes, and the scheme it follows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scheme:
    """How a weight matrix [N, K] is stored: bits of a code, input features that share a scale."""

    bits: int
    """4 or 8."""
    group_size: int
    """Consecutive input features of one output feature that share a scale; 0: the whole row."""
    symmetric: bool = False
    """Zero points are all `middle`, and are not searched."""

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """Zero point of a symmetric scheme, in code units."""
        return 1 << (self.bits - 1)

    def width(self, num_features: int) -> int:
        """Input features of a group of a matrix with K of them.

        Raises `ValueError` where the group size does not divide K.
        """
        width = self.group_size or num_features
        if num_features % width:
            raise ValueError(f"group_size={width}: must divide {num_features} input features.")
        return width


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight matrix [N, K] in codes: weight = (code - zero) * scale."""

    codes: Tensor
    """uint8 [N, K], one code a byte."""
    scales: Tensor
    """float16 or float32 [N, groups]."""
    zeros: Tensor
    """uint8 [N, groups], in code units; all 2^(bits-1) where the scheme is symmetric."""
    bits: int = 4
    group_index: Tensor | None = None
    """int32 [K]: group of each input feature, where a group is not K / groups consecutive ones
    (act-order files of other tools; the quantizers here never make it)."""

    def dequantize(self) -> Tensor:
        """float32 [N, K]: what a kernel computes with."""
        n, groups = self.scales.shape
        if self.group_index is not None:
            index = self.group_index.long()
            centred = self.codes.float() - self.zeros.float()[:, index]
            return centred * self.scales.float()[:, index]
        grouped = self.codes.view(n, groups, -1).float()
        grouped -= self.zeros.float()[:, :, None]
        grouped *= self.scales.float()[:, :, None]
        return grouped.view(n, -1)

    def split(self, rows: Sequence[int]) -> tuple["QuantizedWeight", ...]:
        """The matrices that this one stacks; ``rows`` are their numbers of output features."""
        sizes = list(rows)
        parts = (torch.split(part, sizes) for part in (self.codes, self.scales, self.zeros))
        return tuple(
            replace(self, codes=codes, scales=scales, zeros=zeros)
            for codes, scales, zeros in zip(*parts, strict=True)
        )

    def to(self, device: torch.device | str) -> "QuantizedWeight":
        """The same on another device."""
        index = None if self.group_index is None else self.group_index.to(device)
        return QuantizedWeight(
            self.codes.to(device),
            self.scales.to(device),
            self.zeros.to(device),
            self.bits,
            index,
        )
