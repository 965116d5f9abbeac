"""Baseline and evaluate: through the engine, kept part by part, the same bytes each time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmrun.artifacts.store import Store
from lmrun.errors import LmrunError, PlanError, StageError
from lmrun.evals import report
from lmrun.evals import run as evals
from lmrun.models import builtin_data
from lmrun.plan import gate, quality
from lmrun.plan.plan import Action
from lmrun.stages.runner import ALL, build
from unit.stages.projects import Project

HELD_OUT = "The teacher counted the stones while a quiet boat crossed the river. " * 40


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A text, a task of choices, and short windows."""
    (tmp_path / "held_out.txt").write_text(HELD_OUT)
    items = [
        {"prompt": "A boat crossed the quiet", "choices": ["river", "teacher"], "answer": 0},
        {"prompt": "The teacher counted 12", "choices": ["boats", "stones"], "answer": 1},
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return [
        f"evaluate.data={tmp_path / 'held_out.txt'}",
        f"evaluate.tasks.own={tmp_path / 'own.jsonl'}",
        "evaluate.window=32",
        "evaluate.max_tokens=310",
        "evaluate.kl_tokens=62",
        "quant.method=rtn",
    ]


def _evaluate(project: Project, words: list[str]) -> dict[str, Any]:
    build(project.plan(*words), project.store, goal=ALL)
    document = quality.of(project.plan(*words), project.store)
    assert document is not None
    return document


def test_the_report_holds_figures_of_text_and_tasks(project: Project, words: list[str]) -> None:
    document = _evaluate(project, words)
    jsonschema.Draft202012Validator(report.SCHEMA).validate(document)
    assert set(gate.figures(document)) == {"ppl", "ppl_ratio", "kl", "top1", "task.own"}
    assert document["kl"] > 0
    assert document["protocol"]["tokens"] == 310
    assert document["protocol"]["kl_tokens"] == 62
    assert document["seconds"] == {}
    fields = project.artifact("evaluate", *words).manifest.fields
    assert set(fields.metrics["seconds"]) == {"text", "tasks.own"}
    assert fields.metrics["settings"]["quant.method"] == "rtn"
    assert fields.numeric_class is not None
    assert set(fields.numeric_class) == {"device", "cpu", "isa", "engine"}
    assert all(stage.action is Action.cached for stage in project.plan(*words).stages)


def test_the_model_against_itself_differs_by_nothing(project: Project, words: list[str]) -> None:
    document = _evaluate(project, [*words, "quant.method=none"])
    assert (document["ppl_ratio"], document["top1"]) == (1.0, 1.0)
    assert document["kl"] == pytest.approx(0, abs=1e-5)
    # one workspace serves the deployment and its baseline
    assert len(project.store.manifests("convert")) == 1


def test_the_baseline_is_computed_once_and_shares_the_unquantized_workspace(
    project: Project, words: list[str]
) -> None:
    _evaluate(project, words)
    _evaluate(project, [*words, "quant.skip=[layers.0.mlp.down_proj]"])
    document = _evaluate(project, [*words, "kv.bits=4"])
    assert document["engine"]["kv_bits"] == 4
    assert document["baseline"]["engine"]["kv_bits"] == 16
    counts = {name: len(project.store.manifests(name)) for name in ("baseline", "evaluate")}
    assert counts == {"baseline": 1, "evaluate": 3}
    stamps = [path.stat().st_mtime_ns for path in _converted(project)]
    build(project.plan(*words, "quant.method=none"), project.store)
    assert [path.stat().st_mtime_ns for path in _converted(project)] == stamps


def _converted(project: Project) -> list[Path]:
    return sorted((project.store.home / "artifacts/convert").glob("*/rank-0.safetensors"))


def test_the_goal_of_a_launch_evaluates_nothing(project: Project, words: list[str]) -> None:
    workspace = build(project.plan(*words), project.store)
    assert (workspace / "model.json").is_file()
    assert project.store.manifests("baseline") == []
    assert project.store.manifests("evaluate") == []


def test_equal_engines_write_equal_bytes(
    project: Project, words: list[str], tmp_path: Path
) -> None:
    _evaluate(project, words)
    first = _bytes(project, words)
    other = Project(project.model, project.text, Store(tmp_path / "elsewhere"))
    _evaluate(other, [*words, "backend.threads=1", "backend.max_batch_tokens=64"])
    assert _bytes(other, words) == first
    assert {"report.json", "rows.npy", "logprobs.npy", "tasks.own.jsonl"} <= set(first)


def _bytes(project: Project, words: list[str]) -> dict[str, str]:
    return {
        name: record.sha256
        for stage in ("baseline", "evaluate")
        for name, record in project.artifact(stage, *words).manifest.files.items()
    }


def test_a_killed_evaluation_goes_on_with_the_part_that_is_not_done(
    project: Project, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _evaluate(project, words)
    for artifact in (project.artifact("evaluate", *words),):
        for path in artifact.path.iterdir():
            path.unlink()
        artifact.path.rmdir()
    seen: list[tuple[bool, list[str]]] = []
    evaluate = evals.evaluate

    def dying(*arguments: Any, **named: Any) -> Any:
        asked = arguments[1]
        seen.append((asked.data is not None, list(asked.tasks)))
        if asked.tasks and len(seen) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments, **named)

    monkeypatch.setattr(evals, "evaluate", dying)
    with pytest.raises(KeyboardInterrupt):
        build(project.plan(*words), project.store, goal=ALL)
    assert quality.of(project.plan(*words), project.store) is None
    assert _evaluate(project, words) == whole
    assert seen == [(True, []), (False, ["own"]), (False, ["own"])]


def test_after_kill_9_the_bytes_are_those_of_an_uninterrupted_run(
    project: Project, words: list[str], tmp_path: Path
) -> None:
    _evaluate(project, words)
    other = Project(project.model, project.text, Store(tmp_path / "killed"))
    child = subprocess.Popen(
        [sys.executable, "-m", "lmrun.stages.runner", ALL],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "LMRUN_HOME": str(other.store.home)},
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(other.plan(*words).to_json()))
    child.stdin.close()
    part = other.store.home / "partial"
    while child.poll() is None and not list(part.glob("evaluate-*/.resume/text/quality.json")):
        time.sleep(0.002)
    child.kill()
    child.wait()
    _evaluate(other, words)
    assert _bytes(other, words) == _bytes(project, words)


