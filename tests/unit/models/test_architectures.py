"""Each architecture of the registry through convert and the engine, beside transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmrun import _engine
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.registry import SERVED
from lmrun.plan.planner import make_plan
from lmrun.quant import packing
from lmrun.stages import tensor_files
from lmrun.stages.runner import build

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 80,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
TOKENS = [(7 * i * i + 3) % 80 for i in range(100)]
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama, tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama, head_dim of its own": ("LlamaForCausalLM", {"head_dim": 24}),
    "llama, linear": ("LlamaForCausalLM", {"rope_parameters": LINEAR}),
    "llama, llama3": ("LlamaForCausalLM", {"rope_parameters": LLAMA3}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {}),
}


def test_every_architecture_has_a_case() -> None:
    assert {name for name, _ in CASES.values()} == set(SERVED)


def write_model(folder: Path, name: str, changes: dict[str, Any]) -> Any:
    """A random model of transformers, norms and biases random too, saved and returned."""
    import torch
    import transformers

    model_class = getattr(transformers, name)
    torch.manual_seed(5)
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
    if name != "Qwen2ForCausalLM":  # its head_dim is always hidden / heads
        sizes["head_dim"] = SIZES["head_dim"]
    model = model_class(model_class.config_class(**{**sizes, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(folder)
    return model


def engine_logits(workspace: Path) -> np.ndarray[Any, Any]:
    engine = _engine.Engine(
        workspace=str(workspace),
        isa="auto",
        threads=1,
        num_blocks=8,
        block_size=16,
        kv_bits=32,
        activation_bits=32,
        max_num_seqs=1,
        max_batch_tokens=48,
        context_length=128,
        prefix_caching=False,
    )
    return engine.logits(TOKENS)


def reference_logits(model: Any) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        logits: np.ndarray[Any, Any] = model(torch.tensor([TOKENS])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", *CASES[case])
    store = Store(tmp_path / "home")
    plan = make_plan(compose([f"model.path={tmp_path / 'model'}"]), store)
    ours, theirs = engine_logits(build(plan, store)), reference_logits(model)
    assert np.abs(theirs).max() > 1
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3"])
def test_quantized_logits_are_those_of_the_dequantized_folder(case: str, tmp_path: Path) -> None:
    import torch

    model = write_model(tmp_path / "model", *CASES[case])
    store = Store(tmp_path / "home")
    composed = compose([f"model.path={tmp_path / 'model'}", "quant=rtn", "quant.group_size=32"])
    ours = engine_logits(build(make_plan(composed, store), store))
    stage = make_plan(composed, store).stage("quantize")
    assert stage is not None
    folder = Checkpoint.open(store.folder("quantize", str(stage.fingerprint)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            stem = name.removesuffix(".weight")
            if f"{stem}.qweight" in folder.tensors:
                words, zeros, scales = (
                    tensor_files.read(folder.tensors[f"{stem}.{part}"])
                    for part in ("qweight", "qzeros", "scales")
                )
                codes, points = packing.unpack_awq(words).T, packing.unpack_awq(zeros).T
                value = packing.dequantize(codes, scales.T, points)
            else:
                value = tensor_files.read(folder.tensors[name]).astype(np.float32)
            parameter.copy_(torch.from_numpy(value.copy()))
    theirs = reference_logits(model)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
