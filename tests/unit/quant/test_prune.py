"""Pruning: patterns hold, and SparseGPT is the paper's algorithm."""

import pytest
import torch
from torch import Tensor

from lmrun.quant import gptq, prune
from lmrun.quant.prune import TWO_OF_FOUR, UNSTRUCTURED


def _inputs(features: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2000, features, generator=generator)
    x = x @ (torch.eye(features) + 0.2 * torch.randn(features, features, generator=generator))
    return x * (torch.rand(features, generator=generator) * 2 + 0.1)


def _weight(rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(6))


def _moment(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def _pruned(method: str, weight: Tensor, x: Tensor, sparsity: float, pattern: str) -> Tensor:
    if method == "magnitude":
        return prune.magnitude(weight, sparsity, pattern)
    if method == "wanda":
        return prune.wanda(weight, x.square().sum(0), sparsity, pattern)
    factor = gptq.factor(_moment(x), act_order=False)
    return prune.sparsegpt(weight, factor, sparsity, pattern)


def _error(weight: Tensor, other: Tensor, x: Tensor) -> float:
    return float((x @ (other - weight).T).square().sum())


def _paper(weight: Tensor, hessian: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Algorithm 1 of arXiv 2301.00774 in float64, by the Cholesky factor of the inverse."""
    n, k = weight.shape
    hessian = hessian.double()
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(k, dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    work = weight.double().clone()
    kept = torch.ones(n, k, dtype=torch.bool)
    for i in range(k):
        if pattern == TWO_OF_FOUR and i % 4 == 0:
            costs = (work[:, i : i + 4] / factor.diagonal()[i : i + 4]) ** 2
            for row in range(n):
                for column in costs[row].argsort()[:2].tolist():
                    kept[row, i + column] = False
        if pattern == UNSTRUCTURED and i % gptq.BLOCK == 0:
            end = min(k, i + gptq.BLOCK)
            costs = (work[:, i:end] / factor.diagonal()[i:end]) ** 2
            lost = costs.T.flatten().argsort()[: int(sparsity * costs.numel())]
            block = torch.ones(costs.numel(), dtype=torch.bool)
            block[lost] = False
            kept[:, i:end] = block.view(end - i, n).T
        value = torch.where(kept[:, i], work[:, i], 0.0)
        error = (work[:, i] - value) / factor[i, i]
        work[:, i:] -= error[:, None] * factor[i, i:]
        work[:, i] = value
    return work


@pytest.mark.parametrize(("pattern", "sparsity"), [(UNSTRUCTURED, 0.5), (TWO_OF_FOUR, 0.5)])
@pytest.mark.parametrize("features", [64, 300])
def test_sparsegpt_is_the_algorithm_of_the_paper(
    features: int, pattern: str, sparsity: float
) -> None:
    weight, x = _weight(20, features), _inputs(features)
    found = _pruned("sparsegpt", weight, x, sparsity, pattern)
    expected = _paper(weight, _moment(x), sparsity, pattern)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_of_four_consecutive_features_two_are_zero(method: str) -> None:
    weight, x = _weight(20, 132), _inputs(132)
    pruned = _pruned(method, weight, x, 0.5, TWO_OF_FOUR)
    zeros = (pruned == 0).view(20, 33, 4).sum(2)
    assert bool((zeros == 2).all())


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.75])
def test_the_share_of_zeros_is_what_was_asked(method: str, sparsity: float) -> None:
    weight, x = _weight(24, 160), _inputs(160)
    pruned = _pruned(method, weight, x, sparsity, UNSTRUCTURED)
    share = float((pruned == 0).float().mean())
    assert share == pytest.approx(sparsity, abs=1e-3)
    if sparsity == 0:
        torch.testing.assert_close(pruned, weight, rtol=1e-4, atol=1e-4)


def test_magnitude_loses_the_smallest_of_the_whole_matrix() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.1, 0.2, -0.3, 9.0]])
    expected = torch.tensor([[0.0, -2.0, 3.0, -4.0], [0.0, 0.0, 0.0, 9.0]])
    assert torch.equal(prune.magnitude(weight, 0.5), expected)


def test_wanda_loses_the_least_of_each_row_by_weight_times_norm() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, -4.0], [0.1, 0.2, -0.3, 9.0]])
    square_sum = torch.tensor([100.0, 1.0, 1.0, 4.0])
    found = prune.wanda(weight, square_sum, 0.5)
    assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0, -4.0], [0.1, 0.0, 0.0, 9.0]]))


@pytest.mark.parametrize("pattern", [UNSTRUCTURED, TWO_OF_FOUR])
def test_what_knows_the_inputs_loses_less_of_the_output(pattern: str) -> None:
    weight, x = _weight(48, 256), _inputs(256)
    errors = [
        _error(weight, _pruned(method, weight, x, 0.5, pattern), x)
        for method in ("magnitude", "wanda", "sparsegpt")
    ]
    assert errors[1] < errors[0]
    assert errors[2] < 0.8 * errors[1]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_features_that_make_no_fours_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match=r"^pattern 2:4: 4 must divide 30 input features\.$"):
        _pruned(method, _weight(4, 30), _inputs(30), 0.5, TWO_OF_FOUR)


def test_the_weights_given_are_left_alone() -> None:
    weight, x = _weight(8, 64), _inputs(64)
    before = weight.clone()
    for method in ("magnitude", "wanda", "sparsegpt"):
        _pruned(method, weight, x, 0.5, UNSTRUCTURED)
    assert torch.equal(weight, before)
