"""The searches of AWQ: never worse than rounding on the calibration data, better where needed."""

import pytest
import torch
from torch import Tensor

from lmrun.quant import awq, rtn
from lmrun.quant.awq import InputStatistics
from lmrun.quant.weight import Scheme


def _activations(features: int, loud: bool) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(400, features, generator=generator)
    if loud:
        x[:, ::17] *= 20
    return x @ (torch.eye(features) + 0.1 * torch.randn(features, features, generator=generator))


def _statistics(x: Tensor) -> InputStatistics:
    return InputStatistics(_moment(x), x.abs().mean(0))


def _moment(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def _weight(rows: int, features: int) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(2))


def _output_error(x: Tensor, weight: Tensor, other: Tensor) -> float:
    return float((x @ (weight - other).T).square().sum(1).mean())


def _rounded(weight: Tensor, group_size: int) -> Tensor:
    clip = rtn.group_range(weight, Scheme(4, group_size))
    return rtn.quantize(weight, Scheme(4, group_size), clip=clip).dequantize()


@pytest.mark.parametrize("loud", [False, True])
@pytest.mark.parametrize("group_size", [32, 64])
def test_scales_and_clipping_never_raise_the_output_error(loud: bool, group_size: int) -> None:
    x, weights = _activations(128, loud), [_weight(40, 128), _weight(24, 128) * 3]
    statistics = _statistics(x)
    scales = awq.search_scales(weights, statistics, Scheme(4, group_size))
    plain = scaled = clipped = 0.0
    for weight in weights:
        plain += _output_error(x, weight, _rounded(weight, group_size))
        moved = weight * scales
        scaled += _output_error(x, weight, _rounded(moved, group_size) / scales)
        clip = awq.search_clip(moved, _moment(x / scales), Scheme(4, group_size))
        back = rtn.quantize(moved, Scheme(4, group_size), clip=clip).dequantize() / scales
        clipped += _output_error(x, weight, back)
    assert scaled <= plain * (1 + 1e-5)
    assert clipped < scaled
    if loud:
        assert clipped < 0.6 * plain


def test_the_error_from_the_second_moment_is_the_error_over_the_tokens() -> None:
    x, difference = _activations(64, True), _weight(8, 64)
    expected = float((x @ difference.T).square().sum(1).mean())
    assert awq.output_error(difference, _moment(x)) == pytest.approx(expected, rel=1e-4)


def test_channels_of_one_class_get_one_scale() -> None:
    x = _activations(64, True)
    share = torch.arange(64) % 16
    scales = awq.search_scales([_weight(32, 64)], _statistics(x), Scheme(4, 32), share=share)
    for channel in range(16):
        assert len(set(scales[share == channel].tolist())) == 1


def test_a_silent_channel_breaks_nothing() -> None:
    x = _activations(64, False)
    x[:, 5] = 0
    scales = awq.search_scales([_weight(16, 64)], _statistics(x), Scheme(4, 32))
    assert bool(torch.isfinite(scales).all())
    assert float(scales.min()) > 0


def test_clipping_splits_rows_without_changing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, moment = _weight(24, 64), _moment(_activations(64, True))
    whole = awq.search_clip(weight, moment, Scheme(4, 32))
    monkeypatch.setattr(awq, "CLIP_ROWS", 5)
    pieces = awq.search_clip(weight, moment, Scheme(4, 32))
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "scheme",
    [Scheme(4, 64, symmetric=True), Scheme(4, 0), Scheme(8, 0, symmetric=True), Scheme(8, 32)],
    ids=str,
)
def test_every_scheme_gains_from_scales_and_ranges(scheme: Scheme) -> None:
    x, weight = _activations(320, True), _weight(40, 320)
    statistics = _statistics(x)
    plain = rtn.quantize(weight, scheme, clip=rtn.group_range(weight, scheme)).dequantize()
    scales = awq.search_scales([weight], statistics, scheme)
    moved = weight * scales
    clip = awq.search_clip(moved, _moment(x / scales), scheme)
    if scheme.symmetric:
        assert torch.equal(clip[0], -clip[1])
    back = rtn.quantize(moved, scheme, clip=clip).dequantize() / scales
    assert _output_error(x, weight, back) < 0.8 * _output_error(x, weight, plain)


def test_a_range_is_never_worse_for_its_group_than_the_full_one() -> None:
    weight, whole = _weight(24, 128), _moment(_activations(128, True))
    scheme = Scheme(4, 32)
    full, clip = rtn.group_range(weight, scheme), awq.search_clip(weight, whole, scheme)
    before = rtn.round_trip(weight, *full, scheme) - weight
    after = rtn.round_trip(weight, *clip, scheme) - weight
    for start in range(0, 128, 32):
        group = slice(start, start + 32)
        moment = whole[group, group]
        errors = [((d[:, group] @ moment) * d[:, group]).sum(1) for d in (before, after)]
        assert bool((errors[1] <= errors[0] * (1 + 1e-4)).all())
