"""Equal lock files, and so equal bytes, wherever and however `lmrun lock` runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unit.cli.sites import lay_out

HERE = {"TZ": "UTC", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
THERE = {
    "TZ": "Pacific/Kiritimati",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "POSIX",
    "PYTHONHASHSEED": "4711",
    "OMP_NUM_THREADS": "3",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "40",
}


def _lmrun(
    folder: Path, home: Path, extra: dict[str, str], cores: set[int], *argv: str
) -> "subprocess.CompletedProcess[str]":
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "lmrun.cli.main", *argv],
        env={
            **os.environ,
            **extra,
            "LMRUN_HOME": str(home),
            "LMRUN_MODELS": str(folder / "models"),
        },
        cwd=folder,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def _locked(folder: Path, home: Path, extra: dict[str, str], cores: set[int], *argv: str) -> bytes:
    ran = _lmrun(folder, home, extra, cores, "lock", *argv)
    assert ran.returncode == 0, ran.stderr
    (file,) = (folder / "locks").iterdir()
    return file.read_bytes()


def test_two_places_write_the_same_lock_and_hold_each_others(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    here, there = lay_out(tmp_path / "here"), lay_out(tmp_path / "there" / "ünder")
    first = _locked(here, tmp_path / "home", HERE, set(cores), "recipe=tiny")
    second = _locked(there, there / "störe", THERE, {cores[-1]}, "recipe=tiny")
    assert second == first
    foreign = str(here / "locks" / "tiny.lock.yaml")
    held = _lmrun(there, there / "störe", THERE, {cores[0]}, "verify", foreign)
    assert held.returncode == 0, held.stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("recipe", ["w4a16_kv4_server", "stories3m"])
def test_real_locks_are_equal_on_each_core_and_on_all(
    recipe: str, tmp_path: Path, test_data: Path
) -> None:
    overrides = [f"+recipe={recipe}"]
    if recipe == "stories3m":
        overrides = [
            "+recipe=w4a16_kv4_server",
            f"model.path={test_data / 'models' / recipe}",
            "quant=awq_w4_g64",
            f"calibration.data={test_data / 'text' / 'stories.train.txt'}",
        ]
    cores = sorted(os.sched_getaffinity(0))
    places = [(HERE, set(cores)), *((THERE, {core}) for core in cores)]
    found = [
        _locked(tmp_path / f"cwd-{index}", tmp_path / f"home-{index}", extra, chosen, *overrides)
        for index, (extra, chosen) in enumerate(places)
    ]
    assert all(other == found[0] for other in found[1:])
