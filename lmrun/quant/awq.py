"""AWQ: activation-aware scales and clipping for round-to-nearest. Arrays in, arrays out.

Lin et al., "AWQ: Activation-aware Weight Quantization", arXiv 2306.00978. Input channels with large
activations are scaled up before rounding and the inverse is folded into whatever feeds the linear;
then the range of each group is shrunk where that lowers the error.

Errors are output errors over the calibration activations. For a linear y = W x they depend on the
activations through their second moment alone: E|dW x|^2 = tr(dW H dW^T) with H = E[x x^T], so H is
all the search needs, however many tokens there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmrun.quant import rtn
from lmrun.quant.weight import Scheme

_ALPHAS = tuple(step / 20 for step in range(21))
EXPONENTS = tuple((a, 0.0) for a in _ALPHAS) + tuple((a, 1 - a) for a in _ALPHAS[1:-1])
"""Exponents tried: scale = activation^alpha / weight^beta, with and without the weight's part."""
CLIP_STEPS = 10
CLIP_SMALLEST = 0.55
"""Ratios tried for each end of a range: 10 from 1 down to 0.55. All pairs: one end after the other
instead (30 candidates) gives stories3m g64 a perplexity of 5.600 instead of 5.554."""
SEARCH_ROWS = 1024
"""Output features of a linear, evenly spread, that the scale search looks at."""
CLIP_WEIGHTS = 16384
"""Weights clipped at a time: few enough to stay in a core's cache."""


@dataclass(frozen=True)
class InputStatistics:
    """What the searches know about a linear's input of K features."""

    second_moment: Tensor
    """float32 [K, K]: mean of x xᵀ over the calibration tokens."""
    abs_mean: Tensor
    """float32 [K]: mean of |x|."""

    def scaled(self, scales: Tensor) -> "InputStatistics":
        """Statistics of x / scales."""
        return InputStatistics(
            self.second_moment / scales[:, None] / scales[None, :], self.abs_mean / scales
        )


def output_error(difference: Tensor, statistics: InputStatistics) -> float:
    """Mean squared norm of (difference x) over the calibration tokens; difference is [N, K]."""
    return float(((difference @ statistics.second_moment) * difference).sum().double())


def _normalized(scales: Tensor) -> Tensor:
    scales = scales.clamp(min=1e-4)
    return scales / (scales.max() * scales.min()).sqrt()


def _relative_magnitude(weights: Sequence[Tensor], scheme: Scheme) -> Tensor:
    """Mean over output features of |w| relative to the largest of its group: float32 [K]."""
    stacked = torch.cat(list(weights))
    groups = stacked.abs().view(len(stacked), -1, scheme.width(stacked.shape[1]))
    return (groups / groups.amax(2, keepdim=True).clamp(min=1e-12)).view(stacked.shape).mean(0)


def search_scales(
    weights: Sequence[Tensor],
    statistics: InputStatistics,
    scheme: Scheme,
    share: Tensor | None = None,
) -> Tensor:
    """Scale of each input channel [K] for linears that share their input.

    The caller multiplies the weights' columns by it and divides what feeds them. ``share`` (int64
    [K]) puts channels in classes that must have one scale: query heads that read one value head.
    All ones is among the candidates, so on the rows looked at (`SEARCH_ROWS` of each linear) the
    result is never worse than plain rounding.
    """
    weights = [weight[:: -(-len(weight) // SEARCH_ROWS)] for weight in weights]
    activation = _shared(statistics.abs_mean, share)
    magnitude = _shared(_relative_magnitude(weights, scheme), share)
    best, best_error = torch.ones_like(activation), float("inf")
    for alpha, beta in EXPONENTS:
        scales = _normalized(activation**alpha / magnitude.clamp(min=1e-4) ** beta)
        error = _scaled_error(weights, statistics, scales, scheme)
        if error < best_error:
            best, best_error = scales, error
    return best


def _shared(values: Tensor, share: Tensor | None) -> Tensor:
    if share is None:
        return values
    sums = torch.zeros(int(share.max()) + 1).index_add_(0, share, values)
    counts = torch.zeros_like(sums).index_add_(0, share, torch.ones_like(values))
    return (sums / counts)[share]


def _scaled_error(
    weights: Sequence[Tensor],
    statistics: InputStatistics,
    scales: Tensor,
    scheme: Scheme,
) -> float:
    error = 0.0
    for weight in weights:
        scaled = weight * scales
        rounded = rtn.round_trip(scaled, *rtn.group_range(scaled, scheme), scheme)
        error += output_error(rounded / scales - weight, statistics)
    return error


def search_clip(
    weight: Tensor, statistics: InputStatistics, scheme: Scheme
) -> tuple[Tensor, Tensor]:
    """Range of each group [N, K/G] (low, high) that rounds with the least output error.

    Both ends shrink on their own; a group's error is that of its own input features, as in the
    paper. The full range is among the candidates.
    """
    k = weight.shape[1]
    width = scheme.width(k)
    blocks = torch.stack(
        [statistics.second_moment[i : i + width, i : i + width] for i in range(0, k, width)]
    )
    rows = max(1, CLIP_WEIGHTS // k)
    pairs = [_clip_rows(weight[i : i + rows], blocks, scheme) for i in range(0, len(weight), rows)]
    return torch.cat([low for low, _ in pairs]), torch.cat([high for _, high in pairs])


def _clip_rows(weight: Tensor, blocks: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    low, high = rtn.group_range(weight, scheme)
    best_low, best_high = low, high
    best = torch.full_like(low, float("inf"))
    ratios = torch.linspace(1, CLIP_SMALLEST, CLIP_STEPS).tolist()
    for low_ratio in ratios:
        for high_ratio in ratios:
            ends = (low * low_ratio, high * high_ratio)
            difference = rtn.round_trip(weight, *ends, scheme).sub_(weight)
            grouped = difference.view(*low.shape, -1).transpose(0, 1)
            error = (grouped @ blocks).mul_(grouped).sum(2).transpose(0, 1)
            better = error < best
            best = torch.where(better, error, best)
            best_low = torch.where(better, ends[0], best_low)
            best_high = torch.where(better, ends[1], best_high)
    return best_low, best_high
