"""Figures on a text: the built-in random model against its own logits, and its own rounding."""

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lmrun.engine.llm import LLM
from lmrun.errors import ArtifactError, PlanError, StageError
from lmrun.evals import report, texts
from lmrun.evals.baseline import SCHEMA
from lmrun.evals.report import Quality
from lmrun.evals.run import Evaluation, baseline_scores, evaluate
from lmrun.evals.statistics import clustered_standard_error
from lmrun.models import builtin_data
from lmrun.models.checkpoint import Checkpoint
from lmrun.stages.convert import convert
from unit.evals.engines import engine

WINDOW = 64


@pytest.fixture
def asked(stories: Path) -> Evaluation:
    """Ten windows of 64, rows of the first four and a bit."""
    return Evaluation(data=stories, window=WINDOW, max_tokens=10 * 63, kl_tokens=4 * 63 + 20)


@pytest.fixture
def baseline(random_llm: LLM, asked: Evaluation, tmp_path: Path) -> Path:
    """The scores of the random model."""
    folder = tmp_path / "baseline"
    folder.mkdir()
    baseline_scores(random_llm, asked, folder)
    return folder


def log_rows(llm: LLM, ids: list[int]) -> NDArray[np.float64]:
    """Log-probabilities [T − 1, V] from the engine's logits."""
    logits = llm.logits(ids).astype(np.float64)[:-1]
    logits -= logits.max(axis=1, keepdims=True)
    rows: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return rows


def figures(quality: Quality) -> Quality:
    return replace(quality, seconds={})


def test_perplexity_and_its_standard_error_are_those_of_the_logits(
    random_llm: LLM, asked: Evaluation
) -> None:
    quality = evaluate(random_llm, asked, baseline=None)
    assert asked.data is not None
    windows = texts.cut(asked.data, random_llm.tokenizer, WINDOW, asked.max_tokens).windows
    logprobs = np.concatenate(
        [log_rows(random_llm, ids)[np.arange(63), ids[1:]] for ids in windows]
    )
    error = logprobs.reshape(10, 63).mean(axis=1).std(ddof=1) / np.sqrt(10)
    assert quality.perplexity == pytest.approx(np.exp(-logprobs.mean()), rel=1e-6)
    assert quality.mean_logprob == pytest.approx(logprobs.mean(), rel=1e-6)
    assert quality.mean_logprob_standard_error == pytest.approx(error, rel=1e-5)
    assert quality.perplexity_standard_error == pytest.approx(
        np.exp(-logprobs.mean()) * error, rel=1e-5
    )
    assert quality.protocol is not None
    assert (quality.protocol.tokens, quality.protocol.kl_tokens) == (630, 0)
    assert quality.protocol.bos_token_id == 1


def test_without_a_baseline_what_needs_one_is_left_out_and_said(
    random_llm: LLM, asked: Evaluation
) -> None:
    quality = evaluate(random_llm, asked, baseline=None)
    assert quality.kl is quality.top1 is quality.ppl_ratio is quality.baseline is None
    assert quality.notes == ("no baseline: perplexity is not compared, KL and top-1 are left out",)


def test_a_model_is_exactly_itself(random_llm: LLM, asked: Evaluation, baseline: Path) -> None:
    quality = evaluate(random_llm, asked, baseline=baseline)
    assert quality.ppl_ratio == 1.0
    assert quality.ppl_ratio_standard_error == 0.0
    assert quality.kl == quality.kl_max == quality.kl_p99 == 0.0
    assert quality.top1 == 1.0
    assert quality.notes == ()


def test_a_rounded_cache_is_compared_token_by_token(
    random_llm: LLM, random_workspace: Path, asked: Evaluation, baseline: Path
) -> None:
    llm = engine(random_workspace, kv_bits=4)
    quality = evaluate(llm, asked, baseline=baseline)
    assert asked.data is not None
    windows = texts.cut(asked.data, llm.tokenizer, WINDOW, asked.max_tokens).windows
    worse, kl, agrees = [], [], []
    for ids in windows:
        p, q = log_rows(random_llm, ids), log_rows(llm, ids)
        places = np.arange(63)
        worse += list(p[places, ids[1:]] - q[places, ids[1:]])
        kl += list((np.exp(p) * (p - q)).sum(axis=1))
        agrees += list(p.argmax(axis=1) == q.argmax(axis=1))
    kl, agrees = kl[: asked.kl_tokens], agrees[: asked.kl_tokens]
    assert quality.ppl_ratio == pytest.approx(np.exp(np.mean(worse)), rel=1e-6)
    of_windows = np.array(worse).reshape(10, 63).mean(axis=1)
    assert quality.ppl_ratio_standard_error == pytest.approx(
        np.exp(np.mean(worse)) * of_windows.std(ddof=1) / np.sqrt(10), rel=1e-4
    )
    assert quality.kl == pytest.approx(np.mean(kl), rel=1e-3)
    assert quality.kl_standard_error == pytest.approx(
        clustered_standard_error([kl[i : i + 63] for i in range(0, 272, 63)]), rel=1e-2
    )
    assert quality.kl_p99 == pytest.approx(np.percentile(kl, 99), rel=1e-2)
    assert quality.kl_max == pytest.approx(max(kl), rel=1e-2)
    assert quality.top1 == pytest.approx(np.mean(agrees))
    assert quality.kl > 1e-4
    assert quality.protocol is not None
    assert quality.protocol.kl_tokens == 272
    assert quality.engine["kv_bits"] == 4
    assert quality.baseline is not None
    assert quality.baseline.engine["kv_bits"] == 16


