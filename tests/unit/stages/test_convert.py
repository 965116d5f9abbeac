"""The workspace holds what the checkpoint holds, in the sizes that the plan predicted."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lmrun.errors import StageError
from lmrun.evals.perplexity import perplexity, windows
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.rope import inv_freq
from lmrun.models.spec import ModelSpec
from lmrun.models.tokenizer import Tokenizer
from lmrun.quant import layout, packing
from lmrun.quant.layout import MATRICES, WeightQuant
from lmrun.stages.convert import convert
from unit.stages.projects import Project

Write = Callable[..., Path]
Tensors = dict[str, NDArray[Any]]


def read_workspace(folder: Path) -> tuple[dict[str, str], Tensors]:
    """Dtypes and arrays of rank-0.safetensors (bfloat16 as bits)."""
    raw = (folder / "rank-0.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    dtypes, arrays = {}, {}
    for name, entry in json.loads(raw[8:start]).items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        dtype = packing.NUMPY_DTYPES[entry["dtype"]]
        dtypes[name] = entry["dtype"]
        arrays[name] = np.frombuffer(raw[begin:end], dtype).reshape(entry["shape"])
    return dtypes, arrays


def unpacked(folder: Path, spec: ModelSpec) -> Tensors:
    """The tensors of a workspace as a float checkpoint names them, in float32."""
    dtypes, stored = read_workspace(folder)

    def matrix(name: str, n: int, k: int) -> NDArray[np.float32]:
        if f"{name}.qweight" in stored:
            return packing.dequantize(
                packing.unpack_codes(stored[f"{name}.qweight"], n),
                packing.unpack_groups(stored[f"{name}.scales"], n),
                packing.unpack_groups(stored[f"{name}.zeros"], n),
            )
        weight = packing.unpack_weight(stored[f"{name}.weight"], n, k)
        if dtypes[f"{name}.weight"] == "BF16":
            return (weight.astype(np.uint32) << 16).view(np.float32)
        return weight.astype(np.float32)

    hidden = spec.hidden_size
    found: Tensors = {
        "model.embed_tokens.weight": matrix("tok_embeddings", spec.vocab_size, hidden),
        "model.norm.weight": stored["norm.weight"],
    }
    if not spec.tie_word_embeddings:
        found["lm_head.weight"] = matrix("output", spec.vocab_size, hidden)
    for index in range(spec.num_layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        found[f"{theirs}.input_layernorm.weight"] = stored[f"{ours}.attention_norm.weight"]
        found[f"{theirs}.post_attention_layernorm.weight"] = stored[f"{ours}.ffn_norm.weight"]
        if spec.qk_norm:
            for norm in ("q_norm", "k_norm"):
                found[f"{theirs}.self_attn.{norm}.weight"] = stored[
                    f"{ours}.attention.{norm}.weight"
                ]
        linears = {linear.role: linear for linear in spec.layer(index)}
        for name, roles in MATRICES:
            parts = [linears[role] for role in roles]
            ends = np.cumsum([part.out_features for part in parts])
            rows = np.split(
                matrix(f"{ours}.{name}.0", int(ends[-1]), parts[0].in_features), ends[:-1]
            )
            for part, weight in zip(parts, rows, strict=True):
                found[f"{part.prefix}.weight"] = weight
            if parts[0].has_bias:
                biases = np.split(stored[f"{ours}.{name}.0.bias"], ends[:-1])
                for part, bias in zip(parts, biases, strict=True):
                    found[f"{part.prefix}.bias"] = bias
    return found


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


@pytest.mark.parametrize("name", ["awq-gemm-gptqmodel-ts", "awq-gemm-autoawq-ts"])
def test_folders_of_other_tools_keep_their_perplexity(
    test_data: Path, tmp_path: Path, name: str
) -> None:
    archive = test_data / "quantized" / "checkpoints.tar.xz"
    subprocess.run(["tar", "-xJf", archive, "-C", tmp_path, name], check=True)
    checkpoint = Checkpoint.open(tmp_path / name)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    convert(checkpoint, workspace, "0" * 64)
    tensors = unpacked(workspace, checkpoint.spec)
    config = json.loads((tmp_path / name / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "float").mkdir()
    (tmp_path / "float" / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    shutil.copy(tmp_path / name / "tokenizer.json", tmp_path / "float")
    save_file(
        {key: torch.from_numpy(np.array(value)) for key, value in tensors.items()},
        tmp_path / "float" / "model.safetensors",
        {"format": "pt"},
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "float", dtype=torch.float32)

    def score(ids: Any) -> NDArray[Any]:
        batch = torch.tensor([list(ids)])
        with torch.inference_mode():
            rows = torch.log_softmax(model(batch).logits[0, :-1], dim=-1)
        return rows.gather(1, batch[0, 1:, None])[:, 0].numpy()

    text = (test_data / "text" / "stories.valid.txt").read_text()
    ids = Tokenizer.from_folder(workspace).encode(text, add_special_tokens=False)
    expected = json.loads((test_data / "quantized" / "index.json").read_text())[name]["ppl"]
    assert perplexity(score, windows(ids, 1)) == pytest.approx(expected, rel=1e-4)
