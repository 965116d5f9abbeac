"""Codes of a matrix and what they mean."""

import pytest
import torch

from lmrun.quant.weight import QuantizedWeight, Scheme


def _codes(group_index: torch.Tensor | None = None) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(1)
    return QuantizedWeight(
        torch.randint(0, 16, (6, 8), dtype=torch.uint8, generator=generator),
        torch.rand(6, 2, generator=generator).half(),
        torch.randint(0, 16, (6, 2), dtype=torch.uint8, generator=generator),
        4,
        group_index,
    )


@pytest.mark.parametrize(
    "groups", [None, [0, 0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 1, 1, 0, 1, 0]], ids=str
)
def test_dequantizing_follows_the_formula(groups: list[int] | None) -> None:
    quantized = _codes(None if groups is None else torch.tensor(groups, dtype=torch.int32))
    weight = quantized.dequantize()
    assert weight.dtype == torch.float32
    for n in range(6):
        for k in range(8):
            group = k // 4 if groups is None else groups[k]
            code, zero = int(quantized.codes[n, k]), int(quantized.zeros[n, group])
            expected = (code - zero) * quantized.scales[n, group].float()
            assert float(weight[n, k]) == float(expected)


def test_dequantizing_leaves_the_codes_alone() -> None:
    quantized = _codes()
    before = quantized.scales.clone(), quantized.zeros.clone(), quantized.codes.clone()
    quantized.dequantize()
    assert torch.equal(quantized.scales, before[0])
    assert torch.equal(quantized.zeros, before[1])
    assert torch.equal(quantized.codes, before[2])


def test_stacked_matrices_come_apart() -> None:
    quantized = _codes(torch.tensor([1, 0, 0, 1, 1, 0, 1, 0], dtype=torch.int32))
    first, second = quantized.split([2, 4])
    assert first.codes.shape == (2, 8)
    assert second.bits == 4
    both = torch.cat([first.dequantize(), second.dequantize()])
    assert torch.equal(both, quantized.dequantize())


@pytest.mark.parametrize(("bits", "top", "middle"), [(4, 15, 8), (8, 255, 128)])
def test_codes_of_a_scheme_are_unsigned(bits: int, top: int, middle: int) -> None:
    scheme = Scheme(bits, 64, symmetric=True)
    assert (scheme.top, scheme.middle) == (top, middle)


def test_group_size_0_is_the_whole_row() -> None:
    assert Scheme(8, 0).width(96) == 96
    assert Scheme(4, 32).width(96) == 32


def test_a_group_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^group_size=64: must divide 96 input features\.$"):
        Scheme(4, 64).width(96)
