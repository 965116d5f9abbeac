"""Rounding learned from a layer's output: better than its start, and the same every time."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from lmrun.quant import autoround, gptq, rtn
from lmrun.quant.autoround import Examples, Learning, Multiply, Preset, Start
from lmrun.quant.weight import QuantizedWeight, Scheme

FEATURES, TOKENS = 64, 24
SCHEME = Scheme(4, 32)
PRESET = Preset(iterations=40, tokens=16 * TOKENS, rate=0.5)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WEIGHTS = {
    "up": _normal(96, FEATURES, seed=1) * FEATURES**-0.5,
    "down": _normal(FEATURES, 96, seed=2) * 96**-0.5,
}
MIX = _normal(FEATURES, FEATURES, seed=3) * 0.5 + torch.eye(FEATURES)
TEXT = _normal(64, TOKENS, FEATURES, seed=4) @ MIX
OTHER_TEXT = _normal(16, TOKENS, FEATURES, seed=5) @ MIX


def forward(
    weights: Mapping[str, Tensor], hidden: Tensor, multiply: Multiply | None = None
) -> Tensor:
    """Two linears with a nonlinearity between, and a residual."""
    linear = multiply or (lambda _role, x, weight, _bias: x @ weight.T)
    middle = torch.nn.functional.silu(linear("up", hidden, weights["up"], None))
    return hidden + linear("down", middle, weights["down"], None)


TARGETS = forward(WEIGHTS, TEXT)
EXAMPLES = Examples(
    len(TEXT), TOKENS, lambda some: TEXT[list(some)], lambda some: TARGETS[list(some)]
)


def _loss(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target).square().sum(-1) / target.square().sum(-1)).mean()


def _inputs(role: str) -> Tensor:
    rows = TEXT.flatten(0, 1)
    return rows if role == "up" else torch.nn.functional.silu(rows @ WEIGHTS["up"].T)


def _gptq(scheme: Scheme = SCHEME) -> tuple[dict[str, Start], dict[str, QuantizedWeight]]:
    starts, codes = {}, {}
    for role, weight in WEIGHTS.items():
        x = _inputs(role)
        factor = gptq.factor(x.T @ x / len(x))
        codes[role] = gptq.quantize(weight, factor, scheme)
        starts[role] = Start.gptq(weight, factor, scheme)
    return starts, codes


def _nearest() -> tuple[dict[str, Start], dict[str, QuantizedWeight]]:
    codes = {role: rtn.quantize(weight, SCHEME, mse=True) for role, weight in WEIGHTS.items()}
    return {role: Start.nearest(WEIGHTS[role], one) for role, one in codes.items()}, codes


def _error(codes: Mapping[str, QuantizedWeight], text: Tensor) -> float:
    found = forward({role: one.dequantize() for role, one in codes.items()}, text)
    return float(_loss(found, forward(WEIGHTS, text)))


def _learn(starts: dict[str, Start], preset: Preset = PRESET, seed: int = 0) -> autoround.Learned:
    return autoround.learn(starts, forward, EXAMPLES, Learning(preset, seed))


def _same(left: Mapping[str, QuantizedWeight], right: Mapping[str, QuantizedWeight]) -> bool:
    return all(torch.equal(left[role].codes, right[role].codes) for role in left)


def test_the_start_is_the_codes_of_gptq() -> None:
    starts, codes = _gptq()
    for role, start in starts.items():
        assert torch.equal(start.codes().to(torch.uint8), codes[role].codes)
        assert torch.equal(start.scales, codes[role].scales)
    nearest = rtn.quantize(WEIGHTS["up"], SCHEME, mse=True)
    places = Start.nearest(WEIGHTS["up"], nearest).places()
    assert torch.equal(places.round().clamp(0, 15).to(torch.uint8), nearest.codes)
    assert not torch.equal(starts["up"].places(), places)


def test_text_that_was_not_learned_on_gains() -> None:
    starts, codes = _nearest()
    learned = _learn(starts)
    assert learned.error < 0.85 * learned.first_error
    assert _error(learned.codes, OTHER_TEXT) < 0.85 * _error(codes, OTHER_TEXT)


def test_targets_that_the_inputs_alone_do_not_give_are_learned() -> None:
    """As behind quantized layers: the inputs are off, the targets are not."""
    drift = 0.1 * TEXT.roll(1, 2)
    off = Examples(len(TEXT), TOKENS, lambda some: (TEXT + drift)[list(some)], EXAMPLES.targets)
    starts, _ = _nearest()
    learned = autoround.learn(starts, forward, off, Learning(PRESET, 0))
    assert learned.error < 0.95 * learned.first_error


def test_a_token_a_hundred_times_as_large_does_not_decide_alone() -> None:
    loud = TEXT.clone()
    loud[:, 0] *= 100
    examples = Examples(
        len(loud),
        TOKENS,
        lambda some: loud[list(some)],
        lambda some: forward(WEIGHTS, loud[list(some)]),
    )
    starts, codes = _nearest()
    learned = autoround.learn(starts, forward, examples, Learning(PRESET, 0))
    assert _error(learned.codes, OTHER_TEXT) < 0.85 * _error(codes, OTHER_TEXT)


def test_the_start_is_kept_where_nothing_better_is_found() -> None:
    starts, codes = _gptq()
    learned = _learn(starts, Preset(iterations=8, tokens=TOKENS, rate=100.0))
    assert learned.error == learned.first_error
    assert _same(learned.codes, codes)


def test_a_step_goes_against_the_gradient_of_each_rounded_weight() -> None:
    starts, _ = _gptq()
    before = {role: start.places() for role, start in starts.items()}
    leaves = {
        role: QuantizedWeight(start.codes().to(torch.uint8), start.scales, start.zeros)
        .dequantize()
        .requires_grad_()
        for role, start in starts.items()
    }
    learned = list(range(64))
    del learned[15::16]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:4].tolist()
    chosen = [learned[place] for place in order]
    _loss(forward(leaves, TEXT[chosen]), TARGETS[chosen]).backward()  # type: ignore[no-untyped-call]
    _learn(starts, Preset(iterations=1, tokens=4 * TOKENS, rate=0.25))
    for role, start in starts.items():
        gradient = leaves[role].grad
        assert gradient is not None
        sure = gradient.abs() > 1e-3 * gradient.abs().mean()
        expected = (before[role] - 0.25 * gradient.sign()).clamp(-0.49, 15.49)
        torch.testing.assert_close(start.places()[sure], expected[sure], rtol=0, atol=1 / 4096)


def test_a_place_beyond_the_last_code_can_come_back() -> None:
    weight = torch.tensor([[0.0, 1.0, 2.0, 9.0]])
    grid = QuantizedWeight(
        torch.zeros(1, 4, dtype=torch.uint8), torch.full((1, 1), 0.2), torch.zeros(1, 1).byte()
    )
    places = Start.nearest(weight, grid).places()
    torch.testing.assert_close(
        places, torch.tensor([[0.0, 5.0, 10.0, 15.49]]), rtol=0, atol=1 / 4096
    )


def test_equal_seeds_give_equal_codes_whatever_runs_at_once() -> None:
    alone, other = _learn(_nearest()[0]).codes, _learn(_nearest()[0], seed=1).codes
    with ThreadPoolExecutor(3) as pool:
        together = autoround.learn(
            _nearest()[0], forward, EXAMPLES, Learning(PRESET, 0), pool.map
        ).codes
    assert _same(alone, together)
    assert not _same(alone, other)


@pytest.mark.parametrize(
    "scheme",
    [Scheme(4, 32, symmetric=True), Scheme(8, 32), Scheme(4, 0), Scheme(8, 0, symmetric=True)],
    ids=str,
)
def test_every_scheme_keeps_its_grid(scheme: Scheme) -> None:
    starts, codes = _gptq(scheme)
    learning = Learning(PRESET, 0)
    learned = autoround.learn(starts, forward, EXAMPLES, learning).codes
    for role, one in learned.items():
        assert one.bits == scheme.bits
        assert torch.equal(one.scales, codes[role].scales)
        assert torch.equal(one.zeros, codes[role].zeros)
    assert _error(learned, OTHER_TEXT) <= 1.02 * _error(codes, OTHER_TEXT)


def test_products_in_bfloat16_learn_as_well() -> None:
    starts, codes = _nearest()

    def rounded(weights: Mapping[str, Tensor], hidden: Tensor, multiply: Multiply) -> Tensor:
        found = forward(weights, hidden.bfloat16(), multiply)
        return hidden + (found - hidden.bfloat16()).float()

    learning = Learning(PRESET, 0, torch.bfloat16)
    learned = autoround.learn(starts, rounded, EXAMPLES, learning)
    assert _error(learned.codes, OTHER_TEXT) < 0.9 * _error(codes, OTHER_TEXT)


def test_few_sequences_are_learned_on_and_checked_alike() -> None:
    few = Examples(3, TOKENS, EXAMPLES.inputs, EXAMPLES.targets)
    learned = autoround.learn(_gptq()[0], forward, few, Learning(PRESET, 0))
    assert learned.error <= learned.first_error
