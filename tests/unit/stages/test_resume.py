"""`kill -9` at random points: finished layers are not done again, and the bytes are the same."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.plan.plan import Plan
from unit.stages.projects import Project

Write = Callable[..., Path]
LAYERS = 16
FINISHED = re.compile(rf"quantize: (\d+) of {LAYERS} layers are finished")
DONE = re.compile(rf"quantize: layer (\d+) of {LAYERS} in")


def _child(plan: Plan, home: Path) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(
        [sys.executable, "-m", "lmrun.stages.runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LMRUN_HOME": str(home)},
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(plan.to_json()).encode())
    child.stdin.close()
    child.stdin = None
    return child


def _layers(home: Path, stage: str) -> dict[str, int]:
    """Layers that are whole on the disk, and when their files were written."""
    found = {}
    for digest in (home / "partial").glob(f"{stage}-*/.resume/layer-*.sha256"):
        path = digest.with_suffix(".safetensors")
        with suppress(FileNotFoundError):  # the stage ended meanwhile
            found[path.name] = path.stat().st_mtime_ns
    return found


def _killed(child: "subprocess.Popen[bytes]", home: Path, stage: str, wait: float) -> str | None:
    """The log of a child killed ``wait`` seconds after a stage finished a layer; None where it
    ended before."""
    before = len(_layers(home, stage))
    deadline = time.monotonic() + 120
    while len(_layers(home, stage)) <= before and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(wait)
    child.send_signal(signal.SIGKILL)
    _, err = child.communicate()
    if child.returncode == 0:
        return None
    assert child.returncode == -signal.SIGKILL, err.decode()
    return err.decode()


def _digests(project: Project, where: str, method: str) -> dict[str, dict[str, str]]:
    found = {}
    for stage in ("calibrate", "quantize", "convert"):
        files = project.artifact(stage, where, method).manifest.files
        found[stage] = {name: record.sha256 for name, record in files.items()}
    return found


def _kill_and_go_on(
    project: Project, where: str, method: str, home: Path, *, kills: int
) -> tuple[Project, int]:
    """Build with as many kills of quantize as there can be; returns how many there were."""
    killed = replace(project, store=Store(home))
    chance = random.Random(1)
    done = 0
    while done < kills:
        kept = _layers(home, "quantize")
        child = _child(killed.plan(where, method), home)
        log = _killed(child, home, "quantize", chance.uniform(0, 0.15))
        if log is None:
            break
        done += 1
        _check_not_redone(log, kept, _layers(home, "quantize"))
    kept = _layers(home, "quantize")
    child = _child(killed.plan(where, method), home)
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err.decode()
    assert json.loads(out) == {"workspace": str(killed.plan(where, method).workspace)}
    if kept:
        _check_not_redone(err.decode(), kept, kept)
    return killed, done


def _check_not_redone(log: str, before: dict[str, int], after: dict[str, int]) -> None:
    """The log begins behind the layers that were whole, and their files were not written again."""
    assert {name: after.get(name) for name in before} == before
    said = FINISHED.findall(log)
    assert [int(number) for number in said] == ([len(before)] if before else [])
    assert all(int(number) > len(before) for number in DONE.findall(log))


@pytest.mark.timeout(600)
def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(
    project: Project, write_checkpoint: Write, tmp_path: Path
) -> None:
    where = f"model.path={write_checkpoint('deep', num_hidden_layers=LAYERS)}"
    method = "quant.method=gptq"
    project.build(where, method)
    killed, kills = _kill_and_go_on(project, where, method, tmp_path / "killed", kills=2)
    assert kills == 2
    assert _digests(killed, where, method) == _digests(project, where, method)


@pytest.mark.timeout(600)
def test_calibrate_goes_on_after_a_kill(
    project: Project, write_checkpoint: Write, tmp_path: Path
) -> None:
    where = f"model.path={write_checkpoint('deep', num_hidden_layers=LAYERS)}"
    project.build(where)
    home = tmp_path / "killed"
    killed = replace(project, store=Store(home))
    assert _killed(_child(killed.plan(where), home), home, "calibrate", 0.0) is not None
    kept = _layers(home, "calibrate")
    assert kept
    killed.build(where)
    assert _digests(killed, where, "quant.method=awq") == _digests(
        project, where, "quant.method=awq"
    )


@pytest.mark.timeout(600)
def test_pruning_goes_on_after_a_kill(
    project: Project, write_checkpoint: Write, tmp_path: Path
) -> None:
    where = f"model.path={write_checkpoint('deep', num_hidden_layers=LAYERS)}"
    words = (where, "prune.method=sparsegpt", "quant.method=none")
    project.build(*words)
    home = tmp_path / "killed"
    killed = replace(project, store=Store(home))
    assert _killed(_child(killed.plan(*words), home), home, "prune", 0.0) is not None
    kept = _layers(home, "prune")
    assert kept
    out, err = _child(killed.plan(*words), home).communicate(timeout=240)
    log = err.decode()
    assert f"prune: {len(kept)} of {LAYERS} layers are finished" in log
    redone = [int(number) for number in re.findall(rf"prune: layer (\d+) of {LAYERS} in", log)]
    assert redone == list(range(len(kept) + 1, LAYERS + 1))
    assert json.loads(out) == {"workspace": str(killed.plan(*words).workspace)}
    digests = [
        {name: one.sha256 for name, one in each.artifact("prune", *words).manifest.files.items()}
        for each in (project, killed)
    ]
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("method", ["awq", "gptq", "autoround"])
def test_twenty_kills_change_no_byte(
    project: Project, write_checkpoint: Write, tmp_path: Path, method: str
) -> None:
    where = f"model.path={write_checkpoint('deep', num_hidden_layers=LAYERS)}"
    asked = f"quant.method={method}"
    project.build(where, asked)
    kills = 0
    for attempt in range(20):
        home = tmp_path / f"killed-{attempt}"
        killed, more = _kill_and_go_on(project, where, asked, home, kills=20 - kills)
        assert _digests(killed, where, asked) == _digests(project, where, asked)
        kills += more
        if kills >= 20 or more == 0:
            break
    assert kills >= 20
