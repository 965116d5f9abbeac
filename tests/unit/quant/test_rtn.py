"""Rounding to nearest: the bound of its formula, and what it refuses."""

import numpy as np
import pytest
import torch

from lmrun.quant import packing, rtn
from lmrun.quant.weight import Scheme

SCHEME = Scheme(4, 64)


def _weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(48, 256, generator=generator)
    return {
        "normal": normal,
        "tiny": normal * 1e-6,
        "positive": normal.abs() + 1,
        "negative": -normal.abs() - 1,
        "zero": torch.zeros(4, 128),
        "constant": torch.full((4, 128), 0.37),
        "outlier": torch.cat([normal, torch.full((48, 128), 1000.0)], dim=1),
    }


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("name", sorted(_weights()))
def test_no_weight_is_off_by_more_than_half_a_scale(name: str, group_size: int, bits: int) -> None:
    """And what the scale loses in float16: half a unit of its 11th digit for each code."""
    weight = _weights()[name]
    quantized = rtn.quantize(weight, Scheme(bits, group_size))
    error = (weight - quantized.dequantize()).abs().view(len(weight), -1, group_size)
    scales = quantized.scales.float()[:, :, None]
    lost = torch.where(scales > rtn.SMALLEST_NORMAL, (2**bits - 1) * 2.0**-11, 0.0)
    bound = scales * (0.5 + lost)
    assert bool((error <= bound * (1 + 1e-4)).all())
    assert int(quantized.codes.max()) < 2**bits
    assert int(quantized.zeros.max()) < 2**bits


@pytest.mark.parametrize("name", sorted(_weights()))
def test_a_searched_range_is_covered_to_half_a_scale(name: str) -> None:
    weight = _weights()[name]
    quantized = rtn.quantize(weight, SCHEME, clip=rtn.group_range(weight, SCHEME))
    error = (weight - quantized.dequantize()).abs().view(len(weight), -1, 64)
    assert bool((error <= quantized.scales.float()[:, :, None] / 2 * (1 + 1e-4)).all())


def test_codes_are_those_of_the_scale_before_float16() -> None:
    weight = _weights()["normal"]
    groups = weight.view(48, 4, 64)
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    scale = (high - low) / 15
    zero = (-low / scale).round()
    codes = ((groups / scale).round() + zero).clamp(0, 15)
    quantized = rtn.quantize(weight, SCHEME)
    assert torch.equal(quantized.codes.view(48, 4, 64).float(), codes)
    assert torch.equal(quantized.scales, scale.half()[:, :, 0])


def test_dequantizing_is_the_formula_of_the_packing() -> None:
    quantized = rtn.quantize(_weights()["normal"], SCHEME)
    expected = packing.dequantize(
        quantized.codes.numpy(), quantized.scales.numpy(), quantized.zeros.numpy()
    )
    assert np.array_equal(quantized.dequantize().numpy(), expected)


def test_a_round_trip_is_quantizing_and_back() -> None:
    weight = _weights()["normal"]
    low, high = rtn.group_range(weight, Scheme(4, 32))
    clip = (low * 0.7, high * 0.9)
    expected = rtn.quantize(weight, Scheme(4, 32), clip=clip).dequantize()
    assert torch.equal(rtn.round_trip(weight, *clip, Scheme(4, 32)), expected)


def test_weights_outside_a_clipped_range_take_its_end() -> None:
    weight = torch.linspace(-1, 1, 32)[None, :]
    clip = (torch.tensor([[-0.5]]), torch.tensor([[0.5]]))
    back = rtn.quantize(weight, Scheme(4, 32), clip=clip).dequantize()
    scale = 1 / 15
    assert back.abs().max() <= 0.5 + scale
    assert (back[weight.abs() < 0.5] - weight[weight.abs() < 0.5]).abs().max() <= scale


def test_a_group_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^group_size=64: must divide 96 input features\.$"):
        rtn.quantize(torch.ones(2, 96), SCHEME)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(bad: float) -> None:
    weight = torch.ones(2, 32)
    weight[1, 3] = bad
    with pytest.raises(ValueError, match="expected finite numbers"):
        rtn.quantize(weight, Scheme(4, 32))


SYMMETRIC = Scheme(4, 64, symmetric=True)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [0, 32])
@pytest.mark.parametrize("name", sorted(_weights()))
def test_symmetric_codes_have_the_middle_as_zero_and_err_by_half_a_scale(
    name: str, group_size: int, bits: int
) -> None:
    weight = _weights()[name]
    scheme = Scheme(bits, group_size, symmetric=True)
    quantized = rtn.quantize(weight, scheme, clip=rtn.group_range(weight, scheme))
    assert bool((quantized.zeros == 2 ** (bits - 1)).all())
    width = scheme.width(weight.shape[1])
    error = (weight - quantized.dequantize()).abs().view(len(weight), -1, width)
    assert bool((error <= quantized.scales.float()[:, :, None] / 2 * (1 + 1e-4)).all())


@pytest.mark.parametrize("scheme", [SCHEME, SYMMETRIC, Scheme(4, 0), Scheme(8, 32)], ids=str)
@pytest.mark.parametrize("weighed", [False, True])
def test_a_searched_range_is_the_best_of_all_that_are_tried(weighed: bool, scheme: Scheme) -> None:
    weight = _weights()["normal"][:6] ** 3
    importance = torch.rand(256, generator=torch.Generator().manual_seed(1)) + 0.1
    found = rtn.search_range(weight, scheme, importance if weighed else None)
    low, high = rtn.group_range(weight, scheme)
    width = scheme.width(256)
    for row in range(6):
        for group in range(256 // width):
            features = slice(group * width, (group + 1) * width)
            errors = {}
            for ratio in rtn.SHRINKS:
                ends = (low[row, group] * ratio, high[row, group] * ratio)
                grid = rtn.covering_grid(ends[0][None, None], ends[1][None, None], scheme)
                back = grid.codes(weight[None, None, row, features]) * grid.scale[:, :, None]
                squares = (back[0, 0] - weight[row, features]).double().square()
                if weighed:
                    squares *= importance[features]
                errors[float(ends[1])] = float(squares.sum())
            chosen = min(errors, key=lambda end: abs(end - float(found[1][row, group])))
            assert errors[chosen] <= min(errors.values()) * (1 + 1e-5)


def test_searched_ranges_lower_the_squared_error() -> None:
    weight = _weights()["normal"]
    for scheme in (SCHEME, SYMMETRIC):
        plain = rtn.quantize(weight, scheme).dequantize() - weight
        searched = rtn.quantize(weight, scheme, mse=True).dequantize() - weight
        assert searched.square().sum() < 0.98 * plain.square().sum()


def test_a_search_in_parts_finds_what_a_search_at_once_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = _weights()["normal"]
    whole = rtn.search_range(weight, SCHEME)
    monkeypatch.setattr(rtn, "CACHED_WEIGHTS", 256 * 5)
    for one, other in zip(whole, rtn.search_range(weight, SCHEME), strict=True):
        assert torch.equal(one, other)
