"""Launchers by Hydra's own words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmrun.errors import LmrunError
from lmrun.sweep.launching import Launching, prepare
from unit.sweep.note import Note

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.mark.parametrize("words", [(), JOBLIB], ids=["basic", "joblib"])
def test_a_launcher_gets_the_names_of_points_and_writes_nothing_of_its_own(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    sweep, notes = tmp_path / "a sweep, 'quoted'", tmp_path / "notes"
    (sweep / "points").mkdir(parents=True)
    notes.mkdir()
    prepare(words, cores=2).launch(["0a", "1e5", "123"], Note(notes), sweep)
    said = {file.stem: file.read_text().split(" ", 1) for file in notes.iterdir()}
    assert set(said) == {"0a", "1e5", "123"}
    is_here = {pid == str(os.getpid()) for pid, _ in said.values()}
    assert is_here == {not words}
    assert [path for path in sweep.rglob("*") if path.is_file()] == []
    assert list(Path.cwd().iterdir()) == []


def test_a_launcher_says_how_many_points_run_at_once() -> None:
    assert prepare((), cores=4) == Launching("basic", 1, ())
    assert prepare(JOBLIB, cores=4) == Launching("joblib", 2, JOBLIB)
    assert prepare(JOBLIB[:1], cores=4).workers == 4


REFUSED = {
    ("hydra/launcher=jobli",): (
        4,
        "hydra/launcher=jobli (command line): no such launcher. Did you mean joblib?"
        " Installed: basic, joblib.",
    ),
    ("hydra/launcher=submitit_slurm",): (
        4,
        "hydra/launcher=submitit_slurm (command line): is not installed."
        " Write pip install 'hydra-submitit-launcher'.",
    ),
    ("hydra/launcher=joblib", "hydra.launcher.n_job=2"): (
        3,
        "hydra.launcher (command line): Could not override 'hydra.launcher.n_job'.",
    ),
    ("hydra/launcher=joblib", "hydra.launcher.n_jobs=0"): (
        3,
        "hydra.launcher.n_jobs (command line): expected a number of workers, got 0."
        " -1 is one for each core.",
    ),
    ("hydra.launcher.n_jobs=2",): (
        3,
        "hydra.launcher.n_jobs (command line): the basic launcher, which runs one point after the"
        " other, has no settings. Add hydra/launcher=joblib.",
    ),
    ("hydra/launcher=joblib", "+hydra.launcher.x={_target_:os.system}"): (
        3,
        "hydra.launcher (command line): _target_ names code to run, and settings are data."
        " Choose by name: hydra/launcher=joblib.",
    ),
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_launcher_that_cannot_be_is_refused(words: tuple[str, ...]) -> None:
    status, message = REFUSED[words]
    with pytest.raises(LmrunError) as caught:
        prepare(words, cores=2)
    assert (int(caught.value.status), str(caught.value)) == (status, message)


def test_a_missing_joblib_is_named_with_the_command_that_installs_it() -> None:
    program = (
        "import sys; sys.modules['hydra_plugins'] = None\n"
        "from lmrun.cli.main import run\n"
        "sys.exit(run(['-m', 'kv.bits=8,4', 'hydra/launcher=joblib']))"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (
        4,
        "lmrun: hydra/launcher=joblib (command line): is not installed."
        " Write pip install 'lmrun[joblib]'.\n",
    )
