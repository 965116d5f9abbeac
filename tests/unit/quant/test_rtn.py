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
