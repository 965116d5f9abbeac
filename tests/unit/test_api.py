"""lmrun from Python: the documented examples, notebooks, threads, and what is left behind."""

import asyncio
import doctest
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psutil
import pytest
from e2e.deployment import TINY, free_port, wait_until

import lmrun
import lmrun.api
from lmrun.errors import ConfigError, ExitStatus, PlanError, StageError, UsageError
from unit.processes import is_running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests of this file share."""
    return tmp_path_factory.mktemp("api-home")


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(home))


def test_the_documented_examples_run() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    [example] = finder.find(lmrun.api, extraglobs={"free_port": free_port()})
    assert len(example.examples) > 15
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert result.failed == 0, "".join(report)


def test_importing_lmrun_costs_nothing() -> None:
    code = (
        "import sys, lmrun; assert set(dir(lmrun)) >= {'__version__'};"
        "heavy = [name for name in sys.modules if name.startswith('lmrun.')];"
        "heavy += {'hydra', 'omegaconf', 'pydantic', 'numpy', 'torch', 'logging'} & {*sys.modules};"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_composing_and_planning_load_no_torch() -> None:
    code = (
        "import sys, lmrun; lmrun.compose('kv.bits=8'); lmrun.plan('model=random_llama');"
        "heavy = {'torch', 'transformers', 'gradio'} & {*sys.modules};"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plan_is_a_package_and_a_function_whatever_was_imported_before() -> None:
    for first in ("import lmrun", "import lmrun.plan.plan, lmrun", "from lmrun import plan, api"):
        code = (
            f"{first}; import lmrun; from lmrun.plan.plan import Plan; import lmrun.plan.sizes;"
            "assert isinstance(lmrun.plan('model=random_llama'), Plan)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(lmrun.plan, ModuleType)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lmrun' has no attribute 'lauch'"):
        _ = getattr(lmrun, "lauch")  # noqa: B009 - a name that type checkers would refuse


@pytest.mark.parametrize("word", [["+recipe=mine"], None, 3])
def test_overrides_that_are_no_texts_are_refused(word: Any) -> None:
    for function in (lmrun.compose, lmrun.plan, lmrun.up, lmrun.LLM):
        with pytest.raises(UsageError) as caught:
            function("kv.bits=8", word)
        assert str(caught.value) == (
            f"overrides: expected texts such as '+recipe=mine', got {type(word).__name__}."
            " Write each as an argument of its own."
        )


def test_every_name_of_the_api_is_there() -> None:
    assert all(getattr(lmrun, name) is not None for name in lmrun.__all__)


@pytest.mark.parametrize(
    ("overrides", "error", "text"),
    [
        (
            ("kv.bits=5",),
            ConfigError,
            "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
        ),
        (
            ("backend.name=vllm",),
            PlanError,
            "backend.name=vllm (command line): not built yet; native is.",
        ),
        (("--json",), UsageError, "'--json': expected an override such as 'kv.bits=8'."),
        (("-m", "kv.bits=4,8"), UsageError, "'-m': expected an override such as 'kv.bits=8'."),
    ],
)
def test_up_raises_what_the_command_line_says(
    overrides: tuple[str, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        lmrun.up(*TINY, *overrides)
    assert str(caught.value) == text


def test_a_build_that_fails_carries_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "partial").touch()  # where stages write
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path))
    for start in (lmrun.LLM, lmrun.up):
        with pytest.raises(StageError) as caught:
            start(*TINY, f"frontend.port={free_port()}")
        assert caught.value.status is ExitStatus.STAGE_FAILED
        assert f"{tmp_path}" in "".join(caught.value.__notes__)


def test_a_deployment_serves_and_leaves_no_process_behind() -> None:
    with lmrun.up(*TINY, f"frontend.port={free_port()}") as deployment:
        supervisor = psutil.Process(deployment.pid)
        family = [supervisor, *supervisor.children(recursive=True)]
        body = {"model": deployment.model, "prompt": "Once", "max_tokens": 2}
        reply = httpx.post(f"{deployment.base_url}/v1/completions", json=body, trust_env=False)
        assert reply.json()["usage"]["completion_tokens"] == 2
    assert len(family) >= 3
    assert deployment.stop() is ExitStatus.OK
    wait_until(lambda: not any(is_running(process.pid) for process in family))


def test_the_body_of_the_block_may_fail() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        lmrun.up(*TINY, f"frontend.port={free_port()}") as deployment,
    ):
        _ = 1 / 0
    assert not deployment.is_running


def test_a_dropped_deployment_stops() -> None:
    deployment = lmrun.up(*TINY, f"frontend.port={free_port()}")
    supervisor = psutil.Process(deployment.pid)
    del deployment
    wait_until(lambda: not is_running(supervisor.pid))


def test_it_works_in_a_thread_that_ends_and_under_a_running_loop() -> None:
    made: list[lmrun.Deployment] = []

    async def cell() -> None:
        asyncio.get_running_loop()
        made.append(lmrun.up(*TINY, f"frontend.port={free_port()}"))

    thread = threading.Thread(target=lambda: asyncio.run(cell()))
    thread.start()
    thread.join()
    time.sleep(0.5)
    [deployment] = made
    url = f"{deployment.base_url}/health/ready"
    assert httpx.get(url, trust_env=False).status_code == 200
    assert deployment.stop() is ExitStatus.OK


def test_under_a_running_loop_an_llm_builds_and_generates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path))  # nothing is built there

    async def cell() -> str:
        llm = lmrun.LLM(*TINY)
        assert llm.plan.missing == ()
        greedy = lmrun.SamplingParams(temperature=0.0, max_tokens=2)
        return llm.generate(["Once"], greedy)[0].finish_reason

    assert asyncio.run(cell()) == "length"


SCRIPT = """
import lmrun, os, sys, time
deployment = lmrun.up(*{overrides!r})
print(deployment.pid, flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "raise SystemExit(3)", "os.kill(os.getpid(), 9)", "time.sleep(60)"]
)
def test_the_end_of_the_program_is_the_end_of_the_deployment(end: str) -> None:
    overrides = (*TINY, f"frontend.port={free_port()}")
    code = SCRIPT.format(overrides=overrides, end=end)
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    supervisor = psutil.Process(int(program.stdout.readline()))
    family = [supervisor, *supervisor.children(recursive=True)]
    if "sleep" in end:
        program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=60)
    wait_until(lambda: not any(is_running(process.pid) for process in family))
    assert ("KeyboardInterrupt" in said) == ("sleep" in end)


def test_a_notebook_that_is_interrupted_while_it_waits_leaves_nothing(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import lmrun
        print("go", flush=True)
        lmrun.up(*{TINY!r}, "frontend.port={free_port()}")
        """
    )
    program = psutil.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LMRUN_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)},
    )
    assert program.stdout.readline() == "go\n"
    wait_until(lambda: bool(program.children(recursive=True)))
    family = program.children(recursive=True)
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=60)
    wait_until(lambda: not any(is_running(process.pid) for process in family))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("lmrun-")] == []


def test_a_child_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StageError, match=r"lmrun up: cannot be started: .*/nowhere/python"):
        lmrun.up(*TINY)
