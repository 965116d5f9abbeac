"""A folder as a user has it: a recipe, a text, a model, and a store in which all is built."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from lmrun.stages import resolve
from lmrun.stages.runner import build
from unit.stages.projects import TEXT, write_checkpoint

RECIPE = """\
# A tiny model in 4 bits.
defaults:
  - override /quant: awq_w4_g32
model:
  path: tiny
backend:
  max_num_seqs: 2
  context_length: 64
calibration:
  data: text.txt
  samples: 4
  seq_len: 32
kv:
  bits: 8
frontend:
  port: 28917
"""
STAGES = ["calibrate", "quantize", "convert"]


@dataclass(frozen=True)
class Site:
    """The folder, which is the working directory, and what is in it."""

    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "home")

    @property
    def model(self) -> Path:
        return self.folder / "models" / "tiny"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipes" / "tiny.yaml"

    @property
    def lock(self) -> Path:
        return self.folder / "locks" / "tiny.lock.yaml"

    def plan(self, *overrides: str) -> Plan:
        return make_plan(compose(["recipe=tiny", *overrides]), self.store)

    def artifact(self, stage: str) -> Path:
        planned = self.plan().stage(stage)
        assert planned is not None
        assert planned.fingerprint is not None
        return self.store.folder(stage, planned.fingerprint)

    def edit_lock(self, old: str, new: str) -> None:
        text = self.lock.read_text(encoding="utf-8")
        assert old in text
        self.lock.write_text(text.replace(old, new), encoding="utf-8")


def lay_out(folder: Path) -> Path:
    """Recipe, text and model; nothing built."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "recipes" / "tiny.yaml").write_text(RECIPE)
    (folder / "text.txt").write_text(TEXT)
    write_checkpoint(folder / "models" / "tiny")
    return folder


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Make a laid out folder the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LMRUN_HOME", str(folder / "home"))
    monkeypatch.setenv("LMRUN_MODELS", str(folder / "models"))
    return Site(folder)


def build_all(site: Site) -> None:
    """Build the recipe's artifacts in this process."""
    resolve.hash_inputs(site.store.home, site.plan().unhashed)
    build(site.plan(), site.store)


def copy(built: Path, folder: Path) -> Path:
    """A copy to spoil; times are kept, inodes are others."""
    shutil.copytree(built, folder)
    return folder


def flip(file: Path, place: int = -1) -> None:
    """Change one byte and leave size, time and inode as they were."""
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
