"""The stages that judge a deployment: when they are needed, what names them, what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.manifest import ManifestFields
from lmrun.config.schema import EvaluateConfig
from lmrun.errors import ConfigError, PlanError
from lmrun.plan import evaluation, quality
from lmrun.plan.plan import Action, Plan
from lmrun.plan.text import plan_text
from unit.plan.conftest import Bench, fill

Write = Callable[..., Path]


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "held_out.txt"
    path.write_text("Once upon a time there was a boat.\n" * 30)
    return f"evaluate.data={path}"


def test_how_a_text_is_read_counts_beside_its_bytes(bench: Bench, tmp_path: Path) -> None:
    names = set()
    for suffix in (".txt", ".jsonl"):
        path = tmp_path / f"held_out{suffix}"
        path.write_text('{"text": "Once upon a time there was a boat."}\n' * 30)
        names.add(_fingerprint(bench.plan(f"evaluate.data={path}"), "baseline"))
    assert len(names) == 2


def _stages(plan: Plan) -> list[str]:
    return [stage.name for stage in plan.stages]


def _fingerprint(plan: Plan, stage: str) -> str:
    found = plan.stage(stage)
    assert found is not None
    assert found.fingerprint is not None
    return found.fingerprint


def test_without_a_wish_nothing_is_evaluated(bench: Bench) -> None:
    plan = bench.plan()
    assert _stages(plan) == ["resolve", "calibrate", "quantize", "convert"]
    assert (plan.evaluated, plan.quality, plan.gates) == (None, None, ())
    assert "\nquality" not in plan_text(plan)


def test_a_text_needs_a_baseline_and_tasks_alone_do_not(bench: Bench, text: str) -> None:
    judging = ["baseline", "evaluate"]
    assert _stages(bench.plan(text))[-2:] == judging
    tasks = bench.checkpoint.parent / "t.jsonl"
    tasks.write_text("{}\n")
    assert _stages(bench.plan(f"evaluate.tasks.own={tasks}"))[-1] == "evaluate"
    assert bench.plan(f"evaluate.tasks.own={tasks}").stage("baseline") is None


def test_files_not_hashed_leave_the_judging_unknown(bench: Bench, text: str) -> None:
    plan = bench.plan(text, hashed=False)
    for name in ("baseline", "evaluate"):
        stage = plan.stage(name)
        assert stage is not None
        assert (stage.action, stage.fingerprint) == (Action.unknown, None)
        assert stage.why.startswith("not yet hashed, ")
    assert plan.unhashed[-1].name == "held_out.txt"


def test_the_baseline_is_the_same_for_every_deployment_of_the_model(
    bench: Bench, text: str
) -> None:
    one = _fingerprint(bench.plan(text), "baseline")
    for words in (["kv.bits=4"], ["quant=none"], ["quant.method=rtn"], ["evaluate.max_kl=1"]):
        assert _fingerprint(bench.plan(text, *words), "baseline") == one
    assert _fingerprint(bench.plan(text, "evaluate.window=128"), "baseline") != one


@pytest.mark.parametrize(
    "words", [["kv.bits=4"], ["quant=none"], ["backend.isa=generic"], ["evaluate.task_limit=2"]]
)
def test_what_moves_quality_evaluates_again(bench: Bench, text: str, words: list[str]) -> None:
    before, after = bench.plan(text), bench.plan(text, *words)
    assert _fingerprint(before, "evaluate") != _fingerprint(after, "evaluate")


@pytest.mark.parametrize(
    "words",
    [["evaluate.max_ppl=9"], ["backend.threads=1"], ["kv.block_size=32"], ["frontend.port=8000"]],
)
def test_what_moves_no_figure_does_not(bench: Bench, text: str, words: list[str]) -> None:
    before, after = bench.plan(text), bench.plan(text, *words)
    assert _fingerprint(before, "evaluate") == _fingerprint(after, "evaluate")


def test_files_count_by_content_and_not_by_place(bench: Bench, text: str, tmp_path: Path) -> None:
    before = _fingerprint(bench.plan(text), "evaluate")
    copy = tmp_path / "elsewhere.txt"
    copy.write_text((tmp_path / "held_out.txt").read_text())
    assert _fingerprint(bench.plan(f"evaluate.data={copy}"), "evaluate") == before
    copy.write_text("Another text.\n" * 30)
    assert _fingerprint(bench.plan(f"evaluate.data={copy}"), "evaluate") != before


def test_the_file_beside_a_task_file_is_an_input(bench: Bench, tmp_path: Path) -> None:
    tasks = tmp_path / "piqa.jsonl"
    tasks.write_text("{}\n")
    (tmp_path / "piqa.labels").write_text("0\n")
    word = f"evaluate.tasks.piqa={tasks}"
    before = bench.plan(word)
    stage = before.stage("evaluate")
    assert stage is not None
    assert {"tasks.piqa", "tasks.piqa.beside"} <= set(stage.inputs)
    assert tasks in evaluation.external_files(before)
    (tmp_path / "piqa.labels").write_text("11\n")
    assert _fingerprint(bench.plan(word), "evaluate") != _fingerprint(before, "evaluate")


def test_a_template_counts_by_its_words_where_the_model_is_asked(
    bench: Bench, text: str, tmp_path: Path
) -> None:
    tools = tmp_path / "tools.jsonl"
    tools.write_text("{}\n")
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    words = [f"evaluate.tools={tools}", f"model.chat_template={template}"]
    before = _fingerprint(bench.plan(*words), "evaluate")
    moved = template.rename(tmp_path / "other.jinja")
    words[1] = f"model.chat_template={moved}"
    assert _fingerprint(bench.plan(*words), "evaluate") == before
    moved.write_text("{{ messages[0] }}")
    assert _fingerprint(bench.plan(*words), "evaluate") != before
    alone = _fingerprint(bench.plan(text), "evaluate")
    assert _fingerprint(bench.plan(text, words[1]), "evaluate") == alone


def test_a_cached_report_is_in_the_plan_with_what_the_gate_says(bench: Bench, text: str) -> None:
    report = {"perplexity": 5.0, "tasks": {}, "tools": None, "notes": []}
    _pretend_to_evaluate(bench, bench.plan(text), report)
    plan = bench.plan(text, "evaluate.max_ppl=4")
    assert plan.quality == report
    assert [(gate.value, gate.passed) for gate in plan.gates] == [(5.0, False)]
    assert "quality\n  ppl  5  at most 4: FAILED\n" in plan_text(plan)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def _pretend_to_evaluate(bench: Bench, plan: Plan, report: dict[str, Any]) -> None:
    stage = plan.stage("evaluate")
    assert stage is not None

    def work(folder: Path) -> ManifestFields:
        (folder / quality.REPORT).write_text(json.dumps(report))
        metrics = {
            quality.SETTINGS: quality.settings(plan.config),
            quality.MODEL: quality.model_of(plan),
        }
        return replace(fill(folder, stage, {}), metrics=metrics)

    bench.store.build("evaluate", str(stage.fingerprint), work)


def test_a_damaged_report_is_none(bench: Bench, text: str) -> None:
    bench.pretend_to_build(bench.plan(text))
    assert bench.plan(text, "evaluate.max_ppl=4").quality is None


def test_the_nearest_setting_that_passed_differs_least(bench: Bench, text: str) -> None:
    seen = {"kv.bits=16": 1.0, "kv.bits=8": 1.01, "quant=none kv.bits=8": 1.0}
    for words, ratio in seen.items():
        report = {"perplexity": 5.0, "ppl_ratio": ratio, "tasks": {}, "tools": None, "notes": []}
        _pretend_to_evaluate(bench, bench.plan(text, *words.split()), report)
    plan = bench.plan(text, "kv.bits=4")
    bound = EvaluateConfig(data="x", max_ppl_ratio=1.02)
    found = quality.nearest_passing(plan, bench.store, bound)
    assert found is not None
    assert found.text == "kv.bits=8"
    strict = EvaluateConfig(data="x", max_ppl_ratio=1.005)
    found = quality.nearest_passing(plan, bench.store, strict)
    assert found is not None
    assert found.text == "kv.bits=16"
    assert quality.nearest_passing(plan, bench.store, EvaluateConfig(data="x", max_kl=1)) is None


def test_what_was_measured_on_another_text_is_no_neighbour(
    bench: Bench, text: str, tmp_path: Path
) -> None:
    report = {"perplexity": 5.0, "ppl_ratio": 1.0, "tasks": {}, "tools": None, "notes": []}
    _pretend_to_evaluate(bench, bench.plan(text, "kv.bits=8"), report)
    (tmp_path / "other.txt").write_text("Another text.\n" * 30)
    plan = bench.plan(f"evaluate.data={tmp_path / 'other.txt'}", "kv.bits=4")
    bound = EvaluateConfig(data="x", max_ppl_ratio=1.02)
    assert quality.nearest_passing(plan, bench.store, bound) is None


def test_before_it_is_evaluated_the_plan_shows_the_bounds(bench: Bench, text: str) -> None:
    plan = bench.plan(text, "evaluate.max_ppl_ratio=1.02")
    assert (
        "quality   not evaluated yet\n  ppl_ratio  at most 1.02  not evaluated yet\n"
        in plan_text(plan)
    )


def test_a_workspace_stays_needed_though_its_evaluation_is_cached(bench: Bench, text: str) -> None:
    plan = bench.plan(text)
    bench.pretend_to_build(plan)
    convert = plan.stage("convert")
    assert convert is not None
    assert convert.fingerprint is not None
    (bench.store.folder("convert", convert.fingerprint) / "data").unlink()
    actions = {stage.name: stage.action.value for stage in bench.plan(text).stages}
    assert (actions["convert"], actions["evaluate"]) == ("run", "cached")


def test_a_baseline_of_ones_own_replaces_the_model(
    bench: Bench, text: str, write_checkpoint: Write
) -> None:
    other = write_checkpoint("other", num_hidden_layers=1)
    word = f"evaluate.baseline={other}"
    plan = bench.plan(text, word)
    stage = plan.stage("baseline")
    assert stage is not None
    assert "resolve" not in stage.inputs
    assert {"reference/config.json", "reference/model.safetensors"} <= set(stage.inputs)
    assert plan.evaluated is not None
    assert plan.evaluated.reference == other


def test_a_baseline_of_another_vocabulary_is_refused(
    bench: Bench, text: str, write_checkpoint: Write
) -> None:
    other = write_checkpoint("other", vocab_size=32)
    with pytest.raises(PlanError) as caught:
        bench.plan(text, f"evaluate.baseline={other}")
    assert str(caught.value) == (
        f"evaluate.baseline={other} (command line): expected a vocabulary of 64 tokens, that of the"
        " model, got 32. Name a model with the same tokenizer."
    )


REFUSED = {
    "evaluate.data=nowhere.txt": "no such file (",
    "evaluate.data=words.bin": "expected a .txt or .jsonl file, or builtin:stories.",
    "evaluate.tasks.arc=nowhere.jsonl": "no such file (",
    "evaluate.tools=nowhere.jsonl": "no such file (",
}


@pytest.mark.parametrize("word", REFUSED)
def test_a_file_that_is_not_there_is_refused_by_its_key(bench: Bench, word: str) -> None:
    with pytest.raises(PlanError) as caught:
        bench.plan(word)
    assert str(caught.value).startswith(f"{word} (command line): {REFUSED[word]}")


def test_a_builtin_that_is_not_there_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError) as caught:
        bench.plan("evaluate.data=builtin:novels")
    assert str(caught.value) == (
        "evaluate.data=builtin:novels (command line): no such built-in data. Use builtin:stories or"
        " a file."
    )


def test_a_window_must_fit_the_context(bench: Bench, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        bench.plan(text, "backend.context_length=64")
    assert str(caught.value) == (
        "evaluate.window=256 (default): must be at most 64, the context of this deployment. Write"
        " evaluate.window=64, or raise backend.context_length."
    )


def test_a_bound_without_its_figure_is_refused_with_its_origin(bench: Bench) -> None:
    with pytest.raises(ConfigError) as caught:
        bench.plan("evaluate.max_kl=0.1")
    assert str(caught.value) == (
        "evaluate.max_kl=0.1 (command line): no text is evaluated. Write evaluate.data=FILE, or"
        " evaluate=quick."
    )


def test_what_the_judging_needs_is_counted(bench: Bench, text: str) -> None:
    costs = {cost.stage: cost for cost in bench.plan(text).budget.offline}
    rows = bench.plan(text, "evaluate.kl_tokens=8192").budget.offline
    more = {cost.stage: cost for cost in rows}["baseline"].disk_bytes
    assert more - costs["baseline"].disk_bytes == (8192 - 4096) * 64 * 2
    assert costs["evaluate"].disk_bytes == 64 << 10


def test_the_digest_cache_knows_what_a_plan_asks_to_hash(bench: Bench, text: str) -> None:
    plan = bench.plan(text, hashed=False)
    assert len(set(plan.unhashed)) == len(plan.unhashed)
    DigestCache(bench.store.home).hash_files(plan.unhashed)
    assert bench.plan(text, hashed=False).unhashed == ()
