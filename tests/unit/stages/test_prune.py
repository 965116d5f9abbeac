"""The pruned folder: which weights are zero, what stays as it was, and that the rest follows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lmrun.models.checkpoint import Checkpoint
from unit.stages.projects import TEXT, Project

Write = Callable[..., Path]
METHODS = ("magnitude", "wanda", "sparsegpt")


def _tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def _pruned(project: Project, *overrides: str) -> Path:
    project.build(*overrides)
    return project.artifact("prune", *overrides).path


def _is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def _logits(folder: str | Path, ids: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: torch.Tensor = model(ids).logits
    return logits


@pytest.mark.parametrize("method", METHODS)
def test_half_of_every_linear_becomes_zero_and_nothing_else(project: Project, method: str) -> None:
    folder = _pruned(project, f"prune.method={method}", "quant.method=none")
    before, after = _tensors(project.model), _tensors(folder)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        if _is_linear(name):
            assert float((tensor == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
        else:
            assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("method", METHODS)
def test_two_of_four_weights_become_zero(project: Project, method: str) -> None:
    overrides = (f"prune.method={method}", "prune.pattern=2:4", "quant.method=none")
    for name, tensor in _tensors(_pruned(project, *overrides)).items():
        if _is_linear(name):
            assert bool(((tensor == 0).view(len(tensor), -1, 4).sum(2) == 2).all())
    metrics = project.artifact("prune", *overrides).manifest.fields.metrics
    assert metrics["sparsity"] == 0.5


def test_the_folder_is_the_checkpoint_with_other_weights(project: Project) -> None:
    folder = _pruned(project, "prune.method=wanda", "quant.method=none")
    assert Checkpoint.open(folder).spec == Checkpoint.open(Path(project.model)).spec
    for file in Path(project.model).iterdir():
        if file.suffix != ".safetensors":
            assert (folder / file.name).read_bytes() == file.read_bytes()
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in Path(project.model).iterdir()} | {"manifest.json"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_the_type_of_the_checkpoint(
    project: Project, write_checkpoint: Write, dtype: torch.dtype
) -> None:
    other = write_checkpoint("other", torch_dtype=str(dtype).removeprefix("torch."))
    path = other / "model.safetensors"
    save_file({name: one.to(dtype) for name, one in _tensors(other).items()}, path)
    folder = _pruned(project, f"model.path={other}", "prune.method=sparsegpt", "quant.method=none")
    for name, tensor in _tensors(folder).items():
        assert tensor.dtype == dtype
        if _is_linear(name):
            assert float((tensor == 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_the_share_of_zeros_is_that_of_the_recipe(project: Project) -> None:
    overrides = ("prune.method=wanda", "prune.sparsity=0.25", "quant.method=none")
    for name, tensor in _tensors(_pruned(project, *overrides)).items():
        if _is_linear(name):
            assert float((tensor == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert project.artifact("prune", *overrides).manifest.fields.metrics["sparsity"] == 0.25


def test_sparsegpt_keeps_the_function_better_than_magnitude(project: Project) -> None:
    ids = torch.tensor([list(TEXT[:60].encode())]) % 200 + 10
    wanted = _logits(project.model, ids)
    errors = {}
    for method in ("magnitude", "sparsegpt"):
        folder = _pruned(project, f"prune.method={method}", "quant.method=none")
        errors[method] = float((_logits(folder, ids) - wanted).square().mean())
    assert errors["sparsegpt"] < 0.8 * errors["magnitude"]


def test_quantization_begins_with_the_pruned_weights(project: Project) -> None:
    overrides = ("prune.method=magnitude", "quant.method=rtn")
    _pruned(project, *overrides)
    stored = _tensors(project.artifact("quantize", *overrides).path)
    name = "model.layers.0.mlp.down_proj"
    kept = _tensors(project.artifact("prune", *overrides).path)[f"{name}.weight"]
    plain = ("prune.method=none", "quant.method=rtn")
    project.build(*plain)
    other = _tensors(project.artifact("quantize", *plain).path)
    assert not torch.equal(stored[f"{name}.qweight"], other[f"{name}.qweight"])
    assert float((kept == 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_the_manifest_says_what_was_lost_and_that_the_engine_gains_nothing(
    project: Project,
) -> None:
    overrides = ("prune.method=sparsegpt", "quant.method=none")
    _pruned(project, *overrides)
    metrics: dict[str, Any] = dict(project.artifact("prune", *overrides).manifest.fields.metrics)
    assert metrics["engine"] == (
        "the engine computes with zeros as with other weights: a pruned model is neither faster"
        " nor smaller"
    )
    assert set(metrics["relative_error"]) == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert all(0 < error < 1 for error in metrics["relative_error"].values())
    assert metrics["error_of"] == "outputs on the calibration text"
    assert metrics["tokens"] == 8 * 48


def test_pruning_twice_gives_the_same_bytes(project: Project, tmp_path: Path) -> None:
    overrides = ("prune.method=sparsegpt", "quant.method=none")
    first = (_pruned(project, *overrides) / "model.safetensors").read_bytes()
    again = Project(project.model, project.text, type(project.store)(tmp_path / "again"))
    assert (_pruned(again, *overrides) / "model.safetensors").read_bytes() == first


def test_json_of_the_config_is_untouched(project: Project) -> None:
    folder = _pruned(project, "prune.method=magnitude", "quant.method=none")
    before = json.loads((Path(project.model) / "config.json").read_text(encoding="utf-8"))
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")) == before
