"""Builds of a tiny model through real plans."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from lmrun.artifacts.store import Artifact, Store
from lmrun.config import compose
from lmrun.models.registry import spec_from_config
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from lmrun.stages.resolve import tokenizer_document
from lmrun.stages.runner import build

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
TEXT = "A small boat crossed the quiet river while the teacher counted 12 stones. " * 60


@dataclass(frozen=True)
class Project:
    """A model, a text and a store."""

    model: str
    text: Path
    store: Store

    def overrides(self, *more: str) -> list[str]:
        return [
            f"model.path={self.model}",
            f"calibration.data={self.text}",
            "calibration.samples=8",
            "calibration.seq_len=48",
            "backend.max_num_seqs=2",
            "backend.context_length=64",
            "quant.method=awq",
            "quant.group_size=32",
            *more,
        ]

    def plan(self, *more: str) -> Plan:
        return make_plan(compose(self.overrides(*more)), self.store)

    def build(self, *more: str) -> Path:
        return build(self.plan(*more), self.store)

    def artifact(self, stage: str, *more: str) -> Artifact:
        planned = self.plan(*more).stage(stage)
        assert planned is not None
        assert planned.fingerprint is not None
        found = self.store.find(stage, planned.fingerprint)
        assert found is not None
        return found


def write_checkpoint(folder: Path, **fields: Any) -> Path:
    """Write a tiny float checkpoint; keywords go into config.json."""
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
