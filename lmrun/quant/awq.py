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

STEPS = 10
"""Steps of an exponent: a tenth each."""
STAGES = ((64, 8), (256, 3), (1024, 1))
"""Output features of each linear, evenly spread, that a stage of the search for scales looks at,
and how many exponents it leaves over."""
STAGE_WEIGHTS = 1 << 18
"""Weights of each linear that a stage looks at at least: all of a small one."""
COARSE_RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6)
"""Shares of a range's ends tried first: all pairs. Both ends at once, since one after the other
gives stories3m g64 a perplexity of 5.600 instead of 5.554."""
FINE_STEPS = (0.05, 0.025)
"""Then all eight neighbours of the best pair so far, at each of these distances."""
SMALLEST_RATIO = 0.5
BLOCK = 128
"""Input features whose products with each other count in the search for ranges: a group, or a part
of one that is longer."""
ERROR_BLOCKS = 8
"""Blocks of features in `output_error`: the products taken are 9/16 of all."""
CLIP_ROWS = 256
"""Rows of one group that are clipped at a time: few enough to stay in a core's cache."""


@dataclass(frozen=True)
class InputStatistics:
    """What the searches know about a linear's input of K features."""

    second_moment: Tensor
    """float32 [K, K]: mean of x xᵀ over the calibration tokens."""
    abs_mean: Tensor
    """float32 [K]: mean of |x|."""


