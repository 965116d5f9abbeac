"""SmoothQuant: scales of the paper's formula, and an alpha that lowers the error of int8."""

import pytest
import torch
from torch import Tensor

from lmrun.quant import rtn, smoothquant
from lmrun.quant.weight import Scheme

ROWS = Scheme(8, 0, symmetric=True)


def _tokens(loud: bool) -> Tensor:
    x = torch.randn(300, 96, generator=torch.Generator().manual_seed(4))
    if loud:
        x[:, [5, 50]] *= 60
    return x


def _weight(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 96, generator=torch.Generator().manual_seed(seed))


def _error(x: Tensor, weight: Tensor, scales: Tensor) -> float:
    """Of outputs with weights and activations in int8."""
    rounded = rtn.quantize(weight * scales, ROWS).dequantize()
    found = smoothquant.round_activations(x / scales) @ rounded.T
    wanted = x @ weight.T
    return float((found - wanted).square().sum() / wanted.square().sum())


def test_a_token_is_rounded_to_127_steps_of_its_own() -> None:
    x = _tokens(True)
    rounded = smoothquant.round_activations(x)
    step = x.abs().amax(1, keepdim=True) / 127
    assert bool(((rounded - x).abs() <= step / 2 * (1 + 1e-4)).all())
    codes = rounded / step
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    assert torch.equal(smoothquant.round_activations(torch.zeros(2, 8)), torch.zeros(2, 8))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85, 1.0])
def test_scales_are_those_of_the_formula(alpha: float) -> None:
    weights, abs_max = [_weight(8), _weight(16, 1) * 3], _tokens(True).abs().amax(0)
    scales = smoothquant.scales(weights, abs_max, alpha)
    for channel in (0, 5, 95):
        largest = max(float(weight[:, channel].abs().max()) for weight in weights)
        expected = float(abs_max[channel]) ** alpha / largest ** (1 - alpha)
        assert float(scales[channel]) == pytest.approx(expected, rel=1e-5)


def test_channels_of_one_class_get_one_scale() -> None:
    share = torch.arange(96) % 32
    scales = smoothquant.scales([_weight(8)], _tokens(True).abs().amax(0), 0.5, share)
    for channel in range(32):
        assert len(set(scales[share == channel].tolist())) == 1


def test_silent_channels_and_empty_columns_get_finite_scales() -> None:
    weight, abs_max = _weight(8), _tokens(False).abs().amax(0)
    weight[:, 3] = 0
    abs_max[7] = 0
    scales = smoothquant.scales([weight], abs_max, 0.5)
    assert bool(torch.isfinite(scales).all())
    assert float(scales.min()) > 0


def test_loud_channels_are_smoothed() -> None:
    x, weights = _tokens(True), [_weight(24), _weight(12, 1)]
    found = smoothquant.search_alpha(weights, x, x.abs().amax(0), ROWS)
    assert found.alpha is not None
    both = torch.cat(weights)
    smoothed, plain = _error(x, both, found.scales), _error(x, both, torch.ones(96))
    assert smoothed < 0.25 * plain
    assert found.relative_error == pytest.approx(smoothed, rel=1e-3)


def test_no_alpha_is_better_than_the_one_that_was_found() -> None:
    x, weight = _tokens(True), _weight(24)
    abs_max = x.abs().amax(0)
    found = smoothquant.search_alpha([weight], x, abs_max, ROWS)
    errors = [
        _error(x, weight, smoothquant.scales([weight], abs_max, alpha))
        for alpha in smoothquant.ALPHAS
    ]
    assert found.relative_error <= min(errors) * (1 + 1e-4)


def test_even_channels_are_never_made_worse() -> None:
    x, weight = _tokens(False), _weight(24)
    found = smoothquant.search_alpha([weight], x, x.abs().amax(0), ROWS)
    assert found.relative_error <= _error(x, weight, torch.ones(96)) * (1 + 1e-4)


def test_the_largest_weight_and_activation_of_a_channel_are_made_equal_at_one_half() -> None:
    x, weight = _tokens(True), _weight(24)
    abs_max = x.abs().amax(0)
    scales = smoothquant.scales([weight], abs_max, 0.5)
    torch.testing.assert_close(abs_max / scales, (weight * scales).abs().amax(0))
