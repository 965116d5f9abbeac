"""The workspace holds what the checkpoint holds, in the sizes that the plan predicted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.rope import inv_freq
from lmrun.quant import layout
from lmrun.quant.layout import WeightQuant
from lmrun.stages.convert import convert
from unit.stages.projects import Project
from unit.stages.workspaces import read_workspace, unpacked

Write = Callable[..., Path]

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "odd": {"intermediate_size": 43, "vocab_size": 271},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_float_workspace_holds_the_checkpoint_bit_for_bit(
    write_checkpoint: Write, tmp_path: Path, family: str, dtype: str
) -> None:
    folder = write_checkpoint(torch_dtype=dtype, **FAMILIES[family])
    path = folder / "model.safetensors"
    save_file({k: v.to(getattr(torch, dtype)) for k, v in load_file(path).items()}, path)
    checkpoint = Checkpoint.open(folder)
    (tmp_path / "workspace").mkdir()
    convert(checkpoint, tmp_path / "workspace", "0" * 64)
    found = unpacked(tmp_path / "workspace", checkpoint.spec)
    expected = {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name
    predicted = list(
        layout.workspace_tensors(checkpoint.spec, checkpoint.weight_dtype, WeightQuant("none"))
    )
    dtypes, arrays = read_workspace(tmp_path / "workspace")
    real = [name for name in arrays if not name.startswith("__pad__.")]
    assert real == [tensor.name for tensor in predicted]
    for tensor in predicted:
        assert (arrays[tensor.name].shape, dtypes[tensor.name]) == (tensor.shape, tensor.dtype)
    assert np.array_equal(arrays["rope.inv_freq"], inv_freq(checkpoint.spec))


@pytest.mark.parametrize("more", [(), ("quant.skip=[layers.2.mlp.down_proj]",)])
def test_the_plan_predicts_the_tensors_of_a_quantized_workspace(
    project: Project, more: tuple[str, ...]
) -> None:
    workspace = project.build(*more)
    plan = project.plan(*more)
    skip = frozenset(plan.config["quant"]["skip"])
    predicted = list(
        layout.workspace_tensors(plan.spec, plan.weight_dtype, WeightQuant("awq", 32, skip))
    )
    dtypes, arrays = read_workspace(workspace)
    assert [(t.name, t.dtype, t.shape) for t in predicted] == [
        (name, dtypes[name], array.shape)
        for name, array in arrays.items()
        if not name.startswith("__pad__.")
    ]
    size = (workspace / "rank-0.safetensors").stat().st_size
    assert plan.budget.weights_bytes <= size <= plan.budget.weights_bytes + (2 << 20)


def test_the_model_document_says_what_the_engine_checks(project: Project) -> None:
    document = json.loads((project.build() / "model.json").read_text())
    assert document["weights"] == {
        "method": "awq",
        "bits": 4,
        "group_size": 32,
        "symmetric": False,
        "activation_bits": 16,
    }
    assert document["num_kv_heads"] == 2
    assert document["attention_scale"] == 0.25
    resolve = project.plan().stage("resolve")
    assert resolve is not None
    assert document["source"] == {"checkpoint": resolve.fingerprint}


def test_tokenizer_files_come_along(project: Project) -> None:
    workspace = project.build()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (workspace / name).read_bytes() == (Path(project.model) / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_nan_is_named(write_checkpoint: Write, tmp_path: Path, dtype: torch.dtype) -> None:
    folder = write_checkpoint()
    path = folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    tensors["model.layers.1.mlp.gate_proj.weight"][5, 7] = float("nan")
    save_file(tensors, path)
    (tmp_path / "workspace").mkdir()
    with pytest.raises(
        StageError, match=r"model\.layers\.1\.mlp\.gate_proj\.weight: expected finite numbers"
    ):
        convert(Checkpoint.open(folder), tmp_path / "workspace", "0" * 64)
