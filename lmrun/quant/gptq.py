"""GPTQ: codes chosen one input feature after another, each making up for the errors before it.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
arXiv 2210.17323. Arrays in, arrays out.

The output error of codes is tr(dW H dWᵀ) with dW the change of the weights and H = E[x xᵀ]. With
H = R Rᵀ, R triangular, it is Σᵢ Rᵢᵢ² |dWᵢ + Σⱼ dWⱼ Rⱼᵢ / Rᵢᵢ|², where j runs over the features
before i. So feature i is rounded after that sum has been taken off; the sum of a block of features
over all features before it is one matrix product (the lazy batch updates of the paper). This is the
paper's solution, written with the Cholesky factor of H itself in place of that of its inverse (the
two are equivalent: Chee et al., "QuIP", arXiv 2307.13304, theorem 6): no inversion, which costs
three quarters of the time of the preparation, and digits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lmrun import _engine
from lmrun.quant import rtn
from lmrun.quant.rtn import Grid
from lmrun.quant.weight import QuantizedWeight, Scheme

BLOCK = 128
"""Features whose sums over the blocks before are one product."""
SMALL_BLOCK = 16
"""Features whose sums over the rest of their block are one product, on a GPU."""
ROWS = 2048
"""Output features solved at a time on a CPU: their block of errors stays in a core's cache."""
DAMPING = 0.01
"""Share of the mean of the diagonal that is added to it."""
LARGEST_DAMPING = 1.0
REFITS = 2
"""Solves with scales fitted to the solve before."""
NEAREST_FIT = 0.5
"""A fitted scale below this share of the one before, or above its inverse, is not taken: a group
of few codes other than zero says little."""


@dataclass(frozen=True)
class Factor:
    """The Hessian of an input of K features, made ready for the solve."""

    order: Tensor
    """int64 [K]: the features from the last that is rounded to the first."""
    feedback: Tensor
    """float32 [K, K], lower triangular with a diagonal of ones, rows and columns in `order`:
    [j, i] is how much of the change of feature j is taken off feature i."""
    weight: Tensor
    """float32 [K], in `order`: Rᵢᵢ², the output error per squared error of a feature, once those
    before it are fixed."""
    damping: float
    """Share of the mean of the diagonal that was added to it; more than asked for where the
    Cholesky factorization failed with that."""


def factor(hessian: Tensor, *, act_order: bool = True, damping: float = DAMPING) -> Factor:
    """Prepare the second moment H [K, K] (float32, symmetric; only sums of x xᵀ are meant).

    ``act_order``: features are rounded from the largest diagonal of H to the smallest. A feature
    that was never active (a zero on the diagonal) neither gives nor takes feedback, so that its
    weights are rounded to nearest, not zeroed: the calibration text may just not have used it.
    Where the factorization fails, damping grows tenfold up to `LARGEST_DAMPING`. float32 is
    enough: the error of the factorization is that of a change of H by about K · 2⁻²⁴ of its mean
    diagonal (3e-4 for K = 5632), a thirtieth of the usual damping.

    Raises `ValueError` where H holds NaN or infinity, or no damping helps.
    """
    diagonal = hessian.diagonal()
    if not bool(torch.isfinite(hessian.sum())):
        raise ValueError("hessian: expected finite numbers, got NaN or infinity.")
    ranks = diagonal if act_order else -torch.arange(len(diagonal), device=diagonal.device)
    order = torch.argsort(ranks, stable=True)
    mean = float(diagonal.double().mean())
    mean = mean if mean > 0 else 1.0
    matrix = hessian.float().index_select(0, order).index_select(1, order)
    diagonal = matrix.diagonal().clone()
    dead = diagonal <= 0
    matrix[dead, :] = 0
    matrix[:, dead] = 0
    while True:
        matrix.diagonal().copy_(torch.where(dead, mean, diagonal + damping * mean))
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            break
        if damping >= LARGEST_DAMPING:
            raise ValueError(
                f"hessian: expected a positive semidefinite matrix, got one with no Cholesky"
                f" factor at damping {damping:g}."
            )
        damping = min(LARGEST_DAMPING, max(damping * 10, 1e-4))
    del matrix
    root = lower.diagonal().clone()
    lower /= root
    return Factor(order, lower, root.square_(), damping)


