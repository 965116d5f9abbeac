"""Round to nearest: codes of a weight matrix, group by group. Arrays in, arrays out.

A group is a run of input features of one output feature (`Scheme`); it has one scale, stored in
float16, and one zero point in code units: weight = (code - zero) * scale.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lmrun.quant.weight import QuantizedWeight, Scheme

SMALLEST_SCALE = 2.0**-20
SMALLEST_NORMAL = 2.0**-14
"""Below it float16 holds few digits of a scale."""
LARGEST_SCALE = 65504.0


def group_range(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight of each group, zero included: two tensors [N, groups].

    Of a symmetric scheme: minus and plus the largest magnitude.
    """
    n, k = weight.shape
    groups = weight.reshape(n, -1, scheme.width(k))
    low, high = groups.amin(2).clamp_(max=0), groups.amax(2).clamp_(min=0)
    if scheme.symmetric:
        high = torch.maximum(-low, high)
        low = -high
    return low, high


@dataclass(frozen=True)
class Grid:
    """The values that the weights of each group may take: (code - zero) * scale."""

    step: Tensor
    """float32 [N, groups]: the scale that codes are chosen with."""
    scale: Tensor
    """float32 [N, groups] that float16 holds exactly: what is stored."""
    zero: Tensor
    """float32 [N, groups], integers."""
    top: int
    """Largest code."""

    def codes(self, grouped: Tensor) -> Tensor:
        """float32 integers [N, groups, G], zero point taken off, of weights in groups."""
        low, high = -self.zero[:, :, None], self.top - self.zero[:, :, None]
        return (grouped / self.step[:, :, None]).round_().clamp_(low, high)


def covering_grid(low: Tensor, high: Tensor, scheme: Scheme) -> Grid:
    """The grid of searched ranges [N, groups]: the scale is rounded up to float16.

    The codes reach both ends (of a symmetric scheme: all but half a scale of the upper one), so
    for low <= w <= high the error of a weight is at most half a scale. For the ranges that AWQ
    finds this is better than `nearest_grid` (stories3m in groups of 32: perplexity 5.245, not
    5.281).
    """
    exact = _exact_scale(low, high, scheme.top)
    half = exact.half()
    up = torch.where(half.float() < exact, (half.view(torch.int16) + 1).view(torch.half), half)
    scale = up.float()
    return Grid(scale, scale, _zero(low, scale, scheme), scheme.top)


def nearest_grid(low: Tensor, high: Tensor, scheme: Scheme) -> Grid:
    """The grid of round-to-nearest as it is usually measured: codes of the exact scale.

    For low <= w <= high the error of a weight is at most half a scale, and what rounding the scale
    to float16 adds: 2^-11 of a scale for each code between the weight and zero, so less than 2^-7
    of a scale in 4 bits. Scales too small for that precision are those of `covering_grid`.
    """
    exact = _exact_scale(low, high, scheme.top)
    covering = covering_grid(low, high, scheme)
    is_small = exact < SMALLEST_NORMAL
    step = torch.where(is_small, covering.scale, exact)
    scale = torch.where(is_small, covering.scale, exact.half().float())
    return Grid(step, scale, _zero(low, step, scheme), scheme.top)


def _exact_scale(low: Tensor, high: Tensor, top: int) -> Tensor:
    return ((high - low) / top).clamp(SMALLEST_SCALE, LARGEST_SCALE)


def _zero(low: Tensor, step: Tensor, scheme: Scheme) -> Tensor:
    if scheme.symmetric:
        return torch.full_like(step, scheme.middle)
    return (-low / step).round_().clamp_(0, scheme.top)


def round_trip(weight: Tensor, low: Tensor, high: Tensor, scheme: Scheme) -> Tensor:
    """What weights [N, K] become when their groups are quantized to searched ranges [N, groups]."""
    grouped = weight.view(*low.shape, -1)
    found = covering_grid(low, high, scheme)
    return found.codes(grouped).mul_(found.scale[:, :, None]).view(weight.shape)


