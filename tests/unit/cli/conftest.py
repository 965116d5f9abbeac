"""What the tests of several verbs share."""

from pathlib import Path

import pytest

from lmrun.cli import main
from lmrun.errors import ExitStatus
from unit.cli.sites import build_all, enter, lay_out

QUANTIZED = ("model=random_llama", "quant.method=rtn", "quant.group_size=32")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe in which all is built, and no lock. Copy it to change it."""
    folder = lay_out(tmp_path_factory.mktemp("built") / "site")
    with pytest.MonkeyPatch.context() as patch:
        build_all(enter(folder, patch))
    return folder


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the artifacts of QUANTIZED; to be copied."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMRUN_HOME", str(home))
        assert main.run(["build", *QUANTIZED]) is ExitStatus.OK
    return home
