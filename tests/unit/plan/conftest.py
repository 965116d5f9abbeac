"""A machine that never changes, a small checkpoint, and plans of both."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.models.registry import spec_from_config
from lmrun.plan import numeric_class
from lmrun.plan.machine import Machine
from lmrun.plan.plan import Plan, StagePlan
from lmrun.plan.planner import make_plan

GIB = 2**30
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 256,
    "torch_dtype": "float16",
}


@dataclass(frozen=True)
class Bench:
    """A checkpoint, a store, and a machine to plan for."""

    checkpoint: Path
    text: Path
    store: Store
    machine: Machine

    def plan(self, *overrides: str, hashed: bool = True) -> Plan:
        """The plan of AWQ with groups of 128 on the checkpoint, and overrides after that."""
        composed = compose(
            [
                f"model.path={self.checkpoint}",
                f"calibration.data={self.text}",
                "quant=awq_w4_g128",
                *overrides,
            ]
        )
        plan = make_plan(composed, self.store, self.machine)
        if hashed and plan.unhashed:
            DigestCache(self.store.home).hash_files(plan.unhashed)
            plan = make_plan(composed, self.store, self.machine)
        return plan

    def pretend_to_build(self, plan: Plan) -> None:
        """Commit an artifact with one file for each stage that would run."""
        for stage in plan.stages:
            if stage.action.value == "run":
                assert stage.fingerprint is not None
                digests = plan.stages[0].inputs
                self.store.build(
                    stage.name, stage.fingerprint, partial(fill, stage=stage, checkpoint=digests)
                )


def fill(
    folder: Path,
    stage: StagePlan,
    checkpoint: Mapping[str, str | None],
    seconds: float = 0.0,
    size: int = 100,
) -> ManifestFields:
    """What a stage does, as far as the planner can tell; ``size`` is in bytes."""
    (folder / "data").write_bytes(b"x" * size)
    return ManifestFields(
        stage=stage.name,
        code_version=stage.code_version,
        fingerprint=str(stage.fingerprint),
        inputs={name: str(value) for name, value in stage.inputs.items()},
        config=stage.config,
        numeric_class=stage.numeric_class,
        seconds=seconds,
        metrics={"checkpoint": dict(checkpoint)} if "resolve" in stage.inputs else {},
    )


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Makes a checkpoint of zeros from changes to `CONFIG`; returns its folder."""

    def write(name: str = "tiny", **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {**CONFIG, **changes}
        (folder / "config.json").write_text(json.dumps(config))
        shapes = spec_from_config(config, "config.json").float_tensors()
        tensors = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
        save_file(tensors, folder / "model.safetensors")
        return folder

    return write


@pytest.fixture
def bench(
    tmp_path: Path, write_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    monkeypatch.setattr(numeric_class, "_version", lambda _: "2.9.0")
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time.\n")
    return Bench(
        checkpoint=write_checkpoint(),
        text=text,
        store=Store(tmp_path / "home"),
        machine=Machine("cpu", 8 * GIB, "installed memory", 2, "avx512", "AuthenticAMD"),
    )
