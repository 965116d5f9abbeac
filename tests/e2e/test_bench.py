"""`lmrun bench` of real deployments: figures that must hold whatever the machine is doing."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from e2e.deployment import TINY, Starter, command, run, wait_until

from lmrun.artifacts.measurements import save_ceilings
from lmrun.bench import ceilings
from lmrun.bench.report import schema
from lmrun.plan.machine import this_machine

LOAD = (
    "bench.prompt_tokens=24",
    "bench.output_tokens=8",
    "bench.requests=3",
    "bench.rounds=2",
    "bench.concurrency=[1,3]",
)


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real bench may run beside these tests."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="session")
def measured(home: Path) -> Path:
    """The store of these tests, with ceilings of this machine as `lmrun doctor --measure` keeps
    them: a short look at them."""
    effort = ceilings.Effort(rounds=1, seconds=0.01, requests=2, caches=2)
    found = ceilings.measure(this_machine().identity, lambda _: None, 1e-4, effort)
    save_ceilings(home, found)
    return home


def report_of(out: str) -> dict[str, Any]:
    """The last line of what a bench printed."""
    document: dict[str, Any] = json.loads(out.splitlines()[-1])
    jsonschema.validate(document, schema())
    return document


def check_levels(report: dict[str, Any], prompt: int, output: int, requests: list[int]) -> None:
    assert report["complete"]
    assert [load["requests"] for load in report["loads"]] == requests
    for load in report["loads"]:
        assert (load["errors"], load["rounds"]) == (0, 2)
        assert (load["prompt_tokens"], load["output_tokens"]) == (prompt, output)
        assert load["cached_tokens"] == 0
        assert 0 < load["ttft_ms"]["p50"] <= load["latency_ms"]["max"]
        assert load["ttft_ms"]["p50"] <= load["ttft_ms"]["p90"] <= load["ttft_ms"]["p99"]
        rate = load["output_tokens_per_s"]
        assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        tokens = load["requests"] * output
        assert rate["min"] <= tokens / load["seconds"] * (1 + 1e-9)
        assert rate["max"] >= tokens / load["seconds"] * (1 - 1e-9)
        assert load["total_tokens_per_s"]["median"] == pytest.approx(
            rate["median"] * (prompt + output) / output
        )
        itl = ["itl_ms"] if load["itl_ms"]["mean"] > 0 else []  # 0: each answer came in one piece
        assert [bound["figure"] for bound in load["bounds"]] == [
            "ttft_ms",
            *itl,
            "output_tokens_per_s",
        ]
        assert all(bound["ceiling"] > 0 and bound["share"] > 0 for bound in load["bounds"])


def test_a_deployment_is_measured_from_nothing(tmp_path: Path) -> None:
    done = run(tmp_path / "home", "bench", *TINY, *LOAD)
    assert done.returncode == 0, done.stderr
    report = report_of(done.stdout)
    check_levels(report, 24, 8, [6, 6])
    assert report["target"]["kind"] == "deployment"
    assert report["target"]["engine"]["threads"] == 1
    assert report["target"]["ignores_eos"] is True
    assert report["memory"]["peak_rss_bytes"] > 2**20
    # 24 + 8 tokens are one block of 64 for each of three open requests
    assert report["memory"]["peak_kv_blocks"] == 3
    assert report["rates"]["source"] == "measured in this run"
    assert report["figures"]["tokens_per_s"] > 0
    assert done.stdout.startswith("bench     random-llama: prompts of 24 tokens, completions of 8")


def test_the_demo_model_is_measured(measured: Path) -> None:
    load = ("bench.prompt_tokens=100", "bench.output_tokens=6", *LOAD[2:])
    done = run(measured, "bench", "--json", "model=demo", "quant=none", "backend.threads=1", *load)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    report = report_of(line)
    check_levels(report, 100, 6, [6, 6])
    assert report["rates"]["source"] == "lmrun doctor --measure"


def test_a_running_deployment_is_measured_by_its_url(start: Starter, home: Path) -> None:
    deployment = start()
    done = run(home, "bench", "--json", "--url", deployment.url, *LOAD)
    assert done.returncode == 0, done.stderr
    report = report_of(done.stdout)
    assert (report["target"]["kind"], report["target"]["prompts"]) == ("url", "token ids")
    assert [load["errors"] for load in report["loads"]] == [0, 0]
    assert {load["prompt_tokens"] for load in report["loads"]} == {24}
    assert {load["output_tokens"] for load in report["loads"]} == {8}
    # again: prompts of another salt, which the prefix cache has not seen
    again = report_of(run(home, "bench", "--json", "--url", deployment.url, *LOAD).stdout)
    assert {load["cached_tokens"] for load in (*report["loads"], *again["loads"])} == {0}
    assert deployment.stop() == 0


def test_a_trace_is_replayed_within_the_context(measured: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("0,10,3\n0.1,4000,5\n0.2,30,4000\n")
    done = run(
        measured,
        *("bench", "--json", *TINY, "backend.context_length=256", f"bench.trace={trace}"),
        *("bench.requests=3", "bench.rounds=1", "bench.max_ttft_ms=600000"),
    )
    assert done.returncode == 0, done.stderr
    report = report_of(done.stdout)
    found = report["trace"]
    assert (found["requests"], found["clipped"], found["load"]["errors"]) == (3, 2, 0)
    assert found["load"]["output_tokens"] == pytest.approx((3 + 5 + 226) / 3)
    assert found["load"]["prompt_tokens"] == pytest.approx((10 + 251 + 30) / 3)
    assert report["loads"] == []


class Bench:
    """A bench that takes long, in a process of its own."""

    def __init__(self, home: Path, folder: Path) -> None:
        words = ("bench", "--json", *TINY, *LOAD[:2], "bench.concurrency=[2]")
        endless = ("bench.requests=20", "bench.rounds=100000")
        self._out, self._err = folder / "bench.out", folder / "bench.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = psutil.Popen(
                command(*words, *endless),
                stdout=out,
                stderr=err,
                env={**os.environ, "LMRUN_HOME": str(home)},
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_until_measuring(self) -> None:
        wait_until(lambda: "round 3 of" in self.err, 120)

    def child(self, module: str) -> psutil.Process:
        return next(c for c in self.process.children() if module in c.cmdline())


@pytest.fixture
def bench(measured: Path, tmp_path: Path) -> Iterator[Bench]:
    found = Bench(measured, tmp_path)
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.wait()


@pytest.mark.parametrize(
    ("module", "name"), [("lmrun.engine.worker", "engine"), ("lmrun.server", "server")]
)
def test_a_process_that_dies_is_named_and_what_was_measured_is_kept(
    bench: Bench, module: str, name: str
) -> None:
    bench.wait_until_measuring()
    bench.child(module).kill()
    assert bench.process.wait(60) == 5
    report = report_of(bench.out)
    assert report["complete"] is False
    assert report["problem"].splitlines()[0] == f"the {name} process was ended by SIGKILL."
    assert report["loads"][0]["requests"] >= 40
    assert report["figures"]["tokens_per_s"] > 0
    assert f"lmrun: bench: the {name} process was ended by SIGKILL." in bench.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it_with_130_and_leave_nothing_behind(
    bench: Bench, tmp_path: Path, number: signal.Signals
) -> None:
    bench.wait_until_measuring()
    children = bench.process.children(recursive=True)
    assert len(children) == 2
    if number is signal.SIGINT:  # as a terminal sends it: to the whole group
        os.killpg(bench.process.pid, number)
    else:
        bench.process.send_signal(number)
    assert bench.process.wait(60) == 130
    assert bench.err.splitlines()[-1] == "lmrun: interrupted"
    assert "Traceback" not in bench.err
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert list(tmp_path.glob("lmrun-????????")) == []


def test_the_death_of_a_bench_ends_its_children(bench: Bench) -> None:
    bench.wait_until_measuring()
    children = bench.process.children(recursive=True)
    bench.process.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_two_benches_of_one_machine_follow_one_another(bench: Bench, measured: Path) -> None:
    bench.wait_until_measuring()
    other = subprocess.Popen(
        command("bench", "--json", *TINY, *LOAD),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LMRUN_HOME": str(measured)},
    )
    assert other.stderr is not None
    for line in other.stderr:
        if "has the machine; waiting for its end" in line:
            break
    assert f"lmrun bench (pid {bench.process.pid})" in line
    time.sleep(0.2)
    assert other.poll() is None
    bench.process.send_signal(signal.SIGINT)
    out, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    assert report_of(out)["complete"]
