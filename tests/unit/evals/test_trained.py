"""Trained models of the test data: the table of its README, and KL against transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmrun.evals.run import Evaluation, baseline_scores, evaluate
from lmrun.evals.statistics import clustered_standard_error
from unit.evals.conftest import Workspaces
from unit.evals.engines import engine

TABLE = {"stories3m": 4.708, "tinystories-656k": 27.89, "stories260k": 4.249}


@pytest.mark.parametrize("name", TABLE)
def test_the_engine_has_the_perplexity_of_the_table(
    test_data: Path, trained: Workspaces, name: str
) -> None:
    asked = Evaluation(data=test_data / "text" / "stories.valid.txt", kl_tokens=0)
    for kv_bits in (32, 16):
        quality = evaluate(engine(trained(name), kv_bits), asked, baseline=None)

        assert quality.perplexity == pytest.approx(TABLE[name], rel=2e-4)
        assert quality.protocol is not None
        assert quality.protocol.tokens == 65_535
        assert quality.protocol.window == 256


def reference(folder: Path, text: Path, count: int) -> list[NDArray[np.float64]]:
    """Log-probabilities by transformers in fp32, window by window of 255 predictions."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = AutoTokenizer.from_pretrained(folder)(
        text.read_text()[:40_000], add_special_tokens=False
    ).input_ids
    found = []
    for index in range(count):
        window = [1, *ids[index * 255 : (index + 1) * 255]]
        with torch.inference_mode():
            logits = model(torch.tensor([window])).logits[0, :-1]
        found.append(torch.log_softmax(logits.double(), dim=-1).numpy())
    return found


def test_kl_and_top1_of_rounded_weights_are_those_of_transformers(
    test_data: Path,
    trained: Workspaces,
    rounded_checkpoint: Path,
    rounded_workspace: Path,
    tmp_path: Path,
) -> None:
    text = test_data / "text" / "stories.valid.txt"
    asked = Evaluation(data=text, max_tokens=10 * 255, kl_tokens=8 * 255 + 100)
    baseline_scores(engine(trained("stories3m"), 32), asked, tmp_path)
    quality = evaluate(engine(rounded_workspace, 32), asked, baseline=tmp_path)
    p = reference(test_data / "models" / "stories3m", text, 10)
    q = reference(rounded_checkpoint, text, 10)
    kl = np.concatenate([(np.exp(a) * (a - b)).sum(axis=1) for a, b in zip(p, q, strict=True)])
    same = np.concatenate([a.argmax(axis=1) == b.argmax(axis=1) for a, b in zip(p, q, strict=True)])
    kl, same = kl[: asked.kl_tokens], same[: asked.kl_tokens]
    assert quality.kl == pytest.approx(kl.mean(), rel=1e-4)
    assert quality.kl_standard_error == pytest.approx(
        clustered_standard_error(np.split(kl, range(255, len(kl), 255))), rel=1e-3
    )
    assert quality.kl_p99 == pytest.approx(np.percentile(kl, 99), rel=1e-3)
    assert quality.kl_max == pytest.approx(kl.max(), rel=1e-3)
    assert quality.top1 == pytest.approx(same.mean(), abs=1e-3)
    assert 0.2 < quality.kl < 0.35  # others measured .2727 over the whole text


def test_four_bits_have_the_perplexity_of_the_table(
    test_data: Path, trained: Workspaces, rounded_workspace: Path, tmp_path: Path
) -> None:
    asked = Evaluation(data=test_data / "text" / "stories.valid.txt")
    baseline_scores(engine(trained("stories3m")), asked, tmp_path)
    quality = evaluate(engine(rounded_workspace), asked, baseline=tmp_path)
    assert quality.perplexity == pytest.approx(6.114, abs=2e-3)
    assert quality.ppl_ratio == pytest.approx(6.114 / 4.708, rel=1e-3)
    assert quality.ppl_ratio_standard_error is not None
    assert quality.perplexity_standard_error is not None
    # The pairs have most of the text's variance in common.
    assert quality.ppl_ratio_standard_error < quality.perplexity_standard_error / 4.708 / 1.5
