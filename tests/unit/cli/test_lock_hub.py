"""Locks of models of the hub: fixed to a commit, and downloaded again elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmrun.errors import ExitStatus
from lmrun.plan import lock as locks
from unit.cli.sites import lay_out
from unit.models import hub_server

FILE = "locks/tiny.lock.yaml"


def _lmrun(folder: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: huggingface_hub reads its settings when it is imported."""
    return subprocess.run(
        [sys.executable, "-m", "lmrun.cli.main", *argv],
        env={**os.environ, "LMRUN_HOME": str(folder / "home")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_lock_fixes_the_commit_and_rebuilds_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay_out(tmp_path / "site")
    recipe = folder / "recipes" / "tiny.yaml"
    floating = recipe.read_text().replace("path: tiny", "hub_id: org/tiny\n  revision: v1")
    with hub_server.serve() as hub:
        repository = hub.add("org/tiny", folder / "models" / "tiny", revisions={"main", "v1"})
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        commit = repository.commit
        recipe.write_text(floating)
        refused = _lmrun(folder, "lock", "recipe=tiny")
        assert refused.returncode == ExitStatus.REFUSED
        assert refused.stderr.splitlines()[-1] == (
            "lmrun: model.revision=v1 (recipes/tiny.yaml:6): a lock needs a commit, got a branch or"
            " tag, which may mean another one tomorrow. Write"
            f" model.revision={commit}, which it means today."
        )
        assert not (folder / "home").exists(), "nothing was downloaded or built"
        recipe.write_text(floating.replace("v1", commit))
        locked = _lmrun(folder, "lock", "recipe=tiny")
        assert locked.returncode == 0, locked.stderr
        lock = locks.read(folder / FILE)
        assert lock.model.name == f"org/tiny@{commit}"
        assert "model.safetensors" in lock.model.files
        shutil.rmtree(folder / "home")
        shutil.rmtree(tmp_path / "hf")
        built = _lmrun(folder, "build", "--locked", "recipe=tiny")
        assert built.returncode == 0, built.stderr
    held = _lmrun(folder, "verify", "recipe=tiny")
    assert held.returncode == 0, held.stdout + held.stderr
    assert held.stdout.startswith(f"{FILE}: holds (")
