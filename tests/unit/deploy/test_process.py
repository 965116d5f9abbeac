"""Children are real processes; the modules they run are written by the test."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmrun.deploy.process import Children
from unit.processes import PATIENCE_S, is_running, wait_gone

CHILD = "lmrun_test_child"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module that children can run; its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(text: str) -> str:
        (tmp_path / f"{CHILD}.py").write_text(text)
        return CHILD

    return write


def wait_for_pid(path: Path) -> int:
    """The process id that a child writes into a file."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


def test_a_child_reads_its_document_and_its_output_carries_its_name(
    module: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    name = module("import sys; print('got', sys.stdin.read(), sys.argv[1:])")

    async def main() -> int:
        child = await Children().spawn("echo", name, b"document", arguments=("--socket", "s"))
        return await child.wait()

    assert asyncio.run(main()) == 0
    assert capfd.readouterr().err == "[echo] got document ['--socket', 's']\n"


def test_a_module_in_the_working_directory_is_not_taken(
    module: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = module("import json; print(json.dumps([1]))")
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(elsewhere)

    async def main() -> int:
        child = await Children().spawn("child", name, b"")
        return await child.wait()

    assert asyncio.run(main()) == 0
    assert capfd.readouterr().err == "[child] [1]\n"


def test_a_child_that_ends_before_it_reads_is_described_in_one_line(
    module: Callable[[str], str],
) -> None:
    name = module("raise SystemExit(3)")

    async def main() -> str:
        child = await Children().spawn("engine", name, b"x" * 1_000_000)
        await child.wait()
        return child.describe_end()

    assert asyncio.run(main()) == "the engine process ended with status 3"


def test_a_stop_ends_a_child_that_ignores_sigterm_and_what_it_started(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    pid_file = tmp_path / "grandchild"
    name = module(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )

    async def main() -> tuple[int, str]:
        child = await Children().spawn("stubborn", name, b"")
        grandchild = await asyncio.to_thread(wait_for_pid, pid_file)
        await child.stop(0.2)
        return grandchild, child.describe_end()

    grandchild, end = asyncio.run(main())
    wait_gone(grandchild)
    assert end == "the stubborn process was ended by SIGKILL"


def test_a_child_dies_when_its_parent_is_killed(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    name = module(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio\n"
            "from lmrun.deploy.process import Children\n"
            "async def main():\n"
            f"    child = await Children().spawn('child', {name!r}, b'')\n"
            "    await child.wait()\n"
            "asyncio.run(main())\n",
        ],
        env={**os.environ},
    )
    pid = wait_for_pid(pid_file)
    assert is_running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait(PATIENCE_S)
    wait_gone(pid)


def test_a_child_whose_parent_has_gone_before_it_starts_runs_nothing(
    module: Callable[[str], str], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    name = module(f"open({str(mark)!r}, 'w').write('ran')")
    elsewhere = 1  # not the parent of what this test starts
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lmrun.deploy.guard", str(elsewhere), name],
        check=False,
        timeout=30,
    )
    assert done.returncode != 0
    assert not mark.exists()