def output_error(difference: Tensor, second_moment: Tensor) -> float:
    """Mean squared norm of (difference x) over the calibration tokens; difference is [N, K].

    The second moment [K, K] is symmetric: of its blocks left and right of the diagonal one is read.
    """
    k = difference.shape[1]
    step = -(-k // ERROR_BLOCKS)
    error = difference.new_zeros(())
    for start in range(0, k, step):
        block = slice(start, min(k, start + step))
        moment = second_moment[start:, block]
        products = difference[:, block] @ moment[: block.stop - start]
        if block.stop < k:
            products.addmm_(difference[:, block.stop :], moment[block.stop - start :], alpha=2)
        error += products.mul_(difference[:, block]).sum()
    return float(error.double())


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

    The caller multiplies the weights' columns by it and divides what feeds them: activation^alpha
    / weight^beta, every pair of exponents from 0 to 1. ``share`` (int64 [K]) puts channels in
    classes that must have one scale: query heads that read one value head. All ones takes part in
    every stage, so on the rows of the last one (`STAGES`) the result is never worse than plain
    rounding.
    """
    activation = _shared(statistics.abs_mean, share)
    magnitude = _shared(_relative_magnitude(weights, scheme), share).clamp(min=1e-4)

    def scales_of(exponents: tuple[int, int]) -> Tensor:
        alpha, beta = exponents[0] / STEPS, exponents[1] / STEPS
        return _normalized(activation**alpha / magnitude**beta)

    plain = (0, 0)
    steps = range(STEPS + 1)
    candidates = [(alpha, beta) for alpha in steps for beta in steps]
    for rows, num_left in STAGES:
        if plain not in candidates:
            candidates.append(plain)
        wanted = max(rows, STAGE_WEIGHTS // len(activation))
        sample = [weight[:: -(-len(weight) // wanted)] for weight in weights]
        errors = {
            one: _scaled_error(sample, statistics.second_moment, scales_of(one), scheme)
            for one in candidates
        }
        candidates = sorted(candidates, key=errors.__getitem__)[:num_left]
    return scales_of(candidates[0])


def _shared(values: Tensor, share: Tensor | None) -> Tensor:
    if share is None:
        return values
    sums = values.new_zeros(int(share.max()) + 1).index_add_(0, share, values)
    counts = torch.zeros_like(sums).index_add_(0, share, torch.ones_like(values))
    return (sums / counts)[share]


def _scaled_error(
    weights: Sequence[Tensor], second_moment: Tensor, scales: Tensor, scheme: Scheme
) -> float:
    error = 0.0
    for weight in weights:
        scaled = weight * scales
        rounded = rtn.round_trip(scaled, *rtn.group_range(scaled, scheme), scheme)
        error += output_error(rounded.div_(scales).sub_(weight), second_moment)
    return error


def search_clip(weight: Tensor, second_moment: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Range of each group [N, groups] (low, high) that rounds with the least output error.

    ``second_moment`` [K, K] is that of the linear's input.

    Both ends shrink on their own (of a symmetric scheme together); a group's error is that of its
    own input features, as in the paper. The full range is among the candidates. In a group longer
    than `BLOCK` only features of the same block count with each other.
    """
    k = weight.shape[1]
    width = scheme.width(k)
    low, high = rtn.group_range(weight, scheme)
    best_low, best_high = torch.empty_like(low), torch.empty_like(high)
    rows = CLIP_ROWS if weight.device.type == "cpu" else len(weight)
    for group in range(k // width):
        features = slice(group * width, (group + 1) * width)
        blocks = [
            slice(i, min(i + BLOCK, features.stop))
            for i in range(features.start, features.stop, BLOCK)
        ]
        moments = [second_moment[block, block].contiguous() for block in blocks]
        for start in range(0, len(weight), rows):
            part = slice(start, start + rows)
            ratios = _clip(
                weight[part, features].contiguous(),
                (low[part, group], high[part, group]),
                moments,
                scheme,
            )
            best_low[part, group] = low[part, group] * ratios[0]
            best_high[part, group] = high[part, group] * ratios[1]
    return best_low, best_high


def _clip(
    weight: Tensor, ends: tuple[Tensor, Tensor], moments: Sequence[Tensor], scheme: Scheme
) -> Tensor:
    """Shares of both ends [2, rows] of one group's range; weight is [rows, G]."""
    coarse = torch.tensor(COARSE_RATIOS, device=weight.device)
    if scheme.symmetric:
        pairs = coarse.repeat(2, 1)
        around = torch.tensor(((-1.0, 1.0), (-1.0, 1.0)), device=weight.device)
    else:
        pairs = torch.cartesian_prod(coarse, coarse).T
        steps = torch.tensor((-1.0, 0.0, 1.0), device=weight.device)
        around = torch.cartesian_prod(steps, steps).T
        around = around[:, around.abs().sum(0) > 0]
    tried = pairs[:, :, None].expand(2, -1, len(weight))
    best, least = _best(weight, ends, tried, moments, scheme)
    for step in FINE_STEPS:
        near = (best[:, None, :] + step * around[:, :, None]).clamp_(SMALLEST_RATIO, 1)
        found, error = _best(weight, ends, near, moments, scheme)
        better = error < least
        best, least = torch.where(better, found, best), torch.where(better, error, least)
    return best


def _best(
    weight: Tensor,
    ends: tuple[Tensor, Tensor],
    ratios: Tensor,
    moments: Sequence[Tensor],
    scheme: Scheme,
) -> tuple[Tensor, Tensor]:
    """Of the pairs [2, candidates, rows] tried, the best of each row [2, rows], and its error."""
    grids = rtn.covering_grid(ends[0] * ratios[0], ends[1] * ratios[1], scheme)
    trial = rtn.Trial(grids)
    errors = torch.zeros_like(grids.scale)
    scaled, rounded = torch.empty_like(weight), torch.empty_like(weight)
    products = scaled
    for index, error in enumerate(errors):
        trial.round(index, weight, scaled, rounded)
        for number, moment in enumerate(moments):
            block = slice(number * BLOCK, number * BLOCK + len(moment))
            torch.mm(rounded[:, block], moment, out=products[:, block])
        torch.sum(products.mul_(rounded), 1, out=error)
    errors.mul_(grids.scale).mul_(grids.scale)
    least, place = errors.min(0)
    return ratios.gather(1, place.expand(2, 1, -1))[:, 0], least
