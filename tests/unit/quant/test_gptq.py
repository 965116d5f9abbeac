"""GPTQ: the codes of the paper's algorithm in double precision, and never a worse output."""

import pytest
import torch
from torch import Tensor

from lmrun.quant import gptq, rtn
from lmrun.quant.weight import QuantizedWeight, Scheme

SCHEMES = [
    Scheme(4, 32),
    Scheme(4, 64, symmetric=True),
    Scheme(4, 0),
    Scheme(8, 32),
    Scheme(8, 0, symmetric=True),
]


def _hessian(features: int, tokens: int = 3000) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    mixed = torch.randn(features, features, generator=generator)
    x = torch.randn(tokens, features, generator=generator) @ mixed
    x *= torch.rand(features, generator=generator) * 2 + 0.1
    return x.T @ x / tokens


def _weight(rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(6))


def _error(weight: Tensor, other: Tensor, hessian: Tensor) -> float:
    difference = (other - weight).double()
    return float(((difference @ hessian.double()) * difference).sum())


def _paper(weight: Tensor, hessian: Tensor, scheme: Scheme, act_order: bool) -> Tensor:
    """Codes by algorithm 1 of arXiv 2210.17323: one column after another, in float64, by the
    Cholesky factor of the inverse."""
    n, k = weight.shape
    grid = rtn.covering_grid(*rtn.group_range(weight, scheme), scheme)
    hessian = hessian.double()
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(k, dtype=torch.float64)
    order = torch.arange(k)
    if act_order:
        order = hessian.diagonal().argsort(descending=True)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian[order][:, order]), upper=True)
    work = weight.double()[:, order]
    codes = torch.zeros(n, k, dtype=torch.uint8)
    for i in range(k):
        feature = int(order[i])
        group = feature // (k // grid.scale.shape[1])
        scale, zero = grid.scale[:, group].double(), grid.zero[:, group].double()
        code = ((work[:, i] / scale).round() + zero).clamp(0, scheme.top)
        codes[:, feature] = code.to(torch.uint8)
        error = (work[:, i] - (code - zero) * scale) / factor[i, i]
        work[:, i:] -= error[:, None] * factor[i, i:]
    return codes


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("features", [64, 320])
def test_codes_are_those_of_the_paper(features: int, act_order: bool, scheme: Scheme) -> None:
    weight, hessian = _weight(23, features), _hessian(features)
    factor = gptq.factor(hessian, act_order=act_order)
    found = gptq.quantize(weight, factor, scheme, mse=False)
    expected = _paper(weight, hessian, scheme, act_order)
    # A tie in float32 may fall otherwise in float64, and takes the rest of its row along.
    rows_that_differ = int((found.codes != expected).any(1).sum())
    assert rows_that_differ <= (1 if scheme.bits == 4 else 3)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("mse", [True, False])
def test_the_output_error_is_below_that_of_rounding(
    mse: bool, act_order: bool, scheme: Scheme
) -> None:
    weight, hessian = _weight(40, 192), _hessian(192)
    factor = gptq.factor(hessian, act_order=act_order)
    solved = gptq.quantize(weight, factor, scheme, mse=mse).dequantize()
    rounded = rtn.quantize(weight, scheme, mse=mse).dequantize()
    assert _error(weight, solved, hessian) < 0.7 * _error(weight, rounded, hessian)


def test_the_ranges_are_those_that_were_given() -> None:
    weight, hessian, scheme = _weight(16, 64), _hessian(64), Scheme(4, 32)
    low, high = rtn.group_range(weight, scheme)
    clip = (0.8 * low, 0.7 * high)
    found = gptq.quantize(weight, gptq.factor(hessian), scheme, clip=clip)
    grid = rtn.covering_grid(*clip, scheme)
    assert torch.equal(found.scales, grid.scale.half())
    assert torch.equal(found.zeros.float(), grid.zero)


def test_uncorrelated_inputs_are_rounded_to_nearest() -> None:
    weight, scheme = _weight(16, 64), Scheme(4, 32)
    found = gptq.quantize(weight, gptq.factor(torch.eye(64)), scheme, mse=False)
    expected = rtn.quantize(weight, scheme, clip=rtn.group_range(weight, scheme))
    assert torch.equal(found.codes, expected.codes)


def test_rows_solved_in_parts_are_the_rows_solved_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, scheme = _weight(40, 192), Scheme(4, 64)
    factor = gptq.factor(_hessian(192))
    together = gptq.quantize(weight, factor, scheme)
    parts = [gptq.quantize(part, factor, scheme) for part in weight.split([7, 33])]
    monkeypatch.setattr(gptq, "ROWS", 16)
    inside = gptq.quantize(weight, factor, scheme)
    assert torch.equal(torch.cat([part.codes for part in parts]), together.codes)
    assert torch.equal(inside.codes, together.codes)


