"""Fixtures every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real checkpoints and texts made by others, named by $LMRUN_TEST_DATA."""
    value = os.environ.get("LMRUN_TEST_DATA")
    if not value:
        pytest.skip("LMRUN_TEST_DATA is not set: real checkpoints and texts are missing")
    return Path(value)


@pytest.fixture(scope="session", autouse=True)
def _outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes they start, see the lmrun that is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("outside"))
        patch.setenv("PYTHONSAFEPATH", "1")
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's store, recipes or models, or the checkout's ``./recipes``."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("LMRUN_MODELS", "LMRUN_RECIPE_PATH", "LMRUN_LOG"):
        monkeypatch.delenv(name, raising=False)
