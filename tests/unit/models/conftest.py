"""Fixtures of the models' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.models import hub_server
from unit.models.hub_desk import HUB_ID, Desk, write_model


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with hub_server.serve() as hub:
        repository = hub.add(HUB_ID, write_model(tmp_path / "model"))
        yield Desk(hub, repository, tmp_path)