def test_features_never_active_are_rounded_to_nearest_and_change_nothing_else() -> None:
    weight, hessian, scheme = _weight(16, 128), _hessian(128), Scheme(4, 32)
    dead = torch.zeros(128, dtype=torch.bool)
    dead[[3, 40, 41, 127]] = True
    hessian[dead, :] = 0
    hessian[:, dead] = 0
    found = gptq.quantize(weight, gptq.factor(hessian), scheme, mse=False)
    rounded = rtn.quantize(weight, scheme, clip=rtn.group_range(weight, scheme))
    assert torch.equal(found.codes[:, dead], rounded.codes[:, dead])
    assert not torch.equal(found.codes, rounded.codes)
    assert bool(torch.isfinite(found.dequantize()).all())


def test_an_input_that_was_never_active_is_rounded_to_nearest() -> None:
    weight, scheme = _weight(8, 64), Scheme(4, 32)
    found = gptq.quantize(weight, gptq.factor(torch.zeros(64, 64)), scheme, mse=False)
    rounded = rtn.quantize(weight, scheme, clip=rtn.group_range(weight, scheme))
    assert torch.equal(found.codes, rounded.codes)


def test_damping_grows_until_the_factorization_succeeds() -> None:
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    hessian = x.T @ x
    hessian += 0.05 * hessian.diagonal().mean() * torch.diag(torch.linspace(-1, 0, 64))
    factor = gptq.factor(hessian, damping=0.001)
    assert factor.damping == pytest.approx(0.1)
    codes = gptq.quantize(_weight(8, 64), factor, Scheme(4, 32))
    assert bool(torch.isfinite(codes.dequantize()).all())
    assert gptq.factor(_hessian(64), damping=0.001).damping == 0.001


def test_a_matrix_that_no_damping_helps_is_refused() -> None:
    expected = (
        r"^hessian: expected a positive semidefinite matrix, got one with no Cholesky factor"
        r" at damping 1\.$"
    )
    with pytest.raises(ValueError, match=expected):
        gptq.factor(torch.eye(32) + 3 * (torch.ones(32, 32) - torch.eye(32)))


def test_a_hessian_that_is_no_number_is_refused() -> None:
    hessian = _hessian(32)
    hessian[3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"^hessian: expected finite numbers, got NaN or inf"):
        gptq.factor(hessian)


def test_a_weight_that_is_no_number_is_refused() -> None:
    weight = _weight(4, 32)
    weight[2, 7] = torch.inf
    with pytest.raises(ValueError, match=r"^weight: expected finite numbers, got NaN or inf"):
        gptq.quantize(weight, gptq.factor(_hessian(32)), Scheme(4, 32))


def test_the_hessian_is_left_alone() -> None:
    hessian = _hessian(64)
    before = hessian.clone()
    gptq.factor(hessian)
    assert torch.equal(hessian, before)


def test_no_error_of_float32_moves_the_result() -> None:
    """A Hessian whose eigenvalues span eight decades: the loss is that of the same algorithm in
    float64."""
    generator = torch.Generator().manual_seed(9)
    basis = torch.linalg.qr(torch.randn(256, 256, generator=generator).double())[0]
    hessian = ((basis * torch.logspace(0, -8, 256).double()) @ basis.T).float()
    weight, scheme = _weight(32, 256), Scheme(4, 64)
    found = gptq.quantize(weight, gptq.factor(hessian), scheme, mse=False).dequantize()
    grid = rtn.covering_grid(*rtn.group_range(weight, scheme), scheme)
    codes = _paper(weight, hessian, scheme, act_order=True)
    exact = QuantizedWeight(codes, grid.scale.half(), grid.zero.to(torch.uint8)).dequantize()
    assert _error(weight, found, hessian) < 1.01 * _error(weight, exact, hessian)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_fitted_scales_never_raise_the_output_error_of_a_row(scheme: Scheme) -> None:
    weight, hessian = _weight(40, 192), _hessian(192)
    factor = gptq.factor(hessian)
    fitted = gptq.quantize(weight, factor, scheme).dequantize()
    once = gptq.quantize(weight, factor, scheme, clip=rtn.search_range(weight, scheme)).dequantize()
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(192)
    for row in range(40):
        lines = slice(row, row + 1)
        before = _error(weight[lines], once[lines], damped)
        assert _error(weight[lines], fitted[lines], damped) <= before * (1 + 1e-4)
    if scheme.bits == 4:
        assert _error(weight, fitted, hessian) < _error(weight, once, hessian)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_torch_solves_as_the_kernel_does(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, on which torch computes."""
    weight, hessian = _weight(70, 320), _hessian(320)
    factor = gptq.factor(hessian)
    native = gptq.quantize(weight, factor, scheme)
    monkeypatch.setattr(gptq, "_solve_block", gptq._solve_block_by_torch)
    other = gptq.quantize(weight, factor, scheme)
    assert float((native.codes == other.codes).float().mean()) > 0.99
    errors = [_error(weight, one.dequantize(), hessian) for one in (native, other)]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)
