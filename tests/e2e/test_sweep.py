"""Sweeps as their users run them: `lmrun -m` in a process of its own, real stages and engines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from lmrun import env
from lmrun.artifacts.measurements import now, save_ceilings
from lmrun.models import builtin
from lmrun.plan.machine import this_machine
from lmrun.sweep.rows import Status, Sweep, log_file, read_sweep, row_file
from unit.artifacts.test_measurements import CEILINGS

LMRUN = (sys.executable, "-P", "-m", "lmrun.cli.main")
TINY = ("model=random_llama", "backend.threads=1")
LIGHT = (
    "evaluate=none",
    "bench.requests=1",
    "bench.rounds=1",
    "bench.output_tokens=4",
    "bench.concurrency=[1]",
)
THREE = ("quant.method=none,rtn,awq", "calibration.samples=8", "calibration.seq_len=32")
QUALITY = (
    "evaluate.data=builtin:stories",
    "evaluate.max_tokens=64",
    "evaluate.kl_tokens=32",
    "evaluate.window=32",
)
CANARY = "hf_canary9f31c07e"
PATIENCE_S = 120.0


def start(*words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*LMRUN, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def run(*words: str, status: int = 0, **environment: str) -> tuple[str, str]:
    """stdout and stderr."""
    process = start(*words, **environment)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == status, err
    return out, err


def folders() -> list[Path]:
    return sorted(path for path in (env.home() / "sweeps").glob("*") if path.is_dir())


def the_sweep() -> Sweep:
    [folder] = folders()
    return read_sweep(folder)


def runs_of(sweep: Sweep) -> list[int]:
    """How often each point was begun."""
    return [
        log_file(sweep.folder, row.point).read_text().count("\n--- ")
        + log_file(sweep.folder, row.point).read_text().startswith("--- ")
        if log_file(sweep.folder, row.point).exists()
        else 0
        for row in sweep.rows
    ]


def wait_for(condition: Any, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE_S:g} s")


def points_below(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Processes of points that a sweep has started."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        return [one for one in below if "lmrun.sweep.point" in one.cmdline()]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def measured() -> None:
    """A machine whose ceilings are known, so that no bench stops to measure them."""
    known = replace(
        CEILINGS,
        machine=this_machine().identity,
        measured_at=now(),
        schemes=dict.fromkeys(("u4", "F16", "BF16", "F32"), CEILINGS.schemes["u4"]),
        attention_bytes_per_s=dict.fromkeys(("4", "8", "16", "32"), 4e9),
    )
    save_ceilings(env.home(), known)


@pytest.fixture
def running() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that a test leaves running."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_sweep_builds_times_and_compares_every_point_and_does_nothing_twice(
    measured: None,
) -> None:
    words = ("-m", *TINY, "kv.bits=16,8", *LIGHT[1:], *QUALITY)
    out, err = run(*words, "--json")
    document = json.loads(out)
    sweep = the_sweep()
    assert [row.status for row in sweep.rows] == [Status.ok, Status.ok]
    for row in sweep.rows:
        assert row.quality is not None and row.quality["kl"] >= 0
        assert row.bench is not None and row.bench["figures"]["tokens_per_s"] > 0
        assert row.bench["target"]["engine"]["kv_bits"] == row.point.keys["kv.bits"]
        assert row.memory is not None and row.memory.total_bytes > row.memory.kv_bytes
        assert row.seconds is not None and row.seconds > 0
    assert "1/2 kv.bits=16: memory " in err
    assert " left\n" in err
    assert "2/2 kv.bits=8: memory " in err
    assert (document["sweep"]["id"], document["points"]) == (sweep.id, 2)
    assert list(Path.cwd().iterdir()) == []
    assert runs_of(sweep) == [1, 1]
    again, err = run(*words)
    assert "2 points are known from an earlier run; 0 to run" in err
    assert f"sweep {sweep.id}: 2 points; 2 ok" in again
    assert runs_of(sweep) == [1, 1]
    # another sweep with one of the points takes its quality from the store, and times it anew
    run("-m", *TINY, "kv.bits=16,4", *LIGHT[1:], *QUALITY)
    other = next(read_sweep(folder) for folder in folders() if folder != sweep.folder)
    assert other.rows[0].point.id == sweep.rows[0].point.id
    assert other.rows[0].quality == sweep.rows[0].quality
    log = log_file(other.folder, other.rows[0].point).read_text()
    assert "evaluate: done" not in log
    assert "bench: " in log


def test_two_workers_build_one_artifact_once() -> None:
    Path("events").touch()
    _, err = run(
        *("build", "-m", *TINY, "quant.method=rtn", "kv.bits=16,8", "backend.max_num_seqs=2,4"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "--events", "events"),
    )
    sweep = the_sweep()
    assert sweep.verb == "build"
    assert [row.status for row in sweep.rows] == [Status.ok] * 4, err
    assert all(row.bench is None for row in sweep.rows)  # the verb reached the workers
    found = [json.loads(line) for line in Path("events").read_text().splitlines()]
    finished = Counter(event["stage"] for event in found if event["event"] == "stage_started")
    assert finished == {"resolve": 1, "quantize": 1, "convert": 1}


def test_points_of_joblib_are_built_first_and_timed_one_at_a_time(measured: None) -> None:
    _, err = run(
        *("-m", *TINY, "kv.bits=16,8", *LIGHT, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    )
    sweep = the_sweep()
    assert [row.status for row in sweep.rows] == [Status.ok, Status.ok], err
    phases = [
        [
            line.split()[2]
            for line in log_file(sweep.folder, row.point).read_text().splitlines()
            if line.startswith("--- ")
        ]
        for row in sweep.rows
    ]
    assert phases == [["offline:", "timing:"], ["offline:", "timing:"]]
    began, ended = [], []
    for row in sweep.rows:
        assert row.bench is not None
        start_s = datetime.fromisoformat(row.bench["started"]).timestamp()
        began.append(start_s)
        ended.append(start_s + row.bench["seconds"])
    assert max(began) >= min(ended) - 1  # of a start that is told in whole seconds


def test_one_failing_point_does_not_lose_the_others() -> None:
    Path("bad.jinja").write_text("{% if %}")
    _, err = run("build", "-m", *TINY, "model.chat_template=auto,./bad.jinja", status=10)
    good, bad = the_sweep().rows
    assert good.status is Status.ok
    assert bad.status is Status.failed
    assert "bad.jinja" in bad.why
    assert "failed: " in err
    assert runs_of(the_sweep()) == [1, 1]
    Path("bad.jinja").write_text("{{ messages }}")
    run("build", "-m", *TINY, "model.chat_template=auto,./bad.jinja")
    assert runs_of(the_sweep()) == [1, 2]  # what failed is tried again, and nothing else


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")])
def test_a_point_that_is_killed_is_a_row_and_the_rest_goes_on(
    launcher: tuple[str, ...], running: list["subprocess.Popen[str]"]
) -> None:
    process = start("build", "-m", *TINY, "quant.method=none,rtn", *launcher)
    running.append(process)
    [point] = wait_for(lambda: points_below(process), "a point's process")
    point.kill()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 10, err
    killed, other = the_sweep().rows
    assert (killed.status, killed.why) == (Status.failed, "its process was ended by SIGKILL.")
    assert other.status is Status.ok


def test_a_worker_that_is_killed_does_not_end_the_sweep(
    running: list["subprocess.Popen[str]"],
) -> None:
    process = start(
        *("build", "-m", *TINY, "quant.method=none,rtn"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    )
    running.append(process)
    [point, *_] = wait_for(lambda: points_below(process), "a point's process")
    worker = point.parent()
    assert worker is not None and worker.pid != process.pid
    worker.kill()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "the launcher joblib failed: " in err
    assert [row.status for row in the_sweep().rows] == [Status.ok, Status.ok]


def test_a_sweep_that_is_killed_loses_the_running_point_alone(
    running: list["subprocess.Popen[str]"],
) -> None:
    words = ("build", "-m", *TINY, *THREE)
    process = start(*words)
    running.append(process)
    [folder] = wait_for(folders, "the sweep's folder")
    wait_for((folder / "sweep.json").exists, "its file")
    first = the_sweep().rows[0]
    wait_for(lambda: row_file(folder, first.point).exists(), "the first row")
    second = the_sweep().rows[1]
    wait_for(lambda: log_file(folder, second.point).exists(), "the second point")
    [point, *_] = wait_for(lambda: points_below(process), "its process")
    process.kill()
    process.wait()
    wait_for(lambda: not point.is_running() or point.status() == "zombie", "the end of the point")
    assert the_sweep().rows[0].status is Status.ok
    _, err = run(*words)
    assert "known from an earlier run" in err
    assert [row.status for row in the_sweep().rows] == [Status.ok] * 3
    assert runs_of(the_sweep())[0] == 1
    assert sum(runs_of(the_sweep())) == 4


def test_the_workers_of_a_sweep_that_is_killed_die_with_it(
    running: list["subprocess.Popen[str]"],
) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = start("build", "-m", *TINY, *THREE, *launcher)
    running.append(process)
    wait_for(lambda: len(points_below(process)) == 2, "a point in each worker")
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) > 2
    process.kill()
    process.wait()
    wait_for(
        lambda: all(not one.is_running() or one.status() == "zombie" for one in below),
        "the end of the workers",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")])
def test_a_signal_stops_a_sweep_and_it_says_how_to_go_on(
    number: signal.Signals,
    launcher: tuple[str, ...],
    running: list["subprocess.Popen[str]"],
) -> None:
    process = start("build", "-m", *TINY, *THREE, *launcher)
    running.append(process)
    points = wait_for(lambda: points_below(process), "a point's process")
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    sweep = the_sweep()
    assert f"sweep {sweep.id}: stopped with " in err
    assert f"The same command goes on; lmrun sweep show {sweep.id} shows what there is." in err
    assert "Traceback" not in err
    wait_for(lambda: not any(point.is_running() for point in points), "the end of the points")


def test_the_same_sweep_is_not_run_twice_at_once_and_others_have_folders_of_their_own(
    running: list["subprocess.Popen[str]"],
) -> None:
    same = [start("build", "-m", *TINY, *THREE) for _ in range(2)]
    others = [start("build", "-m", *TINY, f"kv.bits={bits},32") for bits in (4, 8)]
    running += [*same, *others]
    said = [process.communicate(timeout=PATIENCE_S)[1] for process in (*same, *others)]
    statuses = sorted(process.returncode for process in same)
    assert statuses == [0, 4], said
    refused = said[next(i for i, process in enumerate(same) if process.returncode == 4)]
    assert (
        ": another command runs it. Wait for its end, or look at it: lmrun sweep show " in refused
    )
    assert [process.returncode for process in others] == [0, 0], said
    assert sorted(len(read_sweep(folder).rows) for folder in folders()) == [2, 2, 3]


def test_a_secret_is_in_no_file_of_a_sweep_and_in_no_output(measured: None) -> None:
    out, err = run(
        *("-m", *TINY, *LIGHT, "model.hub_token=null,${oc.env:LMRUN_TEST_TOKEN}"),
        *("frontend.api_keys=['${oc.env:LMRUN_TEST_KEY}']", "-v"),
        *("--html", "report.html", "--csv", "table.csv", "--events", "events"),
        LMRUN_TEST_TOKEN=CANARY,
        LMRUN_TEST_KEY=CANARY,
    )
    said = [out, err, *run("sweep", "show", "--json"), *run("sweep", "ls")]
    assert CANARY not in "".join(said)
    assert [row.status for row in the_sweep().rows] == [Status.ok, Status.skipped]
    files = [path for top in (env.home(), Path.cwd()) for path in top.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), path


def test_a_gate_that_fails_is_a_row_of_a_sweep_and_a_failure_of_a_build() -> None:
    words = ("-m", *TINY, *QUALITY, "kv.bits=16", "evaluate.max_ppl=1.5")
    run("eval", *words)
    [*rows] = the_sweep().rows
    assert [row.status for row in rows] == [Status.gate_failed]
    assert rows[0].why.startswith("evaluate.max_ppl=1.5 (command line): expected a perplexity of ")
    assert all(row.quality is not None and row.bench is None for row in rows)
    run("build", *words, status=10)
    _, err = run(*words)
    assert "gate failed: evaluate.max_ppl=1.5" in err


def test_the_place_of_the_flag_does_not_matter() -> None:
    recipe = "+recipe=w16_kv16_server"
    run("build", recipe, "-m", *TINY, "kv.bits=16,8")
    before = runs_of(the_sweep())
    run("-m", "build", recipe, *TINY, "kv.bits=16,8")
    run("build", recipe, *TINY, "kv.bits=16,8", "--multirun")
    assert runs_of(the_sweep()) == before == [1, 1]


def test_a_checkpoint_that_changed_is_built_again() -> None:
    shutil.copytree(builtin.demo_folder(), "copy")
    words = ("build", "-m", "model.path=./copy", "kv.bits=16,8")
    run(*words)
    run(*words)
    assert runs_of(the_sweep()) == [1, 1]
    config = Path("copy/config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "a_remark": "none"}))
    run(*words)
    assert runs_of(the_sweep()) == [2, 2]
