"""Perplexity on held-out text: the engine through `score`, beside transformers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from acceptance.deployment import Builder
from acceptance.reference import RoundedCache, dequantized_reference, float_reference
from lmrun import _engine

WINDOW = 256
PREDICTED = 65_535
# Perplexity each must keep; plain round-to-nearest gives 6.11, 5.69 and 30.36.
PROMISED = (
    ("stories3m", 64, 5.75),
    pytest.param("stories3m", 32, 5.40, marks=pytest.mark.slow),
    ("tinystories-656k", 128, 29.8),
)


def windows(test_data: Path, model: str) -> list[list[int]]:
    """Held-out text in windows of 256 tokens that start with BOS, 65,535 predicted in all."""
    tokenizer = AutoTokenizer.from_pretrained(test_data / "models" / model)
    text = (test_data / "text" / "stories.valid.txt").read_text()
    ids = tokenizer(text, add_special_tokens=False).input_ids[:PREDICTED]
    size = WINDOW - 1
    return [[tokenizer.bos_token_id, *ids[at : at + size]] for at in range(0, len(ids), size)]


def engine_perplexity(engine: _engine.Engine, texts: list[list[int]]) -> float:
    """exp of the mean negative log-probability, through `score`."""
    total, count = 0.0, 0
    for start in range(0, len(texts), 4):
        for index, tokens in enumerate(texts[start : start + 4]):
            engine.score(index, tokens)
        while engine.has_work():
            for output in engine.step():
                if output.scores is not None:
                    total += float(np.sum(output.scores, dtype=np.float64))
                    count += len(output.scores)
    assert count == PREDICTED
    return float(np.exp(-total / count))


def transformers_perplexity(
    model: LlamaForCausalLM, texts: list[list[int]], kv_bits: int = 32
) -> float:
    """The same protocol in transformers, with the rounding of a KV cache of that many bits."""
    total, count = 0.0, 0
    for tokens in texts:
        cache = None if kv_bits == 32 else RoundedCache(kv_bits)
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), past_key_values=cache).logits[0, :-1]
        chosen = torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(tokens[1:])[:, None])
        total, count = total + float(chosen.sum()), count + len(tokens) - 1
    return float(np.exp(-total / count))


@pytest.mark.parametrize(("model", "group", "promised"), PROMISED)
def test_awq_keeps_its_promised_perplexity_in_the_engine_as_in_transformers(
    built: Builder,
    test_data: Path,
    record_property: Callable[[str, object], None],
    model: str,
    group: int,
    promised: float,
) -> None:
    texts = windows(test_data, model)
    overrides = f"quant=awq_w4_g{group}"
    deployment = built(model, overrides, "kv.bits=32")
    engine = engine_perplexity(deployment.engine(), texts)
    reference = transformers_perplexity(dequantized_reference(deployment.quantized_folder()), texts)
    kv16 = engine_perplexity(built(model, overrides, "kv.bits=16").engine(), texts)
    for name, value in (("engine", engine), ("transformers", reference), ("kv16", kv16)):
        record_property(name, round(value, 4))
    assert engine == pytest.approx(reference, rel=1e-4)
    assert kv16 <= promised
    assert kv16 == pytest.approx(reference, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["stories3m", "tinystories-656k", "stories260k"])
def test_fewer_kv_bits_cost_what_they_cost_transformers(
    built: Builder, test_data: Path, record_property: Callable[[str, object], None], model: str
) -> None:
    texts = windows(test_data, model)
    reference = float_reference(test_data / "models" / model)
    for bits in (32, 16, 8, 4):
        deployment = built(model, "quant=none", f"kv.bits={bits}")
        found = engine_perplexity(deployment.engine(), texts)
        expected = transformers_perplexity(reference, texts, bits)
        record_property(f"{model} kv{bits}", f"{found:.4f}, transformers {expected:.4f}")
        assert found == pytest.approx(expected, rel=1e-4 if bits == 32 else 5e-3)
