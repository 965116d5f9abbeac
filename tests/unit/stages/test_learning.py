"""Learned rounding as a build: better than rounding, and the same bytes every time."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lmrun.artifacts.store import Store
from lmrun.stages import calibrate
from lmrun.stages.runner import build
from unit.stages.projects import Project
from unit.stages.test_quantize import dequantized, logits

Write = Callable[..., Path]
LEARNED = "quant.method=autoround"
LONGER = ("calibration.samples=48", "calibration.seq_len=64")
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
}


def _written(project: Project, *overrides: str) -> Path:
    project.build(*overrides)
    return project.artifact("quantize", *overrides).path


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _error(folder: Path, written: Path, ids: torch.Tensor) -> float:
    """Of the logits, over their variance; ``folder`` is the float model, and becomes untied where
    the written one is."""
    exact = logits(folder, None, ids)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = json.loads((written / "config.json").read_text())[
        "tie_word_embeddings"
    ]
    (folder / "config.json").write_text(json.dumps(config))
    found = logits(folder, dequantized(written), ids)
    return float((found - exact).square().mean() / exact.var())


def _calibration(project: Project, *overrides: str) -> torch.Tensor:
    """The first sequences that the codes were learned on."""
    path = project.artifact("calibrate", *overrides).path / calibrate.FILE_NAME
    return load_file(path)[calibrate.TOKEN_IDS][:8].long()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_models_function_is_kept_better_than_by_rounding(
    project: Project, write_checkpoint: Write, family: str
) -> None:
    folder = write_checkpoint("other", **FAMILIES[family])
    where = (f"model.path={folder}", *LONGER)
    learned = _written(project, *where, LEARNED)
    ids = _calibration(project, *where, LEARNED)
    rounded = _written(project, *where, "quant.method=rtn")
    assert _error(folder, learned, ids) < 0.6 * _error(folder, rounded, ids)


def test_a_rotated_model_is_learned_and_stays_the_model(
    project: Project, write_checkpoint: Write
) -> None:
    folder = write_checkpoint("other", **FAMILIES["qwen2"])
    where = (f"model.path={folder}", LEARNED, "quant.rotate=true", *LONGER)
    written = _written(project, *where)
    assert json.loads((written / "config.json").read_text())["tie_word_embeddings"] is False
    assert _error(folder, written, _calibration(project, *where)) < 0.02


def test_equal_recipes_give_equal_bytes_on_one_core_and_on_two(
    project: Project, tmp_path: Path
) -> None:
    plan = project.plan(LEARNED, *LONGER)
    build(plan, project.store, 1)
    first = project.artifact("quantize", LEARNED, *LONGER)
    again = Project(project.model, project.text, Store(tmp_path / "again"))
    build(again.plan(LEARNED, *LONGER), again.store, 2)
    second = again.artifact("quantize", LEARNED, *LONGER)
    assert first.path != second.path
    assert _digest(first.path) == _digest(second.path)


def test_presets_learn_for_different_times(project: Project) -> None:
    light = _written(project, LEARNED, *LONGER)
    long = _written(project, LEARNED, "quant.preset=best", *LONGER)
    assert _digest(light) != _digest(long)


def test_linears_that_are_kept_stay_floats(project: Project) -> None:
    kept = "quant.skip=[layers.1.mlp.down_proj]"
    folder = _written(project, LEARNED, kept)
    tensors = dequantized(folder)
    original = dequantized(Path(project.model))
    name = "model.layers.1.mlp.down_proj.weight"
    torch.testing.assert_close(tensors[name], original[name].half().float(), rtol=0, atol=0)
    report = json.loads((folder / "report.json").read_text())
    assert "down_proj" not in report["layers"][1]
    assert set(report["layers"][0]) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert all(row["relative_output_error"] < 0.05 for row in report["layers"][0].values())
    assert all(row["damping"] == 0.01 for row in report["layers"][0].values())
