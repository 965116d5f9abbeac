"""A real `lmrun up`, started as a user starts it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx
import psutil

TINY = ("model=random_llama", "quant=none", "backend.threads=1")
START_S = 120.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Poll until it is true; AssertionError after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def command(*words: str) -> list[str]:
    """The console script of this interpreter's environment."""
    script = Path(sys.executable).with_name("lmrun")
    assert script.is_file(), f"{script} is missing: install lmrun"
    return [str(script), *words]


class Deployment:
    """`lmrun up` in the foreground of a process of its own, its output in files."""

    def __init__(self, folder: Path, home: Path, *words: str) -> None:
        self.port = free_port()
        self.ui_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._out, self._err = folder / "out", folder / "err"
        environment = {**os.environ, "LMRUN_HOME": str(home), "TMPDIR": str(folder)}
        ports = (f"frontend.port={self.port}", f"frontend.ui_port={self.ui_port}")
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = self._start(command("up", *TINY, *ports, *words), environment, out, err)
        self.runtime_root = folder

    def _start(
        self, words: list[str], environment: dict[str, str], out: IO[str], err: IO[str]
    ) -> psutil.Popen:
        return psutil.Popen(words, env=environment, stdout=out, stderr=err)

    @property
    def out(self) -> str:
        """stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """stderr so far."""
        return self._err.read_text()

    def wait_for(self, text: str) -> None:
        """Until stdout has the text."""
        deadline = time.monotonic() + START_S
        while text not in self.out:
            assert self.process.poll() is None, self.err
            assert time.monotonic() < deadline, self.err
            time.sleep(0.05)

    def line(self, start: str) -> str:
        """The line of stdout that begins so."""
        return next(line for line in self.out.splitlines() if line.startswith(start))

    def child(self, module: str) -> psutil.Process:
        """The child that runs a module."""
        return next(
            child for child in self.process.children(recursive=True) if module in child.cmdline()
        )

    def has_child(self, module: str) -> bool:
        """Whether one runs a module by now."""
        for child in self.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in child.cmdline():
                    return True
        return False

    def children(self) -> list[psutil.Process]:
        """Every process below the supervisor."""
        return list(self.process.children(recursive=True))

    def status(self, path: str) -> int | None:
        """HTTP status of a GET; None where nobody listens."""
        try:
            return httpx.get(self.url + path, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return None

    def stop(self) -> int:
        """SIGTERM and wait; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(60))

    def clean_up(self) -> None:
        """SIGKILL to whatever is left."""
        if self.process.poll() is None:
            for process in (*self.children(), self.process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(10)


def run(home: Path, *words: str, stdin: str = "", cwd: Path | None = None) -> "Finished":
    """One `lmrun` command to its end."""
    done = subprocess.run(
        command(*words),
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "LMRUN_HOME": str(home)},
        timeout=120,
        check=False,
        cwd=cwd,
    )
    return done


Finished = subprocess.CompletedProcess[str]
Starter = Callable[..., Deployment]
"""Starts a deployment with overrides; see the fixture `start`."""
