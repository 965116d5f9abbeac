"""Tiny seeded checkpoints, and builds of them through real plans."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts.store import Store
from unit.stages import projects
from unit.stages.projects import TEXT, Project

Write = Callable[..., Path]


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Write:
    """Write a tiny float checkpoint; keywords go into config.json."""

    def write(name: str = "model", **fields: Any) -> Path:
        return projects.write_checkpoint(tmp_path / name, **fields)

    return write


@pytest.fixture
def project(write_checkpoint: Write, tmp_path: Path) -> Project:
    """The tiny Llama with a text."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    return Project(str(write_checkpoint()), text, Store(tmp_path / "home"))
