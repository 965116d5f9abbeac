"""The native engine through its Python face: batching, fairness, aborts, seeds, errors."""

import shutil
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lmrun._engine import Engine, StepOutput, supported_isas
from lmrun.engine.messages import Stats
from lmrun.plan.engine_settings import EngineSettings

VOCAB = 272
GREEDY: dict[str, Any] = {
    "temperature": 0.0,
    "top_k": None,
    "top_p": 1.0,
    "seed": 0,
    "max_tokens": 16,
    "min_tokens": 0,
    "stop_token_ids": [],
    "logit_bias": {},
    "logprobs": None,
}
RANDOM = GREEDY | {"temperature": 1.0, "top_p": 0.95, "top_k": 50}


def _settings(workspace: Path, **changes: str | int | bool) -> dict[str, Any]:
    settings = EngineSettings(
        workspace=str(workspace),
        isa="auto",
        threads=1,
        num_blocks=128,
        block_size=16,
        kv_bits=4,
        activation_bits=32,
        max_num_seqs=16,
        max_batch_tokens=64,
        context_length=1024,
        prefix_caching=True,
    )
    return asdict(settings) | changes


def _prompt(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 256, count)]


def _run(engine: Engine) -> dict[int, list[int]]:
    """Step until nothing is left; the tokens of each request."""
    tokens: dict[int, list[int]] = {}
    while engine.has_work():
        for output in engine.step():
            tokens.setdefault(output.id, []).extend(output.token_ids)
    return tokens


def _alone(workspace: Path, prompt: list[int], params: dict[str, Any]) -> list[int]:
    engine = Engine(**_settings(workspace, prefix_caching=False))
    engine.submit(0, prompt, **params)
    return _run(engine)[0]


def test_sixteen_mixed_requests_get_the_tokens_of_a_run_alone(tiny_workspace: Path) -> None:
    requests = [
        (
            _prompt(3 + 37 * index % 200, index),
            (RANDOM | {"seed": index} if index % 2 else GREEDY) | {"max_tokens": 10 + index},
        )
        for index in range(16)
    ]
    expected = [_alone(tiny_workspace, prompt, params) for prompt, params in requests]
    for changes in (
        {"threads": 2, "max_batch_tokens": 256},
        {"max_batch_tokens": 17},
        {"num_blocks": 24},
    ):
        engine = Engine(**_settings(tiny_workspace, **changes))
        for index, (prompt, params) in enumerate(requests):
            engine.submit(index, prompt, **params)
        tokens = _run(engine)
        assert [tokens[index] for index in range(16)] == expected
        stats = engine.stats()
        assert stats["used_blocks"] == 0
        if "threads" in changes:
            per_step = stats["seqs_per_step"]
            assert isinstance(per_step, list) and sum(per_step[15:]) > 0


def test_a_long_prompt_enters_over_steps_in_which_every_stream_gets_a_token(
    tiny_workspace: Path,
) -> None:
    engine = Engine(**_settings(tiny_workspace, prefix_caching=False))
    for index in range(4):
        engine.submit(index, _prompt(5, index), **GREEDY | {"max_tokens": 100})
    engine.step()
    engine.submit(9, _prompt(400, 9), **GREEDY)
    steps = 0
    first_token_of_the_long_one = False
    while not first_token_of_the_long_one:
        outputs = engine.step()
        steps += 1
        assert {output.id for output in outputs} >= {0, 1, 2, 3}
        first_token_of_the_long_one = any(output.id == 9 for output in outputs)
    assert steps == 7


def test_after_many_random_aborts_no_block_is_used_and_no_other_request_changed(
    tiny_workspace: Path,
) -> None:
    prompt = _prompt(60, 5)
    expected = _alone(tiny_workspace, prompt, GREEDY | {"max_tokens": 80})
    engine = Engine(**_settings(tiny_workspace))
    rng = np.random.default_rng(1)
    engine.submit(1000, prompt, **GREEDY | {"max_tokens": 80})
    kept: list[int] = []
    reasons: dict[int, str] = {}
    for index in range(200):
        engine.submit(index, _prompt(int(rng.integers(1, 90)), index % 7), **GREEDY)
        engine.abort(int(rng.integers(0, index + 1)))
        for output in engine.step():
            if output.id == 1000:
                kept += output.token_ids
            if output.finish_reason:
                assert output.id not in reasons
                reasons[output.id] = output.finish_reason
    for index in range(200):
        engine.abort(index)
    for _ in range(2):
        for output in engine.step():
            reasons.setdefault(output.id, str(output.finish_reason))
    assert set(reasons) == {1000, *range(200)}
    assert kept == expected
    assert engine.stats()["used_blocks"] == 0
    assert not engine.has_work()


def test_a_seed_gives_the_same_tokens_whatever_the_batch(tiny_workspace: Path) -> None:
    engine = Engine(**_settings(tiny_workspace))
    prompt = _prompt(8)
    for index in range(8):
        engine.submit(index, prompt, **RANDOM | {"seed": index % 4})
    tokens = _run(engine)
    assert [tokens[index] for index in range(4)] == [tokens[index] for index in range(4, 8)]
    assert len({tuple(tokens[index]) for index in range(4)}) == 4
    # Any integer is a seed.
    engine.submit(50, prompt, **RANDOM | {"seed": -1})
    engine.submit(51, prompt, **RANDOM | {"seed": 2**64 - 1})
    tokens = _run(engine)
    assert tokens[50] == tokens[51]


