"""Logits and greedy tokens equal those of transformers, on checkpoints made by others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acceptance.deployment import Builder
from acceptance.reference import (
    dequantized_reference,
    float_reference,
    greedy,
    largest_gap_at_first_difference,
    reference_greedy,
    reference_logits,
)

LARGEST_DIFFERENCE = 1e-3
PROMPT_TOKENS = 60
NEW_TOKENS = 128
MODELS = ("stories3m", "tinystories-656k", "stories260k")
QUANTIZED = (
    ("stories3m", 64),
    pytest.param("stories3m", 32, marks=pytest.mark.slow),
    ("tinystories-656k", 32),
    ("tinystories-656k", 64),
    ("tinystories-656k", 128),
)
Prompts = Callable[[str], list[list[int]]]


@pytest.mark.parametrize("model", MODELS)
def test_w16_logits_are_those_of_transformers(
    built: Builder, prompts: Prompts, test_data: Path, model: str
) -> None:
    engine = built(model, "quant=none", "kv.bits=32").engine()
    reference = float_reference(test_data / "models" / model)
    for tokens in prompts(model):
        expected = reference_logits(reference, tokens)
        assert np.abs(engine.logits(tokens) - expected).max() <= LARGEST_DIFFERENCE


@pytest.mark.parametrize("model", MODELS)
def test_w16_greedy_tokens_are_those_of_transformers(
    built: Builder, prompts: Prompts, test_data: Path, model: str
) -> None:
    starts = [tokens[:PROMPT_TOKENS] for tokens in prompts(model)]
    reference = float_reference(test_data / "models" / model)
    found = greedy(built(model, "quant=none", "kv.bits=32").engine(), starts, NEW_TOKENS)
    assert found == reference_greedy(reference, starts, NEW_TOKENS)


@pytest.mark.parametrize("model", MODELS)
def test_a_16_bit_cache_costs_what_rounding_costs_transformers(
    built: Builder, prompts: Prompts, test_data: Path, model: str
) -> None:
    """Rounding K and V to half precision moves these models' logits by up to 0.05.

    Which halves are chosen hangs on the last bits of fp32 sums, so the bound is not the error
    against a rounding reference but the size of the error that rounding makes there.
    """
    engine = built(model, "quant=none", "kv.bits=16").engine()
    reference = float_reference(test_data / "models" / model)
    ours, rounding = 0.0, 0.0
    for tokens in prompts(model):
        exact = reference_logits(reference, tokens)
        rounded = reference_logits(reference, tokens, rounded_cache=True)
        ours = max(ours, float(np.abs(engine.logits(tokens) - exact).max()))
        rounding = max(rounding, float(np.abs(rounded - exact).max()))
    assert ours <= 1.5 * rounding
    starts = [tokens[:PROMPT_TOKENS] for tokens in prompts(model)]
    found = greedy(engine, starts, NEW_TOKENS)
    exact_tokens = reference_greedy(reference, starts, NEW_TOKENS)
    gap = largest_gap_at_first_difference(reference, starts, found, exact_tokens)
    assert gap <= 3 * rounding


@pytest.mark.parametrize(("model", "group"), QUANTIZED)
def test_w4a16_logits_and_tokens_are_those_of_the_dequantized_weights(
    built: Builder, prompts: Prompts, model: str, group: int
) -> None:
    deployment = built(model, f"quant=awq_w4_g{group}", "kv.bits=32")
    reference = dequantized_reference(deployment.quantized_folder())
    engine = deployment.engine()
    for tokens in prompts(model):
        expected = reference_logits(reference, tokens)
        assert np.abs(engine.logits(tokens) - expected).max() <= LARGEST_DIFFERENCE
    starts = [tokens[:PROMPT_TOKENS] for tokens in prompts(model)]
    found = greedy(engine, starts, NEW_TOKENS)
    assert found == reference_greedy(reference, starts, NEW_TOKENS)