def test_no_bit_depends_on_batches_chunks_or_blocks(
    random_workspace: Path, asked: Evaluation, baseline: Path, tmp_path: Path
) -> None:
    expected = figures(evaluate(engine(random_workspace, 4), asked, baseline=baseline))
    for changes in (
        {"max_num_seqs": 1, "max_batch_tokens": 40},
        {"max_num_seqs": 7, "max_batch_tokens": 300, "block_size": 32},
        {"max_num_seqs": 3, "max_batch_tokens": 64, "num_blocks": 40, "threads": 2},
    ):
        llm = engine(random_workspace, 4, **changes)
        assert figures(evaluate(llm, asked, baseline=baseline)) == expected
    again = tmp_path / "again"
    again.mkdir()
    baseline_scores(engine(random_workspace, max_num_seqs=2, max_batch_tokens=50), asked, again)
    for path in baseline.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_a_report_is_a_document_of_its_schema(
    random_llm: LLM, asked: Evaluation, baseline: Path
) -> None:
    quality = evaluate(random_llm, asked, baseline=baseline)
    document = json.loads(json.dumps(report.to_document(quality)))
    jsonschema.validate(document, report.SCHEMA)
    assert report.from_document(document, "report.json") == quality


def test_what_was_scored_is_a_document_of_its_schema(random_llm: LLM, baseline: Path) -> None:
    document = json.loads((baseline / "scores.json").read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["engine"] == {"isa": random_llm.effective_config()["isa"], "kv_bits": 16}
    assert (document["tokens"], document["kl_tokens"], document["vocab_size"]) == (630, 272, 512)


def test_rows_may_be_more_than_there_are_tokens_or_none(
    random_llm: LLM, asked: Evaluation, tmp_path: Path
) -> None:
    for name, kl_tokens, expected in (("all", 10_000, 630), ("none", 0, 0)):
        folder = tmp_path / name
        folder.mkdir()
        wanted = replace(asked, kl_tokens=kl_tokens)
        baseline_scores(random_llm, wanted, folder)
        quality = evaluate(random_llm, wanted, baseline=folder)
        assert quality.protocol is not None
        assert quality.protocol.kl_tokens == expected
        assert quality.ppl_ratio == 1.0
        assert quality.kl == (0.0 if expected else None)
        assert np.load(folder / "rows.npy").shape == (expected, 512)


def test_memory_holds_the_rows_of_a_few_windows(random_workspace: Path, tmp_path: Path) -> None:
    llm = engine(random_workspace, max_num_seqs=1, max_batch_tokens=64)
    text = builtin_data.TEXTS["stories"]
    asked = Evaluation(data=text, window=256, max_tokens=30 * 255, kl_tokens=30 * 255)
    all_rows = asked.kl_tokens * 512 * 4
    tracemalloc.start()
    try:
        baseline_scores(llm, asked, tmp_path)
        evaluate(llm, asked, baseline=tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < all_rows / 3


def test_the_baseline_of_another_text_or_cut_is_refused(
    random_llm: LLM, asked: Evaluation, baseline: Path
) -> None:
    with pytest.raises(ArtifactError) as caught:
        evaluate(random_llm, replace(asked, kl_tokens=100), baseline=baseline)
    assert str(caught.value) == (
        f"{baseline}: expected the baseline's scores with kl_tokens=100, got 272. Score the"
        " baseline again with the same evaluate keys; its tokenizer and vocabulary must be those"
        " of the model."
    )
    assert asked.data is not None
    asked.data.write_text("B" + asked.data.read_text()[1:])
    with pytest.raises(ArtifactError, match="expected the baseline's scores with text_digest="):
        evaluate(random_llm, asked, baseline=baseline)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.json", b"{}", "expected schema_version 1, got another one."),
        ("scores.json", b'{"schema_version": 1}', "not the baseline's scores: Object missing"),
        ("scores.json", None, "expected the baseline's scores, got none: "),
        ("logprobs.npy", b"x", "expected an array, got none: "),
        ("best.npy", None, "expected an array, got none: "),
    ],
)
def test_damaged_scores_are_refused(
    random_llm: LLM,
    asked: Evaluation,
    baseline: Path,
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    if content is None:
        (baseline / name).unlink()
    else:
        (baseline / name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        evaluate(random_llm, asked, baseline=baseline)
    assert str(caught.value).startswith(f"{baseline / name}: {message}")


def test_rows_of_another_shape_are_refused(
    random_llm: LLM, asked: Evaluation, baseline: Path
) -> None:
    np.save(baseline / "rows.npy", np.zeros((272, 511), np.uint16))
    with pytest.raises(ArtifactError) as caught:
        evaluate(random_llm, asked, baseline=baseline)
    assert str(caught.value) == (
        f"{baseline / 'rows.npy'}: expected uint16 [272, 512], got uint16 [272, 511]."
    )
    data = (baseline / "logprobs.npy").read_bytes()
    np.save(baseline / "rows.npy", np.zeros((272, 512), np.uint16))
    np.save(baseline / "logprobs.npy", np.full(630, np.nan, np.float32))
    with pytest.raises(ArtifactError, match=r"logprobs.npy: expected finite numbers, got others"):
        evaluate(random_llm, asked, baseline=baseline)
    (baseline / "logprobs.npy").write_bytes(data[:-4])
    with pytest.raises(ArtifactError, match=r"logprobs.npy: expected an array, got none"):
        evaluate(random_llm, asked, baseline=baseline)


def test_a_window_longer_than_the_context_is_refused(
    random_workspace: Path, asked: Evaluation
) -> None:
    llm = engine(random_workspace, context_length=50)
    with pytest.raises(PlanError) as caught:
        evaluate(llm, asked, baseline=None)
    assert str(caught.value) == (
        "evaluate.window=64: must fit into the context of 50 tokens. Use 50 or less, or raise"
        " backend.context_length."
    )
    assert evaluate(llm, replace(asked, window=50), baseline=None).perplexity is not None


def changed(checkpoint: Path, scratch: Path, name: str, row: int | None, value: float) -> LLM:
    """A model with a row of a tensor, or all of it, replaced by one value."""
    folder, workspace = scratch / "changed", scratch / "changed-workspace"
    shutil.copytree(checkpoint, folder)
    workspace.mkdir()
    tensors = {
        name: tensor.astype(np.float32)
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    tensors[name][slice(None) if row is None else row] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    convert(Checkpoint.open(folder), workspace, "0" * 64)
    return engine(workspace)


@pytest.fixture
def spoilt(random_checkpoint: Path, tmp_path: Path) -> LLM:
    """The random model with an embedding of the letter q that overflows."""
    vocabulary = json.loads((random_checkpoint / "tokenizer.json").read_text())["model"]["vocab"]
    name = "model.embed_tokens.weight"
    return changed(random_checkpoint, tmp_path, name, vocabulary["q"], 3e38)


def test_a_perplexity_beyond_all_numbers_is_refused(
    random_checkpoint: Path, baseline: Path, asked: Evaluation, tmp_path: Path
) -> None:
    shouting = changed(random_checkpoint, tmp_path, "model.norm.weight", None, 1e5)
    for compared in (None, baseline):
        with pytest.raises(StageError) as caught:
            evaluate(shouting, asked, baseline=compared)
        message = str(caught.value)
        assert message.startswith("stories.txt: expected a mean log-probability above -709, got -")
        assert message.endswith("see whether the checkpoint itself is damaged.")


def test_scores_that_are_no_numbers_stop_with_the_window(spoilt: LLM, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("a" * 63 * 2 + "b" * 20 + "q" + "c" * 100)
    asked = Evaluation(data=text, window=WINDOW, kl_tokens=70)
    for with_rows in (False, True):
        with pytest.raises(StageError) as caught:
            if with_rows:
                (tmp_path / "scores").mkdir()
                baseline_scores(spoilt, asked, tmp_path / "scores")
            else:
                evaluate(spoilt, asked, baseline=None)
        assert str(caught.value).startswith("a.txt: window ")
        assert "expected finite numbers" in str(caught.value)
        assert str(caught.value).endswith("see whether the checkpoint itself is damaged.")


def test_items_that_are_no_numbers_stop_with_their_number(spoilt: LLM, tmp_path: Path) -> None:
    fine = {"prompt": "abc", "choices": ["d", "e"], "answer": 0}
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (fine, {**fine, "prompt": "qq"})))
    with pytest.raises(StageError) as caught:
        evaluate(spoilt, Evaluation(tasks={"t": path}), baseline=None)
    assert str(caught.value).startswith("task t: item ")
    path.write_text(json.dumps({"prompt": "qq", "answer": "x"}) + "\n")
    with pytest.raises(StageError) as caught:
        evaluate(spoilt, Evaluation(tasks={"t": path}), baseline=None)
    assert str(caught.value).startswith("task t: items 0 to 0: ")
