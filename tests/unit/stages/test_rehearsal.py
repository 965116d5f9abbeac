"""What would fail after hours fails before the first layer, by name."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.stages import rehearsal
from unit.stages.projects import Project

LAST = "model.layers.2.mlp.up_proj.weight"


def _damage(project: Project, name: str, value: float) -> Path:
    path = Path(project.model) / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path)
    return path


def test_nan_in_the_last_layer_stops_before_the_first(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    path = _damage(project, LAST, float("nan"))
    with caplog.at_level(logging.INFO), pytest.raises(StageError) as caught:
        project.build("quant.method=rtn")
    assert str(caught.value) == (
        f"{path}: {LAST}: expected finite numbers, got NaN or infinity."
        " The checkpoint is damaged: copy it again."
    )
    assert "layer 1 of" not in caplog.text


@pytest.mark.parametrize(("dtype", "value"), [("F32", np.inf), ("F16", np.nan), ("BF16", -np.inf)])
def test_every_float_type_is_looked_at(project: Project, dtype: str, value: float) -> None:
    path = Path(project.model) / "model.safetensors"
    kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    tensors = {name: one.to(kind) for name, one in load_file(path).items()}
    save_file(tensors, path)
    checkpoint = Checkpoint.open(Path(project.model))
    assert rehearsal.scan(checkpoint) == len(checkpoint.tensors)
    tensors["model.norm.weight"][3] = value
    save_file(tensors, path)
    with pytest.raises(StageError, match=r"model\.norm\.weight: expected finite numbers"):
        rehearsal.scan(Checkpoint.open(Path(project.model)))


def test_the_scan_ends_when_its_time_is_over(project: Project) -> None:
    assert rehearsal.scan(Checkpoint.open(Path(project.model)), seconds=-1) == 0


def test_the_rehearsal_is_told_and_leaves_nothing(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        project.build("quant.method=gptq")
    lines = [record.getMessage() for record in caplog.records]
    told = [line for line in lines if line.startswith("rehearsal: ")]
    assert len(told) == 2
    assert told[1].startswith("rehearsal: every step works, in ")
    first = next(n for n, line in enumerate(lines) if line.startswith("quantize: layer 1 of 3"))
    assert lines.index(told[1]) < first
    files = project.artifact("quantize", "quant.method=gptq").manifest.files
    assert not [name for name in files if "rehearsal" in name]
