"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real checkpoints and texts made by others, named by $LMRUN_TEST_DATA."""
    value = os.environ.get("LMRUN_TEST_DATA")
    if not value:
        pytest.skip("LMRUN_TEST_DATA is not set: real checkpoints and texts are missing")
    return Path(value)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's store, recipes or models, or the checkout's ``./recipes``."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("LMRUN_MODELS", "LMRUN_RECIPE_PATH", "LMRUN_LOG"):
        monkeypatch.delenv(name, raising=False)
