"""The codes of one linear, as every format gives and takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lmrun.quant.weight import QuantizedWeight

Array = NDArray[Any]
Load = Callable[[str], Array]
"""Tensor name → data; bfloat16 arrives as float32. `KeyError` where there is none of that name."""


HEAD = "lm_head"


@dataclass(frozen=True)
class Modules:
    """Which modules of a folder hold codes, by their names in the checkpoint."""

    kept: tuple[str, ...]
    """Those that stay floats: the head and linears."""
    packed: tuple[str, ...]


@dataclass(frozen=True)
class LinearCodes:
    """A weight matrix [N, K]: weight[n, k] = (code[n, k] - zero[n, g]) · scale[n, g].

    g is `k // (K / groups)`, or `group_index[k]`. Codes and zero points are unsigned; an int8
    weight is its code - 128.
    """

    codes: NDArray[np.uint8]
    """[N, K], one code a byte."""
    scales: Array
    """float16 or float32 [N, groups]."""
    zeros: NDArray[np.uint8]
    """[N, groups]; 2^(bits - 1) throughout where the format is symmetric."""
    bits: int
    group_index: NDArray[np.int32] | None = None
    """[K], where groups are not consecutive input features."""

    @classmethod
    def of(cls, weight: "QuantizedWeight") -> "LinearCodes":
        """From the tensors of an algorithm, on any device; nothing is copied on a CPU."""
        index = weight.group_index
        return cls(
            codes=weight.codes.cpu().numpy(),
            scales=weight.scales.cpu().numpy(),
            zeros=weight.zeros.cpu().numpy(),
            bits=weight.bits,
            group_index=None if index is None else index.cpu().numpy(),
        )

    def dequantize(self) -> NDArray[np.float32]:
        """float32 [N, K]."""
        scales, zeros = self.scales.astype(np.float32), self.zeros.astype(np.float32)
        groups = scales.shape[1]
        index = self.group_index
        if index is None:
            n, k = self.codes.shape
            grouped = self.codes.reshape(n, groups, k // groups).astype(np.float32)
            found = (grouped - zeros[:, :, None]) * scales[:, :, None]
            return np.asarray(found, np.float32).reshape(n, k)
        return np.asarray((self.codes - zeros[:, index]) * scales[:, index], np.float32)


def consecutive_groups(group_index: Array, group_size: int) -> bool:
    """Whether an index of groups says no more than the group size does."""
    size = group_size or len(group_index)
    return bool(np.array_equal(group_index, np.arange(len(group_index)) // size))