def quantize(
    weight: Tensor,
    hessian: Factor,
    scheme: Scheme,
    *,
    mse: bool = True,
    clip: tuple[Tensor, Tensor] | None = None,
) -> QuantizedWeight:
    """Codes of a float32 matrix [N, K]; ``hessian`` is the `factor` of its input's second moment.

    Linears that share an input may be stacked; output features do not depend on each other, so a
    matrix may as well be solved in parts. Groups are those of the file whatever the order of the
    solve, and their ranges are fixed before it: ``clip`` (two tensors [N, groups]), or the full
    ones; with ``mse`` the searched ranges of `rtn.search_range`, whose scales are then fitted to
    what the solve had to round, and solved with again, `REFITS` times. Of all solves each output
    feature keeps the one with the least output error.

    Raises `ValueError` where the group size does not divide K, or a weight is not finite.
    """
    return _quantize(weight, hessian, scheme, mse, clip, None)


def quantize_with_targets(
    weight: Tensor, hessian: Factor, scheme: Scheme
) -> tuple[QuantizedWeight, Tensor]:
    """`quantize` with searched ranges, and what was rounded to the codes, float32 [N, K]: of each
    weight what the solve had made of it by the errors of the features before it."""
    targets = torch.empty_like(weight)
    return _quantize(weight, hessian, scheme, True, None, targets), targets


def _quantize(
    weight: Tensor,
    hessian: Factor,
    scheme: Scheme,
    mse: bool,
    clip: tuple[Tensor, Tensor] | None,
    targets: Tensor | None,
) -> QuantizedWeight:
    rtn.check_finite(weight)
    refits = REFITS if mse and clip is None else 0
    if clip is None:
        clip = rtn.search_range(weight, scheme) if mse else rtn.group_range(weight, scheme)
    grid = rtn.covering_grid(*clip, scheme)
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    step = max(1, ROWS if weight.device.type == "cpu" else len(weight))
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        part = Grid(grid.step[rows], grid.scale[rows], grid.zero[rows], grid.top)
        found = None if targets is None else targets[rows]
        codes[rows], grid.scale[rows] = _best_of(weight[rows], hessian, part, refits, found)
    return QuantizedWeight(codes, grid.scale.half(), grid.zero.to(torch.uint8), scheme.bits)


