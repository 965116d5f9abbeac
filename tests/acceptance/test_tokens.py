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
    reference_greedy,
    reference_logits,
)

# By bits of the KV cache. With 16, both sides round K and V to half precision as they store them;
# sums that differ in the last bit then round to different halves now and then.
LARGEST_DIFFERENCE = {32: 1e-3, 16: 1e-2}
NEW_TOKENS = 128
MODELS = ("stories3m", "tinystories-656k", "stories260k")
QUANTIZED = (
    ("stories3m", 64),
    ("stories3m", 32),
    ("tinystories-656k", 32),
    ("tinystories-656k", 64),
    ("tinystories-656k", 128),
)
Prompts = Callable[[str], list[list[int]]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kv_bits", [32, 16])
def test_w16_logits_are_those_of_transformers(
    built: Builder, prompts: Prompts, test_data: Path, model: str, kv_bits: int
) -> None:
    engine = built(model, "quant=none", f"kv.bits={kv_bits}").engine()
    reference = float_reference(test_data / "models" / model)
    for tokens in prompts(model):
        expected = reference_logits(reference, tokens, rounded_cache=kv_bits == 16)
        assert np.abs(engine.logits(tokens) - expected).max() <= LARGEST_DIFFERENCE[kv_bits]


@pytest.mark.parametrize("model", MODELS)
def test_w16_greedy_tokens_are_those_of_transformers(
    built: Builder, prompts: Prompts, test_data: Path, model: str
) -> None:
    starts = [tokens[:64] for tokens in prompts(model)]
    found = greedy(built(model, "quant=none", "kv.bits=16").engine(), starts, NEW_TOKENS)
    reference = float_reference(test_data / "models" / model)
    assert found == [reference_greedy(reference, tokens, NEW_TOKENS) for tokens in starts]


@pytest.mark.parametrize(("model", "group"), QUANTIZED)
def test_w4a16_logits_and_tokens_are_those_of_the_dequantized_weights(
    built: Builder, prompts: Prompts, model: str, group: int
) -> None:
    deployment = built(model, f"quant=awq_w4_g{group}", "kv.bits=32")
    reference = dequantized_reference(deployment.quantized_folder())
    engine = deployment.engine()
    for tokens in prompts(model):
        expected = reference_logits(reference, tokens)
        assert np.abs(engine.logits(tokens) - expected).max() <= LARGEST_DIFFERENCE[32]
    starts = [tokens[:64] for tokens in prompts(model)]
    engine = built(model, f"quant=awq_w4_g{group}", "kv.bits=16").engine()
    found = greedy(engine, starts, NEW_TOKENS)
    assert found == [reference_greedy(reference, tokens, NEW_TOKENS) for tokens in starts]
