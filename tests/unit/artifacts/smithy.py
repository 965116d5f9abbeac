"""A tiny model, the process that builds it under faults, and what must hold afterwards."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.artifacts import uses
from lmrun.artifacts.files import is_locked
from lmrun.artifacts.inventory import entries
from lmrun.artifacts.store import Artifact, Store
from lmrun.models import builtin
from lmrun.models.builtin import BuiltinModel
from lmrun.stages.resolve import write_builtin

FAULTS = Path(__file__).with_name("faults.py")
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
}


@dataclass(frozen=True)
class Ended:
    """How an attempt ended."""

    status: int
    """Exit status, or minus the signal."""
    changes: int | None
    """Changes to the file system below the home folder; None for one that was killed."""
    seconds: float
    error: str


@dataclass(frozen=True)
class Undisturbed:
    """A build without a fault."""

    home: Path
    digests: dict[str, str]
    """Of `digests`."""
    changes: int
    seconds: float


class Smithy:
    """Builds one tiny model, calibrated and quantized, as often as asked."""

    def __init__(self, folder: Path) -> None:
        self.model = folder / "tiny"
        self.model.mkdir(parents=True)
        config = {**builtin.get("builtin:random-llama").config, **SIZES}
        write_builtin(BuiltinModel("tiny", "", seed=3, version=1, config=config), self.model)
        self.overrides = [
            f"model.path={self.model}",
            "calibration.samples=2",
            "calibration.seq_len=16",
            "quant.method=awq",
            "quant.group_size=32",
            "backend.threads=1",
        ]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(FAULTS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._say(self.overrides)

    def attempt(self, home: Path, **fault: Any) -> Ended:
        """One build into a home folder; see `faults.py` for the faults."""
        self._say({"home": str(home), **fault})
        assert self._process.stdout is not None
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def _say(self, document: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(document) + "\n")
        self._process.stdin.flush()


def digests(home: Path) -> dict[str, str]:
    """`STAGE/FINGERPRINT/FILE` → SHA-256, of every artifact of a store, each hashed in full."""
    found = {}
    store = Store(home)
    for entry in entries(store):
        assert (entry.problem, entry.manifest is None) == (None, False), entry
        assert entry.manifest is not None
        store.verify(Artifact(entry.path, entry.manifest))
        for name, record in entry.manifest.files.items():
            found[f"{entry.stage}/{entry.fingerprint}/{name}"] = record.sha256
    return found


def check_sound(home: Path, whole: dict[str, str]) -> None:
    """After a fault: what is finished is right, and no process is waited for."""
    assert digests(home).items() <= whole.items()
    assert [path for path in home.glob("locks/*") if is_locked(path)] == []
    assert uses.running(home) == []


def check_finished(home: Path, whole: dict[str, str]) -> None:
    """After a build that nothing disturbed: the right bytes, and nothing lies about."""
    assert digests(home) == whole
    for folder in ("locks", "partial", "trash", "deployments"):
        assert list((home / folder).glob("*")) == [], folder