def test_logprobs_of_the_choice_and_the_best_come_as_asked(tiny_workspace: Path) -> None:
    engine = Engine(**_settings(tiny_workspace))
    engine.submit(1, _prompt(8), **GREEDY | {"logprobs": 3, "max_tokens": 2})
    engine.submit(2, _prompt(8), **GREEDY | {"max_tokens": 2})
    outputs = engine.step()
    with_logprobs, without = sorted(outputs, key=lambda output: output.id)
    assert with_logprobs.token_ids == without.token_ids
    [best] = with_logprobs.top_logprobs
    assert len(best) == 3
    assert best[0] == (with_logprobs.token_ids[0], with_logprobs.logprobs[0])
    assert best[0][1] >= best[1][1] >= best[2][1]
    assert without.logprobs == [] and without.top_logprobs == []


@pytest.mark.skipif(len(supported_isas()) < 2, reason="this machine runs the generic kernels only")
@pytest.mark.parametrize("kv_bits", [32, 16])
def test_the_isas_agree(tiny_workspace: Path, kv_bits: int) -> None:
    tokens = _prompt(200)
    *others, generic = (
        Engine(**_settings(tiny_workspace, isa=isa, kv_bits=kv_bits)).logits(tokens)
        for isa in supported_isas()
    )
    for logits in others:
        # 16 bits: a sum in another order may round a key to the neighbouring float16.
        assert np.abs(logits - generic).max() < {32: 1e-3, 16: 2e-2}[kv_bits]


def test_steps_let_other_python_threads_run(tiny_workspace: Path) -> None:
    engine = Engine(**_settings(tiny_workspace, isa="generic"))
    engine.submit(1, _prompt(900), **GREEDY)
    stepping = threading.Event()
    outputs: list[StepOutput] = []

    def drive() -> None:
        stepping.set()
        while engine.has_work():
            outputs.extend(engine.step())

    thread = threading.Thread(target=drive)
    thread.start()
    assert stepping.wait(10)
    engine.submit(2, _prompt(3), **GREEDY)  # beside a running step
    engine.abort(1)
    thread.join(60)
    assert {output.id for output in outputs} == {1, 2}


def test_settings_in_force_and_statistics_have_the_fields_of_the_contract(
    tiny_workspace: Path,
) -> None:
    settings = _settings(tiny_workspace)
    engine = Engine(**settings)
    in_force = engine.effective_config()
    memory = in_force["weight_memory"]
    assert (memory == "mapped") == bool(engine.why_mapped())
    assert in_force == settings | {"isa": supported_isas()[0], "weight_memory": memory}
    names = {field.name for field in msgspec.structs.fields(Stats)}
    assert set(engine.stats()) == names - {"rss_bytes", "busy_seconds"}
    assert engine.vocab_size == VOCAB
    engine.submit(1, _prompt(40), **GREEDY)
    engine.submit(2, _prompt(40, 2), **GREEDY)
    assert engine.stats()["waiting"] == 2
    _run(engine)
    engine.submit(3, _prompt(40), **GREEDY)
    _run(engine)
    stats = engine.stats()
    assert stats["prompt_tokens"] == 120
    assert stats["completion_tokens"] == 48
    assert stats["cached_tokens"] == 32
    assert stats["running"] == stats["waiting"] == stats["used_blocks"] == 0


def test_what_a_caller_can_mend_is_a_value_error(tiny_workspace: Path) -> None:
    engine = Engine(**_settings(tiny_workspace))
    with pytest.raises(ValueError, match=r"^prompt: 1025 tokens; the context length is 1024\.$"):
        engine.submit(1, _prompt(1025), **GREEDY)
    with pytest.raises(ValueError, match=r"^top_p=0: expected more than 0 and at most 1\.$"):
        engine.submit(1, [1], **GREEDY | {"top_p": 0.0})
    with pytest.raises(ValueError, match=r"^kv_bits=3: expected 32, 16, 8 or 4\.$"):
        Engine(**_settings(tiny_workspace, kv_bits=3))
    with pytest.raises(ValueError, match=r"^activation_bits=24: expected 32, 16 or 8\.$"):
        Engine(**_settings(tiny_workspace, activation_bits=24))
    engine.submit(1, [1], **GREEDY)
    with pytest.raises(RuntimeError, match=r"^logits: other requests run\.$"):
        engine.logits([1, 2])


def test_a_truncated_workspace_is_named(tiny_workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    shutil.copytree(tiny_workspace, folder)
    tensors = folder / "rank-0.safetensors"
    with tensors.open("r+b") as file:
        file.truncate(2 << 20 >> 1)
    with pytest.raises(RuntimeError, match=r"rank-0\.safetensors: .* the file is truncated\.$"):
        Engine(**_settings(folder))
    tensors.unlink()
    with pytest.raises(RuntimeError, match=r"rank-0\.safetensors: cannot open: No such file"):
        Engine(**_settings(folder))


def test_an_isa_this_machine_lacks_is_refused_by_name(tiny_workspace: Path) -> None:
    with pytest.raises(RuntimeError, match="Use auto, generic, avx2, avx512 or amx"):
        Engine(**_settings(tiny_workspace, isa="neon"))
