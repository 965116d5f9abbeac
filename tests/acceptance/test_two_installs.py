"""Two clean installs of the same source build the same engine, artifacts and locks."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from unit.cli.sites import lay_out

SOURCE = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "__pycache__", "*.so", "tests")
SURROUNDINGS = (
    {"TZ": "UTC", "PYTHONHASHSEED": "0"},
    {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "LANG": "tr_TR.UTF-8"},
)


def _run(argv: list[str], cwd: Path, extra: dict[str, str]) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(
        argv,
        cwd=cwd,
        env={**own, **extra},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _install(snapshot: Path, folder: Path) -> Path:
    """A copy of the source, installed into an environment of its own; its `lmrun`.

    Torch and the other packages are those of the tests: a path file lends them.
    """
    source = folder / "source"
    shutil.copytree(snapshot, source)
    _run([sys.executable, "-m", "venv", "venv"], folder, {})
    python = folder / "venv" / "bin" / "python"
    own = _run(
        [str(python), "-c", "import sysconfig as s; print(s.get_path('purelib'))"], folder, {}
    )
    (Path(own.strip()) / "zz_lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    how = ["--no-deps"]
    if find_spec("scikit_build_core") is not None:
        how.append("--no-build-isolation")
    _run([str(python), "-m", "pip", "install", "-q", *how, str(source)], folder, {})
    return folder / "venv" / "bin" / "lmrun"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_clean_installs_write_the_same_lock(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    shutil.copytree(SOURCE, snapshot, ignore=LEFT_OUT)
    found: list[bytes] = []
    commands: list[Path] = []
    for name, extra in zip(("one", "deeper/two"), SURROUNDINGS, strict=True):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        lmrun = _install(snapshot, folder)
        work = lay_out(folder / "work")
        store = {"LMRUN_HOME": str(folder / "home"), "LMRUN_MODELS": str(work / "models")}
        _run([str(lmrun), "lock", "recipe=tiny"], work, {**extra, **store})
        found.append((work / "locks" / "tiny.lock.yaml").read_bytes())
        commands.append(lmrun)
    assert commands[0] != commands[1]
    assert found[1] == found[0]
