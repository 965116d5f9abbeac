"""Real deployments of a tiny model; their artifacts are built once a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.browser import chromium
from e2e.deployment import Deployment, Starter
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests of this folder share."""
    return tmp_path_factory.mktemp("e2e-home")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a file."""
    with chromium() as found:
        yield found


@pytest.fixture
def start(tmp_path: Path, home: Path) -> Iterator[Starter]:
    """Start a deployment and wait for a text on stdout (the curl line unless said)."""
    started: list[Deployment] = []

    def make(*words: str, until: str = "curl", own_home: Path | None = None) -> Deployment:
        folder = tmp_path / f"up-{len(started)}"
        folder.mkdir()
        deployment = Deployment(folder, own_home or home, *words)
        started.append(deployment)
        if until:
            deployment.wait_for(until)
        return deployment

    yield make
    for deployment in started:
        deployment.clean_up()
