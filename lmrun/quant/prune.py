"""Pruning: which weights become zero, and what the others become. Arrays in, arrays out.

- magnitude: the smallest weights of a matrix.
- Wanda (Sun et al., arXiv 2306.11695): the smallest |w| · ‖x‖ of each output feature.
- SparseGPT (Frantar, Alistarh, arXiv 2301.00774): the weights whose loss costs least by the second
  moment of the input; those kept make up for those lost.

Patterns: "unstructured", or "2:4" (of four consecutive input features two are zero; the sparsity is
one half whatever is asked).
"""

import torch
from torch import Tensor

from lmrun.quant import gptq
from lmrun.quant.gptq import Factor

UNSTRUCTURED, TWO_OF_FOUR = "unstructured", "2:4"


def magnitude(weight: Tensor, sparsity: float, pattern: str = UNSTRUCTURED) -> Tensor:
    """The matrix [N, K] without its ``sparsity`` smallest weights."""
    scores = weight.abs()
    if pattern == UNSTRUCTURED:
        scores = scores.view(1, -1)
    return torch.where(_kept(scores, sparsity, pattern).view(weight.shape), weight, 0.0)


def wanda(
    weight: Tensor, square_sum: Tensor, sparsity: float, pattern: str = UNSTRUCTURED
) -> Tensor:
    """The matrix [N, K] without the weights of least |w| · sqrt(square_sum) in each row.

    ``square_sum`` (float32 [K]) is the sum of x² of each input feature over the calibration text.
    """
    return torch.where(_kept(weight.abs() * square_sum.sqrt(), sparsity, pattern), weight, 0.0)


def _kept(scores: Tensor, sparsity: float, pattern: str) -> Tensor:
    """bool, of the shape of scores [rows, values]: all but the smallest of each row, or of four."""
    if pattern == TWO_OF_FOUR:
        if scores.shape[1] % 4:
            raise ValueError(f"pattern 2:4: 4 must divide {scores.shape[1]} input features.")
        grouped = scores.reshape(len(scores), -1, 4)
        num_lost = 2
    else:
        grouped = scores
        num_lost = int(sparsity * scores.shape[1])
    lost = torch.argsort(grouped, dim=-1, stable=True)[..., :num_lost]
    kept = torch.ones_like(grouped, dtype=torch.bool).scatter_(-1, lost, False)
    return kept.reshape(scores.shape)


def sparsegpt(
    weight: Tensor, hessian: Factor, sparsity: float, pattern: str = UNSTRUCTURED
) -> Tensor:
    """The matrix [N, K] pruned, with the weights kept moved to make up for those lost.

    ``hessian`` is `gptq.factor` of the second moment of the input with ``act_order=False``.
    Unstructured: of each block of `gptq.BLOCK` features the share ``sparsity`` of all rows' weights
    is lost, so the rows of a matrix may not be solved in parts.
    """
    k = weight.shape[1]
    if pattern == TWO_OF_FOUR and k % 4:
        raise ValueError(f"pattern 2:4: 4 must divide {k} input features.")
    wanted = weight.T.index_select(0, hessian.order)
    change = torch.empty_like(wanted)
    for end in range(k, 0, -gptq.BLOCK):
        start = max(0, end - gptq.BLOCK)
        target = wanted[start:end].clone()
        if end < k:
            target.addmm_(hessian.feedback[end:, start:end].T, change[end:], alpha=-1)
        feedback = hessian.feedback[start:end, start:end]
        cost = hessian.weight[start:end, None]
        kept = torch.ones_like(target, dtype=torch.bool)
        if pattern == UNSTRUCTURED:
            ahead = _moved(wanted[start:end], target, feedback)
            kept = _kept((ahead.square() * cost).reshape(1, -1), sparsity, pattern).view(kept.shape)
        for i in range(end - start - 1, -1, -1):
            if pattern == TWO_OF_FOUR and (end - start - 1 - i) % 4 == 0:
                four = slice(i - 3, i + 1)
                known = wanted[start:end][four]
                ahead = _moved(known, target[four], feedback[four, four])
                kept[four] = _kept((ahead.square() * cost[four]).T, 0.5, pattern).T
            torch.sub(target[i] * kept[i], wanted[start + i], out=change[start + i])
            target[:i].addr_(feedback[i, :i], change[start + i], alpha=-1)
    pruned = torch.empty_like(change)
    pruned[hessian.order] = change.add_(wanted)
    return pruned.T.contiguous()


def _moved(wanted: Tensor, target: Tensor, feedback: Tensor) -> Tensor:
    """What features [features, N] become to make up for those before them, were none lost.

    The target of a feature is that once all before it are fixed; here those of the same matrix are
    not fixed yet, but move along.
    """
    change: Tensor = torch.linalg.solve_triangular(
        feedback.T, target - wanted, upper=True, unitriangular=True
    )
    return change.add_(wanted)
