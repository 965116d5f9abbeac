"""Tiny seeded checkpoints, and builds of them through real plans."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmrun.artifacts.store import Store
from lmrun.models.registry import spec_from_config
from lmrun.stages.resolve import tokenizer_document
from unit.stages.projects import TEXT, Project

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 288,
    "max_position_embeddings": 128,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
Write = Callable[..., Path]


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Write:
    """Write a tiny float checkpoint; keywords go into config.json."""

    def write(name: str = "model", **fields: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {**CONFIG, **fields}
        (folder / "config.json").write_text(json.dumps(config))
        spec = spec_from_config(config, "config.json")
        rng = np.random.Generator(np.random.PCG64(5))
        tensors = {}
        for tensor, shape in spec.float_tensors().items():
            values = rng.standard_normal(shape).astype(np.float32)
            # a few loud channels, as trained models have
            tensors[tensor] = 1 + values / 4 if len(shape) == 1 else values * shape[1] ** -0.5
            if tensor.endswith("layernorm.weight"):
                tensors[tensor][::16] *= 8
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_document(288)))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
        )
        return folder

    return write


@pytest.fixture
def project(write_checkpoint: Write, tmp_path: Path) -> Project:
    """The tiny Llama with a text."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    return Project(str(write_checkpoint()), text, Store(tmp_path / "home"))
