"""A hub on loopback, and a user of it with an empty cache and store; verbs run as a user runs them.

huggingface_hub reads its settings when it is imported, so each command is a process of its own.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from lmrun.errors import ExitStatus
from lmrun.models.registry import spec_from_config
from unit.conftest import CONFIG, write_tokenizer
from unit.models.hub_server import HubServer, Repository

HUB_ID = "org/tiny"
RUN = "import sys; from lmrun.cli.main import main; main()"
CANARY = "hf_canary5b1f"
MODEL = f"model.hub_id={HUB_ID}"


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Desk:
    """A hub with one tiny model, and a user with an empty cache and store."""

    hub: HubServer
    repository: Repository
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS"))
        }
        return {
            **own,
            **self.hub.environment(self.root / "hf"),
            "LMRUN_HOME": str(self.root / "home"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def snapshot(self) -> Path:
        folder = self.root / "hf" / "hub" / "models--org--tiny"
        return folder / "snapshots" / self.repository.commit

    @property
    def partial(self) -> Path:
        blobs = self.root / "hf" / "hub" / "models--org--tiny" / "blobs"
        return next(iter(blobs.glob("*.incomplete")), blobs / "none")

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> Done:
        self.hub.requests.clear()
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def plan(self, *words: str, **environment: str) -> dict[str, Any]:
        done = self.run("plan", "--json", *words, **environment)
        assert done.status == ExitStatus.OK, done.err
        document: dict[str, Any] = json.loads(done.out)
        return document

    def refused(self, *words: str, **environment: str) -> str:
        """The one message of a plan that is refused."""
        done = self.run("plan", *words, **environment)
        assert done.status == ExitStatus.REFUSED, done.out + done.err
        assert done.err.count("\n") == 1
        return done.err.removeprefix("lmrun: ").rstrip("\n")


def write_model(folder: Path, hidden: int = 64, vocabulary: int = 272) -> Path:
    """A checkpoint that differs from zero nowhere but in its size; with a tokenizer."""
    folder.mkdir(parents=True)
    config = {**CONFIG, "hidden_size": hidden, "vocab_size": vocabulary, "head_dim": hidden // 4}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("not read by lmrun")
    shapes = spec_from_config(config, "config.json").float_tensors()
    rng = np.random.default_rng(3)
    tensors = {
        name: rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder)
    return folder


def split_into_shards(folder: Path) -> None:
    """The same tensors in two files with an index."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.exists() else []


def fingerprints(plan: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["fingerprint"] for stage in plan["stages"]}
