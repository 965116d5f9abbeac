"""The AWQ folder: what it says, what it computes, and how it comes about after a crash."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lmrun.artifacts.store import Store
from lmrun.errors import StageError
from unit.stages.projects import TEXT, Project

Write = Callable[..., Path]
AWQ = (0, 2, 4, 6, 1, 3, 5, 7)


def _nibbles(words: torch.Tensor) -> torch.Tensor:
    """Codes of AWQ words, unpacked here word by word and not by lmrun."""
    codes = torch.zeros(words.shape[0], words.shape[1] * 8)
    for place, column in enumerate(AWQ):
        codes[:, column::8] = ((words.long() >> 4 * place) & 15).float()
    return codes


def dequantized(folder: Path) -> dict[str, torch.Tensor]:
    """Float tensors of an AWQ folder."""
    stored = load_file(folder / "model.safetensors")
    found = {}
    for name, tensor in stored.items():
        prefix, _, kind = name.rpartition(".")
        if kind == "qweight":
            group = tensor.shape[0] // stored[f"{prefix}.scales"].shape[0]
            zeros = _nibbles(stored[f"{prefix}.qzeros"]).repeat_interleave(group, 0)
            scales = stored[f"{prefix}.scales"].float().repeat_interleave(group, 0)
            found[f"{prefix}.weight"] = ((_nibbles(tensor) - zeros) * scales).T.contiguous()
        elif kind not in ("qzeros", "scales"):
            found[name] = tensor.float()
    return found


def logits(
    folder: Path, tensors: dict[str, torch.Tensor] | None, ids: torch.Tensor
) -> torch.Tensor:
    """transformers in float32 on a float folder, or on other tensors in its place."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if tensors is not None:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        assert unexpected == []
        assert set(missing) <= {"lm_head.weight"}
    with torch.inference_mode():
        return model(ids).logits


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_awq_keeps_the_function_better_than_rounding(
    project: Project, write_checkpoint: Write, family: str
) -> None:
    folder = write_checkpoint("other", **FAMILIES[family])
    where = f"model.path={folder}"
    ids = torch.tensor([list(TEXT[:60].encode())]) % 200 + 10
    exact = logits(folder, None, ids)
    errors = {}
    for method in ("awq", "rtn"):
        project.build(where, f"quant.method={method}")
        written = project.artifact("quantize", where, f"quant.method={method}").path
        found = logits(folder, dequantized(written), ids)
        errors[method] = float((found - exact).square().mean())
    assert errors["awq"] < 0.7 * errors["rtn"]
    assert errors["awq"] < 0.3 * float(exact.var())


def test_the_folder_is_one_that_other_loaders_know(project: Project) -> None:
    project.build("quant.skip=[layers.1.self_attn.o_proj]")
    folder = project.artifact("quantize", "quant.skip=[layers.1.self_attn.o_proj]").path
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"] == {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": 32,
        "zero_point": True,
        "modules_to_not_convert": ["lm_head", "model.layers.1.self_attn.o_proj"],
    }
    assert config["torch_dtype"] == "float16"
    original = json.loads((Path(project.model) / "config.json").read_text())
    assert {**original, **config} == config
    assert (folder / "tokenizer.json").read_bytes() == (
        Path(project.model) / "tokenizer.json"
    ).read_bytes()
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    down = "model.layers.0.mlp.down_proj"
    assert shapes[f"{down}.qweight"] == (96, 8)
    assert shapes[f"{down}.qzeros"] == (3, 8)
    assert shapes[f"{down}.scales"] == (3, 64)
    assert dtypes[f"{down}.scales"] == "F16"
    assert dtypes["model.embed_tokens.weight"] == "F16"
    assert "model.layers.1.self_attn.o_proj.weight" in shapes
    assert "model.layers.1.self_attn.o_proj.qweight" not in shapes


def test_rounding_needs_no_calibration(project: Project) -> None:
    project.text.unlink()
    project.build("quant.method=rtn", "calibration.data=builtin:sample")
    assert project.store.manifests("calibrate") == []


def test_a_number_too_large_for_float16_is_named(project: Project) -> None:
    path = Path(project.model) / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] = 1e6
    save_file(tensors, path)
    with pytest.raises(StageError, match=r"^model\.norm\.weight: expected numbers that float16"):
        project.build("quant.method=rtn")


def test_the_manifest_tells_the_error_of_each_linear(project: Project) -> None:
    project.build()
    metrics = project.artifact("quantize").manifest.fields.metrics
    errors = metrics["relative_output_error"]
    assert list(errors) == sorted(errors)
    assert all(0 < value < 0.02 for value in errors.values())


@pytest.mark.parametrize("stage", ["calibrate", "quantize"])
def test_garbage_in_a_partial_folder_costs_only_time(
    project: Project, tmp_path: Path, stage: str
) -> None:
    project.build()
    other = Project(project.model, project.text, Store(tmp_path / "other"))
    planned = project.plan().stage(stage)
    assert planned is not None
    partial = other.store.home / "partial" / f"{stage}-{planned.fingerprint}"
    (partial / ".resume").mkdir(parents=True)
    (partial / ".resume" / "layer-0.safetensors").write_bytes(b"garbage" * 50)
    (partial / "model.safetensors.part").write_bytes(b"half")
    other.build()
    for name in ("calibrate", "quantize", "convert"):
        one, two = project.artifact(name).manifest, other.artifact(name).manifest
        assert {file: record.sha256 for file, record in one.files.items()} == {
            file: record.sha256 for file, record in two.files.items()
        }
