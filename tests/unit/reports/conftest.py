"""A tiny model that was quantized and evaluated, once for the tests of this folder."""

from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.stages.runner import ALL, build
from unit.stages import projects
from unit.stages.projects import TEXT, Project

HELD_OUT = "The teacher counted the stones while a quiet boat crossed the river. " * 40
QUALITY = ["evaluate.window=32", "evaluate.max_tokens=310", "evaluate.kl_tokens=62"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """AWQ, with its quality; the settings are those of `overrides`."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "text.txt").write_text(TEXT)
    (folder / "held_out.txt").write_text(HELD_OUT)
    model = projects.write_checkpoint(folder / "model")
    project = Project(str(model), folder / "text.txt", Store(folder / "home"))
    build(project.plan(*quality_of(project)), project.store, goal=ALL)
    return project


def quality_of(project: Project) -> list[str]:
    """Settings of the evaluation."""
    held_out = Path(project.text).with_name("held_out.txt")
    return [f"evaluate.data={held_out}", *QUALITY]