@pytest.mark.parametrize(
    ("file", "content", "refusal"),
    [
        ("own.jsonl", "no JSON\n", r"own.jsonl:1: expected JSON"),
        ("held_out.txt", "Too short.", r"evaluate.data=held_out.txt: expected at least one window"),
        ("held_out.txt", "\x00 \udcff", r"held_out.txt: expected UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_refused_before_anything_is_built(
    project: Project, words: list[str], tmp_path: Path, file: str, content: str, refusal: str
) -> None:
    (tmp_path / file).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LmrunError, match=refusal):
        build(project.plan(*words), project.store, goal=ALL)
    assert project.store.manifests("quantize") == []


def test_tools_that_the_model_cannot_be_offered_are_refused_before_anything_is_built(
    project: Project, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "tools.jsonl").write_bytes(builtin_data.TOOLS["tools"].read_bytes())
    for asked in (
        [*words, f"evaluate.tools={tmp_path / 'tools.jsonl'}"],
        [*words, "evaluate.tools=builtin:tools", "evaluate.min_tool_accuracy=0.5"],
        [words[-1], "evaluate.tools=builtin:tools"],
    ):
        with pytest.raises(PlanError, match=r"evaluate.tools: the model in .* no chat template"):
            build(project.plan(*asked), project.store, goal=ALL)
    assert project.store.manifests("quantize") == []


def test_the_tools_of_quick_are_left_out_of_a_model_that_cannot_be_offered_any(
    project: Project, words: list[str]
) -> None:
    document = _evaluate(project, [*words, "evaluate.tools=builtin:tools"])
    assert document["tools"] is None
    assert document["notes"] == [
        "tools: builtin:tools is left out, because the model's chat template has no tools or writes"
        " calls in no format that is built yet"
    ]


def test_a_text_that_is_replaced_meanwhile_gives_no_report(
    project: Project, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = evals.evaluate

    def replacing(*arguments: Any, **named: Any) -> Any:
        found = evaluate(*arguments, **named)
        (tmp_path / "held_out.txt").write_text(HELD_OUT + "More of it.")
        return found

    monkeypatch.setattr(evals, "evaluate", replacing)
    with pytest.raises(StageError, match=r"held_out.txt: expected the file that was planned with"):
        build(project.plan(*words), project.store, goal=ALL)
    assert project.store.manifests("evaluate") == []


def test_a_workspace_is_evaluated_by_the_digests_of_its_files(
    project: Project, words: list[str]
) -> None:
    workspace = build(project.plan(*words), project.store)
    served = [*words, f"model.path={workspace}", "quant.method=none"]
    plan = project.plan(*served)
    assert [stage.name for stage in plan.stages] == ["evaluate"]
    assert any(note.startswith("evaluate: the model is a workspace") for note in plan.notes)
    document = _evaluate(project, served)
    assert set(gate.figures(document)) == {"ppl", "task.own"}
    stage = project.plan(*served).stage("evaluate")
    assert stage is not None
    assert {"model.json", "rank-0.safetensors", "tokenizer.json"} <= set(stage.inputs)


def test_figures_never_move(project: Project, words: list[str]) -> None:
    """A change here needs a higher code version of baseline or evaluate in `stage_specs`.

    On the generic kernels, which compute the same everywhere but for the last digits.
    """
    document = _evaluate(project, [*words, "kv.bits=4", "backend.isa=generic"])
    found = {name: f"{value:.4g}" for name, value in gate.figures(document).items()}
    assert found == {
        "ppl": "506.3",
        "ppl_ratio": "0.943",
        "kl": "0.1483",
        "top1": "0.4516",
        "task.own": "0.5",
    }