def quantize(
    weight: Tensor,
    scheme: Scheme,
    *,
    mse: bool = False,
    clip: tuple[Tensor, Tensor] | None = None,
) -> QuantizedWeight:
    """Codes of a float32 matrix [N, K].

    ``clip`` gives the range of each group (two tensors [N, groups]), ``mse`` has `search_range`
    find it; `covering_grid` is used then, and weights outside take its end. Without either the
    grid is `nearest_grid` of the whole range. Raises `ValueError` where the group size does not
    divide K, or a weight is not finite.
    """
    check_finite(weight)
    if clip is None and mse:
        clip = search_range(weight, scheme)
    if clip is None:
        found = nearest_grid(*group_range(weight, scheme), scheme)
    else:
        found = covering_grid(*clip, scheme)
    codes = found.codes(weight.reshape(*found.scale.shape, -1)).add_(found.zero[:, :, None])
    return QuantizedWeight(
        codes.to(torch.uint8).view(weight.shape),
        found.scale.half(),
        found.zero.to(torch.uint8),
        scheme.bits,
    )


def check_finite(weight: Tensor) -> None:
    """Raises `ValueError` where a weight is NaN or infinite."""
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("weight: expected finite numbers, got NaN or infinity.")


SHRINKS = tuple(1 - step / 40 for step in range(25))
"""Ratios tried for both ends of a range at once: from 1 down to 0.4."""
CACHED_WEIGHTS = 32768
"""Weights that a search looks at at a time: with its buffers they stay in a core's cache."""


def search_range(
    weight: Tensor, scheme: Scheme, importance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Range of each group [N, groups] whose codes have the least squared error of the weights.

    Both ends shrink by one ratio (`SHRINKS`; the full range is among them). ``importance``
    (float32 [K], positive) weighs the squared error of each input feature.
    """
    low, high = group_range(weight, scheme)
    n, groups = low.shape
    grouped = weight.reshape(n, groups, -1)
    root = None if importance is None else importance.sqrt().view(groups, -1)
    ratios = torch.tensor(SHRINKS, device=weight.device)
    found = torch.empty_like(low)
    step = search_rows(weight)
    for start in range(0, n, step):
        part = grouped[start : start + step]
        ends = ratios[:, None, None] * torch.stack(
            (low[start : start + step], high[start : start + step])
        ).unsqueeze(1)
        best = torch.argmin(_errors(part, covering_grid(ends[0], ends[1], scheme), root), 0)
        found[start : start + step] = ratios[best]
    return low * found, high * found


class Trial:
    """Rounds weights to each of several grids, with buffers that the caller keeps."""

    def __init__(self, grids: Grid) -> None:
        """``grids`` holds tensors [grids, ...]; the weights have one more axis, G, at the end."""
        self._inverse = grids.scale.reciprocal().unsqueeze_(-1)
        self._low = -grids.zero.unsqueeze(-1)
        self._high = self._low + grids.top

    def round(self, index: int, grouped: Tensor, scaled: Tensor, error: Tensor) -> None:
        """Fill ``error`` with the errors of weights, in units of the scale; ``scaled`` is a buffer.

        torch's clamp takes seven times as long as minimum and maximum where its ends are tensors
        that are broadcast.
        """
        torch.mul(grouped, self._inverse[index], out=scaled)
        torch.round(scaled, out=error)
        torch.maximum(error, self._low[index], out=error)
        torch.minimum(error, self._high[index], out=error)
        error.sub_(scaled)


def search_rows(weight: Tensor) -> int:
    """Output features that a search looks at at a time."""
    if weight.device.type != "cpu":
        return len(weight)
    return max(1, CACHED_WEIGHTS // weight.shape[1])


def _errors(grouped: Tensor, grids: Grid, root: Tensor | None) -> Tensor:
    """Root of the squared error of each group [rows, groups, G] on each grid: [grids, ...]."""
    errors = torch.empty_like(grids.scale)
    trial = Trial(grids)
    scaled, rounded = torch.empty_like(grouped), torch.empty_like(grouped)
    for index, error in enumerate(errors):
        trial.round(index, grouped, scaled, rounded)
        if root is not None:
            rounded *= root
        torch.linalg.vector_norm(rounded, dim=2, out=error)
    return errors.mul_(grids.scale)
