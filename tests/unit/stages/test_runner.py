"""Which stages run, what their manifests say, and which bytes they write."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest
import torch

from lmrun.artifacts.store import Store
from lmrun.errors import StageError
from lmrun.models import builtin
from lmrun.models.tokenizer import Tokenizer
from lmrun.plan.plan import Action
from lmrun.plan.stage_specs import JUDGING, STAGES
from lmrun.stages import resolve, runner
from unit.stages.projects import Project

Write = Callable[..., Path]


def test_the_table_of_stages_is_what_is_implemented() -> None:
    assert list(runner.MODULES) == [stage.name for stage in STAGES]
    for name, module in runner.MODULES.items():
        assert module == f"lmrun.stages.{name}"
        assert callable(import_module(module).run)


def _built(project: Project) -> dict[str, int]:
    return {
        stage.name: len(project.store.manifests(stage.name))
        for stage in STAGES
        if stage.name not in JUDGING
    }


def test_only_what_changed_runs_again(project: Project) -> None:
    first = project.build()
    assert _built(project) == {
        "resolve": 0,
        "prune": 0,
        "calibrate": 1,
        "quantize": 1,
        "convert": 1,
    }
    stamp = (first / "manifest.json").stat().st_mtime_ns
    assert project.build() == first
    assert project.build("kv.bits=4") == first
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    assert project.build("quant.group_size=32", "quant.skip=[layers.0.mlp.down_proj]") != first
    assert _built(project) == {
        "resolve": 0,
        "prune": 0,
        "calibrate": 1,
        "quantize": 2,
        "convert": 2,
    }
    assert all(stage.action is Action.cached for stage in project.plan().stages)


def test_a_damaged_artifact_is_built_again(project: Project) -> None:
    workspace = project.build("quant.method=rtn")
    whole = sha256((workspace / "rank-0.safetensors").read_bytes()).hexdigest()
    with (workspace / "rank-0.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert project.build("quant.method=rtn") == workspace
    assert sha256((workspace / "rank-0.safetensors").read_bytes()).hexdigest() == whole


def test_manifests_tell_how_an_artifact_came_about(project: Project) -> None:
    project.build()
    plan = project.plan()
    for name in ("calibrate", "quantize", "convert"):
        fields = project.artifact(name).manifest.fields
        stage = plan.stage(name)
        assert stage is not None
        assert (fields.stage, fields.fingerprint) == (name, stage.fingerprint)
        assert fields.config == stage.config
        assert fields.inputs == stage.inputs
        assert fields.numeric_class == stage.numeric_class
        assert fields.seconds >= 0
        assert fields.versions["torch"] == torch.__version__
    assert "fallbacks" not in project.artifact("calibrate").manifest.fields.metrics


def test_a_fallback_is_recorded(project: Project) -> None:
    (Path(project.model) / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    project.build()
    assert project.artifact("calibrate").manifest.fields.metrics["fallbacks"] == [
        "the tokenizer has no BOS token: sequences start without one"
    ]


def test_building_leaves_the_arithmetic_of_torch_as_it_was(project: Project) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        project.build()
        assert torch.get_num_threads() == 1
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_that_changes_meanwhile_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = import_module("lmrun.stages.convert").run

    def run_and_touch(context: object) -> object:
        result = real(context)
        with (Path(project.model) / "tokenizer.json").open("a") as file:
            file.write(" ")
        return result

    monkeypatch.setattr("lmrun.stages.convert.run", run_and_touch)
    with pytest.raises(StageError, match=r"tokenizer\.json: expected the file that was planned"):
        project.build("quant.method=none")
    assert project.store.manifests("convert") == []


def test_a_workspace_needs_no_stage(project: Project) -> None:
    workspace = project.build("quant.method=rtn")
    again = Project(str(workspace), project.text, Store(project.store.home / "other"))
    assert again.build() == workspace
    assert not (project.store.home / "other").exists()


def test_the_child_prints_the_workspace_and_nothing_else(project: Project) -> None:
    plan = project.plan("quant.method=rtn")
    ran = _child(json.dumps(plan.to_json()), project.store.home)
    assert ran.returncode == 0, ran.stderr
    workspace = project.plan("quant.method=rtn").workspace
    assert ran.stdout == json.dumps({"workspace": str(workspace)}) + "\n"
    assert "\r" not in ran.stderr, "no progress bar where stderr is no terminal"


def test_the_child_ends_with_one_message_and_a_status(project: Project) -> None:
    plan = project.plan()
    project.text.write_text("short")
    ran = _child(json.dumps(plan.to_json()), project.store.home)
    assert (ran.returncode, ran.stdout) == (5, "")
    assert ran.stderr.splitlines()[-1].startswith(f"calibration.data={project.text}: expected text")
    assert "Traceback" not in ran.stderr


def _child(document: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lmrun.stages.runner"],
        input=document,
        env={**os.environ, "LMRUN_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _digest(folder: Path, names: tuple[str, ...]) -> str:
    found = sha256()
    for name in names:
        found.update((folder / name).read_bytes())
    return found.hexdigest()[:16]


def test_a_built_in_model_never_moves(tmp_path: Path) -> None:
    """A change here needs a higher `version` in `lmrun.models.builtin`."""
    resolve.write_builtin(builtin.get("builtin:random-llama"), tmp_path)
    names = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    assert _digest(tmp_path, (*names, "tokenizer_config.json")) == "91d0c180aaff0db7"
    tokenizer = Tokenizer.from_folder(tmp_path)
    text = "Grüße, 世界!\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == 512


def test_rounding_and_converting_never_move(project: Project) -> None:
    """A change here needs a higher code version of quantize or convert in `stage_specs`."""
    workspace = project.build("quant.method=rtn")
    quantized = project.artifact("quantize", "quant.method=rtn").path
    assert _digest(quantized, ("config.json", "model.safetensors")) == "5b81561d2402b909"
    assert _digest(workspace, ("rank-0.safetensors",)) == "f257d4c597619691"


def test_calibrating_and_awq_give_the_same_bytes_in_another_process(
    project: Project, tmp_path: Path
) -> None:
    project.build()
    other = Project(project.model, project.text, Store(tmp_path / "other"))
    ran = _child(json.dumps(other.plan().to_json()), tmp_path / "other")
    assert ran.returncode == 0, ran.stderr
    for stage in ("calibrate", "quantize", "convert"):
        one, two = project.artifact(stage).manifest, other.artifact(stage).manifest
        assert {name: file.sha256 for name, file in one.files.items()} == {
            name: file.sha256 for name, file in two.files.items()
        }
