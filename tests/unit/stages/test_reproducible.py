"""Equal bytes whatever surrounds a build: cores, time zone, language, hash seed, folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.plan.planner import make_plan
from lmrun.stages import resolve
from lmrun.stages.runner import MATH_SWITCHES, build
from unit.stages.projects import Project

SURROUNDINGS = {
    "TZ": "Pacific/Kiritimati",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "4711",
    "OMP_NUM_THREADS": "3",
    "MKL_DYNAMIC": "FALSE",
    "MKL_NUM_THREADS": "2",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
}


def _digests(store: Store, overrides: list[str]) -> dict[str, dict[str, str]]:
    """Stage and fingerprint → file → digest, of the artifacts of a plan."""
    found: dict[str, dict[str, str]] = {}
    for stage in make_plan(compose(overrides), store).stages:
        assert stage.fingerprint is not None
        artifact = store.find(stage.name, stage.fingerprint)
        if artifact is not None:
            files = artifact.manifest.files
            found[f"{stage.name} {stage.fingerprint}"] = {
                name: record.sha256 for name, record in files.items()
            }
    return found


def _build(store: Store, overrides: list[str], threads: int) -> dict[str, dict[str, str]]:
    plan = make_plan(compose(overrides), store)
    resolve.hash_inputs(store.home, plan.unhashed)
    build(make_plan(compose(overrides), store), store, threads)
    return _digests(store, overrides)


def _build_elsewhere(
    store: Store, overrides: list[str], cwd: Path, core: int
) -> dict[str, dict[str, str]]:
    """In a child of another environment, folder and core."""
    cwd.mkdir()
    plan = make_plan(compose(overrides), store)
    ran = subprocess.run(
        [sys.executable, "-m", "lmrun.stages.runner"],
        input=json.dumps(plan.to_json()),
        env={**os.environ, **SURROUNDINGS, "LMRUN_HOME": str(store.home)},
        cwd=cwd,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return _digests(store, overrides)


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_the_bytes_do_not_depend_on_the_number_of_workers(
    project: Project, tmp_path: Path, method: str
) -> None:
    asked = project.overrides(f"quant.method={method}")
    built = [_build(Store(tmp_path / f"home-{threads}"), asked, threads) for threads in (1, 2, 3)]
    assert [key.split()[0] for key in built[0]] == ["calibrate", "quantize", "convert"]
    assert built[1] == built[0]
    assert built[2] == built[0]


def test_the_bytes_do_not_depend_on_the_surroundings(project: Project, tmp_path: Path) -> None:
    assert set(SURROUNDINGS) & set(MATH_SWITCHES), "the child forgets what the test sets"
    here = _build(Store(tmp_path / "here"), project.overrides(), 2)
    core = max(os.sched_getaffinity(0))
    there = _build_elsewhere(
        Store(tmp_path / "there"), project.overrides(), tmp_path / "elsewhere", core
    )
    assert there == here


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("model", ["builtin:random-llama", "stories3m"])
def test_real_builds_are_equal_to_the_byte(model: str, test_data: Path, tmp_path: Path) -> None:
    overrides = [f"model.path={model}", "quant=awq_w4_g128"]
    if model == "stories3m":
        overrides = [
            f"model.path={test_data / 'models' / model}",
            "quant=awq_w4_g64",
            f"calibration.data={test_data / 'text' / 'stories.train.txt'}",
        ]
    built = [
        _build(Store(tmp_path / f"home-{threads}"), overrides, threads) for threads in (1, 2, 3)
    ]
    for core in sorted(os.sched_getaffinity(0)):
        store = Store(tmp_path / f"core-{core}")
        built.append(_build_elsewhere(store, overrides, tmp_path / f"cwd-{core}", core))
    assert all(other == built[0] for other in built[1:])
