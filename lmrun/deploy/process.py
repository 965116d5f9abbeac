"""A child process of the deployment: started, logged, and ended with everything it started."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lmrun import log
from lmrun.deploy import guard


@dataclass
class Child:
    """A running child. Its log lines go to stderr behind its name."""

    name: str
    process: asyncio.subprocess.Process
    relay: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id, also that of its process group."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    async def wait(self) -> int:
        """The exit status once it ended (minus the signal number if one ended it)."""
        status = await self.process.wait()
        if self.relay is not None:
            # A grandchild may hold the pipe open; the log of the child itself is in it already.
            await asyncio.wait([self.relay], timeout=1.0)
        return status

    async def give(self, document: bytes) -> None:
        """Write the document to its stdin and close that; once."""
        stdin = self.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end says more
            stdin.write(document)
            await stdin.drain()
            stdin.close()
            await stdin.wait_closed()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child alone; nothing if it ended."""
        if self.alive:
            self.process.send_signal(number)

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, then after `grace_s` seconds SIGKILL to its whole process group."""
        self.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), grace_s)
        self.kill_group()
        return await self.wait()

    def kill_group(self) -> None:
        """SIGKILL to the child and to what it started and did not end."""
        with contextlib.suppress(ProcessLookupError):  # all of the group ended
            os.killpg(self.pid, signal.SIGKILL)

    def describe_end(self) -> str:
        """How it ended, for a message."""
        status = self.process.returncode
        if status is None:
            return f"the {self.name} process still runs"
        if status < 0:
            return f"the {self.name} process was ended by {_signal_name(-status)}"
        return f"the {self.name} process ended with status {status}"

    def explain_end(self) -> str:
        """`describe_end`; one that ended by itself has logged why, one that was killed has not."""
        is_logged = self.process.returncode is not None and self.process.returncode > 0
        return f"{self.describe_end()}{'; the reason stands above' if is_logged else ''}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Children:
    """Every child of a deployment, so that none is forgotten."""

    def __init__(self) -> None:
        self._started: list[Child] = []

    @property
    def pids(self) -> list[int]:
        """Of those that still run."""
        return [child.pid for child in self._started if child.alive]

    async def spawn(
        self,
        name: str,
        module: str,
        document: bytes,
        *,
        arguments: Sequence[str] = (),
        own_terminal: bool = False,
    ) -> Child:
        """`start`, then `Child.give` it the document."""
        child = await self.start(name, module, arguments=arguments, own_terminal=own_terminal)
        await child.give(document)
        return child

    async def start(
        self,
        name: str,
        module: str,
        *,
        arguments: Sequence[str] = (),
        own_terminal: bool = False,
    ) -> Child:
        """Start ``python -m module`` with `arguments`, its stdin open.

        It gets a session of its own, so that a Ctrl-C reaches the supervisor alone, and dies with
        this process. Must be called on the main thread, whose end is what the kernel watches.
        stdout and stderr are relayed line by line to stderr; with `own_terminal` its stderr
        is this process's, which progress bars need (unless it carries JSON lines), and its stdout
        is dropped.
        """
        pipe, drop = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        if own_terminal:
            stdout, stderr = drop, pipe if log.is_json() else None
        else:
            stdout, stderr = pipe, asyncio.subprocess.STDOUT
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing in the working directory can stand in for a module
            "-m",
            "lmrun.deploy.guard",
            *guard.words(name, module, arguments, os.getpid()),
            stdin=pipe,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            limit=1 << 20,
        )
        child = Child(name, process)
        self._started.append(child)
        output = process.stdout or process.stderr
        if output is not None:
            child.relay = asyncio.create_task(_relay(name, output))
        return child

    async def kill_all(self) -> None:
        """SIGKILL to everything that was started and still runs."""
        for child in self._started:
            if child.alive:
                child.kill_group()
        for child in self._started:
            await child.wait()


async def _relay(name: str, stream: asyncio.StreamReader) -> None:
    while True:
        try:
            raw = await stream.readline()
        except ValueError:
            continue  # a line beyond the limit: the reader dropped it
        if not raw:
            return
        line = raw.decode("utf-8", "replace").rstrip()
        sys.stderr.write(_relayed(name, line) + "\n")
        sys.stderr.flush()


def _relayed(name: str, line: str) -> str:
    """A child's line behind its name; among JSON lines its own object, or one around its text."""
    if not log.is_json():
        return f"[{name}] {line}"
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    is_record = isinstance(document, dict) and {"level", "message"} <= document.keys()
    return line if is_record else log.json_line("info", line, process=name)