def _best_of(
    weight: Tensor, factor: Factor, grid: Grid, refits: int, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Codes [N, K] and scales [N, groups]: of each row the best of 1 + ``refits`` solves; fills
    ``targets`` [N, K] where they are wanted."""
    first = _solve(weight, factor, grid, targets)
    codes, scale, error = first.codes, grid.scale, first.error
    fitted = first.fitted
    for _ in range(refits):
        is_near = (fitted > scale * NEAREST_FIT) & (fitted < scale / NEAREST_FIT)
        refit = torch.where(is_near, fitted, scale).half().float()
        tried = None if targets is None else torch.empty_like(targets)
        again = _solve(weight, factor, Grid(refit, refit, grid.zero, grid.top), tried)
        better = (again.error < error)[:, None]
        if targets is not None and tried is not None:
            torch.where(better, tried, targets, out=targets)
        codes = torch.where(better, again.codes, codes)
        scale = torch.where(better, refit, scale)
        error = torch.minimum(again.error, error)
        fitted = again.fitted
    return codes, scale


@dataclass(frozen=True)
class _Solved:
    """What a solve found."""

    codes: Tensor
    """uint8 [N, K]."""
    error: Tensor
    """float32 [N]: output error of each row, by the damped Hessian."""
    fitted: Tensor
    """float32 [N, groups]: scales with which these codes would have met their targets best."""


def _solve(weight: Tensor, factor: Factor, grid: Grid, kept: Tensor | None) -> _Solved:
    """Inside, a feature of all rows is one contiguous vector: [K, N]. ``kept`` [N, K] gets what was
    rounded."""
    n, k = weight.shape
    found = _Solve(
        group=factor.order // (k // grid.scale.shape[1]),
        scale=grid.scale.T.contiguous(),
        zero=grid.zero.T.contiguous(),
        top=grid.top,
        weight=weight.T.index_select(0, factor.order).contiguous(),
        change=weight.new_empty(k, n),
        codes=torch.empty(k, n, dtype=torch.uint8, device=weight.device),
        error=weight.new_zeros(n),
        products=weight.new_zeros(grid.scale.T.shape),
        squares=weight.new_zeros(grid.scale.T.shape),
    )
    block_solve = _solve_block if weight.device.type == "cpu" else _solve_block_by_torch
    targets = weight.new_empty(BLOCK, n)
    for block_end in range(k, 0, -BLOCK):
        block = slice(max(0, block_end - BLOCK), block_end)
        wanted = targets[: block_end - block.start]
        wanted.copy_(found.weight[block])
        if block_end < k:
            feedback = factor.feedback[block_end:, block]
            wanted.addmm_(feedback.T, found.change[block_end:], alpha=-1)
        block_solve(found, factor, block, wanted)
        if kept is not None:
            kept[:, factor.order[block]] = wanted.T
    codes = torch.empty_like(found.codes)
    codes[factor.order] = found.codes
    fitted = torch.where(found.squares > 0, found.products / found.squares, found.scale)
    return _Solved(codes.T, found.error, fitted.T)


@dataclass(frozen=True)
class _Solve:
    """A solve that is under way; [K, N] in the order of the factor."""

    group: Tensor
    """int64 [K]."""
    scale: Tensor
    """float32 [groups, N], as zero."""
    zero: Tensor
    top: int
    weight: Tensor
    """float32 [K, N], as change: that of the weights by being rounded."""
    change: Tensor
    codes: Tensor
    """uint8 [K, N]."""
    error: Tensor
    """float32 [N], added up as the blocks pass."""
    products: Tensor
    """float32 [groups, N], as squares: of codes and targets, and of codes, likewise."""
    squares: Tensor


def _solve_block(found: _Solve, factor: Factor, block: slice, wanted: Tensor) -> None:
    """``wanted`` [features, N] lacks what the features of the block take off each other, and gets
    it. By the engine's kernel: of torch's operations 128 features need a thousand."""
    _engine.solve_gptq_block(
        feedback=factor.feedback[block, block].numpy(),
        cost=factor.weight[block].numpy(),
        group=found.group[block].int().numpy(),
        scale=found.scale.numpy(),
        zero=found.zero.numpy(),
        top=found.top,
        weight=found.weight[block].numpy(),
        wanted=wanted.numpy(),
        change=found.change[block].numpy(),
        codes=found.codes[block].numpy(),
        error=found.error.numpy(),
        products=found.products.numpy(),
        squares=found.squares.numpy(),
    )


def _solve_block_by_torch(found: _Solve, factor: Factor, block: slice, wanted: Tensor) -> None:
    """The same on any device."""
    change, inverse = found.change, found.scale.reciprocal()
    low, high = -found.zero, found.top - found.zero
    group_of = found.group[block].tolist()
    value = torch.empty_like(found.error)
    for end in range(block.stop, block.start, -SMALL_BLOCK):
        start = max(block.start, end - SMALL_BLOCK)
        if end < block.stop:
            part = wanted[start - block.start : end - block.start]
            feedback = factor.feedback[end : block.stop, start:end]
            part.addmm_(feedback.T, change[end : block.stop], alpha=-1)
        for i in range(end - 1, start - 1, -1):
            target, group = wanted[i - block.start], group_of[i - block.start]
            if i + 1 < end:
                feedback = factor.feedback[i + 1 : end, i]
                target.addmv_(change[i + 1 : end].T, feedback, alpha=-1)
            torch.mul(target, inverse[group], out=value).round_()
            torch.clamp(value, low[group], high[group], out=value)
            torch.mul(value, found.scale[group], out=change[i]).sub_(found.weight[i])
    groups = found.group[block]
    rounded = (change[block] + found.weight[block]).mul_(inverse[groups]).round_()
    found.codes[block] = rounded.add(found.zero[groups]).to(torch.uint8)
    cost = factor.weight[block, None]
    found.error.add_((rounded * found.scale[groups]).sub_(wanted).square_().mul_(cost).sum(0))
    found.products.index_add_(0, groups, (rounded * wanted).mul_(cost))
    found.squares.index_add_(0, groups, rounded.square_().mul_(cost))
