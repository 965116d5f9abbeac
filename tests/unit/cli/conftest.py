"""What the tests of several verbs share."""

from pathlib import Path

import pytest

from unit.cli.sites import build_all, enter, lay_out


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe in which all is built, and no lock. Copy it to change it."""
    folder = lay_out(tmp_path_factory.mktemp("built") / "site")
    with pytest.MonkeyPatch.context() as patch:
        build_all(enter(folder, patch))
    return folder
