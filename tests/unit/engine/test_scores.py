"""What a score tells: the best tokens and whole rows of every place, whatever else runs."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmrun._engine import StepOutput
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.engine.client import EngineClient
from lmrun.engine.launch import start_worker
from lmrun.engine.llm import LLM, settings_for
from lmrun.engine.messages import SamplingParams
from lmrun.engine.scoring import Scores
from lmrun.errors import EngineError, RequestError
from lmrun.models.checkpoint import Checkpoint
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.planner import make_plan
from lmrun.stages.convert import convert
from lmrun.stages.runner import build

TOLERANCE = 1e-3
BAD = 7  # the token whose embedding is spoilt
NOT_FINITE = "logits: expected finite numbers, the model gave others at position"


def tokens(count: int, vocab: int = 256) -> list[int]:
    """Seeded, without `BAD`."""
    ids = np.random.default_rng(count).integers(0, vocab - 1, count)
    return [i + (i >= BAD) for i in ids.tolist()]


def check_against(expected: NDArray[np.float64], ids: list[int], scores: Scores) -> None:
    """``expected``: log-probabilities [T − 1, V] by another; all rows were asked for."""
    assert scores.rows is not None
    assert np.abs(scores.rows - expected).max() < TOLERANCE
    assert np.abs(scores.rows.astype(np.float64)).max() > 1
    places = np.arange(len(ids) - 1)
    # To the bit: one number, told thrice.
    np.testing.assert_array_equal(scores.logprobs, scores.rows[places, ids[1:]])
    assert scores.top_ids is not None
    assert scores.top_logprobs is not None
    order = np.argsort(-scores.rows, axis=1, kind="stable")[:, : scores.top_ids.shape[1]]
    best = np.take_along_axis(scores.rows, order, axis=1)
    np.testing.assert_array_equal(scores.top_logprobs, best)
    # Two logits may differ by less than their log-probabilities can tell.
    told = np.take_along_axis(scores.rows, scores.top_ids.astype(np.int64), axis=1)
    np.testing.assert_array_equal(told, best)


def check_a_model(folder: Path, workspace: Path, windows: list[list[int]]) -> None:
    """The engine with an exact KV cache against transformers, all rows."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    settings = replace(settings_for(workspace, kv_bits=32, threads=1), max_batch_tokens=100)
    settings = replace(settings, max_num_seqs=8, num_blocks=256)
    llm = LLM(settings)
    size = len(windows[0]) - 1
    for ids, scores in zip(windows, llm.score_full(windows, top=20, rows=(0, size)), strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        check_against(torch.log_softmax(logits.double(), -1).numpy(), ids, scores)


def test_a_trained_model_scores_as_in_transformers(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "models" / "stories3m"
    convert(Checkpoint.open(folder), tmp_path, "0" * 64)
    text = (test_data / "text" / "stories.valid.txt").read_text(encoding="utf-8")[:20000]
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids
    windows = [[1, *ids[at : at + 255]] for at in range(0, 6 * 255, 255)]
    check_a_model(folder, tmp_path, windows)


def test_a_seeded_model_scores_as_in_transformers(tmp_path: Path) -> None:
    plan = make_plan(compose(["model=random_llama", "quant=none"]), Store(tmp_path))
    build(plan, Store(tmp_path))
    plan = make_plan(compose(["model=random_llama", "quant=none"]), Store(tmp_path))
    assert plan.checkpoint is not None
    vocab = json.loads((plan.checkpoint / "config.json").read_text())["vocab_size"]
    windows = [tokens(90, vocab), tokens(90, vocab)[::-1]]
    check_a_model(plan.checkpoint, Path(plan.engine.workspace), windows)


def numbers(scores: Scores) -> tuple[bytes, ...]:
    """Every number a score tells, to the bit."""
    parts = (scores.logprobs, scores.top_ids, scores.top_logprobs, scores.rows)
    return tuple(part.tobytes() for part in parts if part is not None)


def test_no_number_depends_on_batches_chunks_threads_or_blocks(
    engine_settings: EngineSettings,
) -> None:
    sequences = [tokens(count) for count in (120, 30, 77, 64, 2, 99)]
    alone = LLM(replace(engine_settings, max_batch_tokens=512))
    expected = []
    for sequence in sequences:
        (scores,) = alone.score_full([sequence], top=3, rows=(0, 1))
        expected.append(numbers(scores))
    for budget, threads, num_blocks in ((8, 1, 512), (50, 2, 512), (400, 2, 10), (64, 1, 9)):
        changed = replace(
            engine_settings, max_batch_tokens=budget, threads=threads, num_blocks=num_blocks
        )
        llm = LLM(changed)
        stream = llm.stream([1, 2, 3], SamplingParams(temperature=0, max_tokens=60))
        next(stream)  # completions run beside the scores
        got = [numbers(scores) for scores in llm.score_full(sequences, top=3, rows=(0, 1))]
        assert got == expected
        assert "".join(stream)


def test_rows_are_the_predictions_asked_for(llm: LLM) -> None:
    sequence = tokens(100)
    (whole,) = llm.score_full([sequence], rows=(0, 99))
    (part,) = llm.score_full([sequence], rows=(60, 65))
    assert whole.rows is not None
    assert part.rows is not None
    assert whole.rows.shape == (99, 272)
    np.testing.assert_array_equal(part.rows, whole.rows[60:65])
    (none,) = llm.score_full([sequence], rows=(5, 5))
    assert none.rows is None
    assert none.top_ids is None


def test_every_token_of_the_vocabulary_may_be_asked_for(llm: LLM) -> None:
    (scores,) = llm.score_full([tokens(5)], top=272)
    assert scores.top_ids is not None
    assert [sorted(row) for row in scores.top_ids.tolist()] == [list(range(272))] * 4
    assert scores.top_logprobs is not None
    assert (np.diff(scores.top_logprobs, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("top", "rows", "message"),
    [
        (273, None, "score: top=273: expected 0 to 272."),
        (-1, None, "score: top=-1: expected 0 to 272."),
        (0, (0, 10), "score: rows=(0, 10): expected a range inside the 9 predictions."),
        (0, (-1, 2), "score: rows=(-1, 2): expected a range inside the 9 predictions."),
        (0, (4, 3), "score: rows=(4, 3): expected a range inside the 9 predictions."),
    ],
)
def test_what_cannot_be_told_is_refused(
    llm: LLM, top: int, rows: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        next(llm.score_full([tokens(10)], top=top, rows=rows))
    assert str(caught.value) == message
    assert llm.stats()["running"] == llm.stats()["waiting"] == 0


def test_sequences_are_read_a_few_steps_ahead_and_no_further(llm: LLM) -> None:
    taken = 0

    def sequences() -> Iterator[list[int]]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield tokens(40)

    budget = 64  # of the fixture
    for index, _ in enumerate(llm.score_full(sequences(), rows=(0, 39))):
        assert taken <= index + 1 + 2 * budget // 40 + 1
    assert taken == 100


def test_the_memory_of_rows_is_that_of_those_in_flight(llm: LLM) -> None:
    kept = [scores.logprobs for scores in llm.score_full([tokens(60)] * 50, rows=(0, 59))]
    assert len(kept) == 50
    assert all(array.base is None for array in kept), "log-probabilities do not hold the rows"
    (scores,) = llm.score_full([tokens(60)], rows=(0, 59))
    rows = scores.rows
    assert rows is not None
    assert isinstance(rows.base, StepOutput), "rows are not copied"
    del scores
    llm.score([tokens(60)] * 3)
    np.testing.assert_array_equal(rows[0], next(llm.score_full([tokens(60)], rows=(0, 1))).rows[0])


def test_scores_left_early_are_aborted(llm: LLM) -> None:
    scores = llm.score_full([tokens(40)] * 20, top=2, rows=(0, 30))
    next(scores)
    assert llm.stats()["used_blocks"] != 0
    scores.close()
    stats = llm.stats()
    assert stats["running"] == stats["waiting"] == stats["used_blocks"] == 0
    assert len(llm.score([tokens(20)])[0]) == 19


def test_a_sequence_that_cannot_run_ends_the_scores_before_it_too(llm: LLM) -> None:
    with pytest.raises(RequestError, match=r"^score: score: token id 9999: expected 0 to 271\.$"):
        list(llm.score_full([tokens(20), [1, 9999]]))
    with pytest.raises(RequestError, match=r"^score: score: expected at least two tokens\.$"):
        llm.score([[1]])
    assert llm.stats()["running"] == llm.stats()["waiting"] == 0


def test_a_worker_tells_the_best_tokens_too(
    engine_settings: EngineSettings, llm: LLM, tmp_path: Path
) -> None:
    (expected,) = llm.score_full([tokens(100)], top=5)
    assert expected.top_ids is not None
    assert expected.top_logprobs is not None
    worker = start_worker(engine_settings, socket_path=tmp_path / "engine.sock")

    async def run() -> None:
        client = EngineClient(worker.socket_path)
        await client.connect(30)
        found, plain = await asyncio.gather(client.score(tokens(100), 5), client.score([1, 2]))
        assert found.logprobs == tuple(expected.logprobs.tolist())
        assert np.array_equal(found.top_ids, expected.top_ids)
        assert np.array_equal(np.float32(found.top_logprobs), expected.top_logprobs)
        assert len(plain.logprobs) == 1
        assert plain.top_ids == plain.top_logprobs == ()
        with pytest.raises(RequestError, match=r"^top=273: expected 0 to 272\.$"):
            await client.score([1, 2], 273)
        with pytest.raises(RequestError) as caught:
            await client.score([1] * 10_000, 272)
        assert str(caught.value) == (
            "top=272: expected at most 239 for 10000 tokens, so that the answer fits a message."
        )
        await client.close()

    try:
        asyncio.run(run())
    finally:
        worker.process.kill()
        worker.process.wait()


@pytest.fixture(scope="module")
def spoilt_settings(
    tiny_checkpoint: Path, engine_settings: EngineSettings, tmp_path_factory: pytest.TempPathFactory
) -> EngineSettings:
    """The tiny model with its head apart, and an embedding of `BAD` that is NaN."""
    checkpoint = tmp_path_factory.mktemp("spoilt") / "checkpoint"
    shutil.copytree(tiny_checkpoint, checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    workspace = checkpoint.parent / "workspace"
    workspace.mkdir()
    convert(Checkpoint.open(checkpoint), workspace, "0" * 64)
    inputs_of_bad = slice(BAD, None, 16)  # a tile: 16 tokens, input by input
    spoil(workspace, "tok_embeddings.weight", inputs_of_bad)
    return replace(engine_settings, workspace=str(workspace))


def spoil(workspace: Path, tensor: str, which: slice) -> None:
    """Write NaN over some of the first 1,024 floats of a tensor."""
    path = workspace / "rank-0.safetensors"
    document = bytearray(path.read_bytes())
    data = 8 + int.from_bytes(document[:8], "little")
    begin, end = json.loads(document[8:data])[tensor]["data_offsets"]
    floats = np.frombuffer(document[data + begin : data + end], np.float32).copy()
    floats[:1024][which] = np.nan
    document[data + begin : data + end] = floats.tobytes()
    path.write_bytes(document)


def test_logits_that_are_not_finite_name_the_model_and_the_place(
    spoilt_settings: EngineSettings,
) -> None:
    llm = LLM(spoilt_settings)
    good = tokens(50)
    spoilt = [*good[:20], BAD, *good[21:]]
    expected = llm.score([good])[0]
    message = f"{spoilt_settings.workspace}: {NOT_FINITE}"
    with pytest.raises(EngineError) as caught:
        llm.score([good, spoilt, good])
    assert str(caught.value) == f"{message} 20."
    ends_badly = [*good, BAD]
    with pytest.raises(EngineError) as caught:
        llm.generate([good, ends_badly], SamplingParams(temperature=0, max_tokens=4))
    assert str(caught.value) == f"{message} 50."
    with pytest.raises(EngineError) as caught:
        list(llm.stream(ends_badly))
    assert str(caught.value) == f"{message} 50."
    np.testing.assert_array_equal(llm.score([good])[0], expected)
    assert llm.stats()["running"] == llm.stats()["used_blocks"] == 0


def test_one_requests_bad_logits_end_no_other_of_the_worker(
    spoilt_settings: EngineSettings, tmp_path: Path
) -> None:
    worker = start_worker(spoilt_settings, socket_path=tmp_path / "engine.sock")
    sampling = SamplingParams(temperature=0, max_tokens=30, logit_bias={BAD: -1000.0})

    async def run() -> None:
        client = EngineClient(worker.socket_path)
        await client.connect(30)
        good, bad = client.submit(tokens(9), sampling), client.submit([1, BAD], sampling)
        with pytest.raises(EngineError, match=f"^{NOT_FINITE} 1"):
            await client.score([1, BAD, 2])
        ends = [[event async for event in stream][-1] for stream in (good, bad)]
        assert [end.finish_reason for end in ends] == ["length", "error"]
        assert ends[1].error == f"{NOT_FINITE} 1."
        assert client.alive
        assert len((await client.score([1, 2, 3])).logprobs) == 2
        await client.close()

    try:
        asyncio.run(run())
    finally:
        worker.process.kill()
        worker.process.wait()


def test_a_model_without_one_finite_logit_does_not_start(
    spoilt_settings: EngineSettings, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(spoilt_settings.workspace, workspace)
    spoil(workspace, "output.weight", slice(None))
    settings = replace(spoilt_settings, workspace=str(workspace))
    worker = start_worker(
        settings, socket_path=tmp_path / "engine.sock", log_path=tmp_path / "engine.log"
    )
    with pytest.raises(EngineError, match="exited with status 5"):
        worker.wait_ready(30)
    assert f"{workspace}: {NOT_FINITE} 0." in (tmp_path / "engine.log").read_text()


def test_choices_after_one_context_compute_it_once(engine_settings: EngineSettings) -> None:
    contexts = [tokens(60), tokens(47), [*tokens(47)[:32], *tokens(50)], tokens(9)]
    choices = [[1, 2, 3], [4], [5, 6, 8, 9], [200, 201]]
    sequences = [context + choice for context in contexts for choice in choices]
    first = [len(context) - 1 for context in contexts for _ in choices]
    llm = LLM(replace(engine_settings, max_batch_tokens=256))
    whole = list(llm.score_full(sequences, top=2))
    assert llm.stats()["cached_tokens"] == 0, "whole scores neither read nor fill the cache"
    llm.score(sequences[:1])
    found = list(llm.score_full(sequences, top=2, first=first))
    for begin, scores, expected in zip(first, found, whole, strict=True):
        np.testing.assert_array_equal(scores.logprobs, expected.logprobs[begin:])
        assert scores.top_ids is not None
        assert expected.top_ids is not None
        np.testing.assert_array_equal(scores.top_ids, expected.top_ids[begin:])
    # Whole blocks of 16 before the last token of the context; the third context shares 32 tokens
    # with the second.
    per_choice = [48, 32, 80, 0]
    assert llm.stats()["cached_tokens"] == 3 * sum(per_choice) + 32


def test_without_a_prefix_cache_nothing_waits_for_a_context(
    engine_settings: EngineSettings,
) -> None:
    llm = LLM(replace(engine_settings, prefix_caching=False, max_batch_tokens=256))
    sequences = [[*tokens(60), choice] for choice in range(4)]
    before = llm.stats()["num_steps"]
    found = list(llm.score_full(sequences, first=[59] * 4))
    assert llm.stats()["num_steps"] == before + 1  # type: ignore[operator]
    assert [scores.logprobs.shape for scores in found] == [(1,)] * 4


def test_the_first_prediction_must_be_one(llm: LLM) -> None:
    with pytest.raises(RequestError, match=r"^score: first=9: expected one of the 9 predictions\."):
        list(llm.score_full([tokens(10)], first=[9]))
    with pytest.raises(RequestError) as caught:
        list(llm.score_full([tokens(10)], first=[3], rows=(2, 9)))
    assert str(caught.value) == ("score: rows=(2, 9): expected no prediction before first=3.")
