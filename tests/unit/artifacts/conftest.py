"""One process that builds under faults, for all tests that need it."""

from collections.abc import Iterator

import pytest

from unit.artifacts.smithy import Smithy, Undisturbed, digests


@pytest.fixture(scope="session")
def smithy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Smithy]:
    """Builds a tiny model, on order with a fault."""
    made = Smithy(tmp_path_factory.mktemp("smithy"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def undisturbed(smithy: Smithy, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What a build without a fault writes and how much it does."""
    home = tmp_path_factory.mktemp("undisturbed")
    ended = smithy.attempt(home)
    assert ended.status == 0, ended.error
    assert ended.changes is not None
    return Undisturbed(home, digests(home), ended.changes, ended.seconds)
