"""lmrun as a child of a Python program: what `lmrun.up` and `lmrun.LLM` start.

The command runs in a process of its own, so that it works from a script, a REPL, a thread and a
notebook alike: nothing here needs the main thread, a signal handler or an event loop. Its events
(`lmrun.events`) tell how far it is and why it failed.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lmrun import errors, events
from lmrun.errors import ExitStatus, LmrunError, StageError, UsageError

_POLL_S = 0.05
_LOG_TAIL_LINES = 8
_LOGGED = (ExitStatus.BUG, ExitStatus.STAGE_FAILED)
"""Statuses of failures whose reason may stand in the log alone."""


@dataclass
class _Command:
    """`lmrun VERB …` in a child that dies with this process."""

    words: Sequence[str]
    folder: Path
    """Private; holds the child's log and events."""
    started: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[bytes] | None = None
    failure: OSError | None = None

    def run(self) -> None:
        """Start the child and stay until it ends: the kernel ends it with the thread that started
        it, so that thread must outlive it."""
        guarded = ("-m", "lmrun.deploy.guard", str(os.getpid()), "--name", "lmrun")
        flags = ("--events", str(self.folder / "events"))
        try:
            with (self.folder / "log").open("wb") as log_file:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", *guarded, "lmrun.cli.main", *self.words, *flags],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log_file,
                    start_new_session=True,
                )
        except OSError as error:
            self.failure = error
            return
        finally:
            self.started.set()
        self.process.wait()

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def stop(self) -> int:
        """Ask it to stop, and wait; its exit status."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait()
        except BaseException:  # Ctrl-C in the middle: what is asked twice stops at once
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            raise

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Events as they come, None while there is none, until the child has ended."""
        path = self.folder / "events"
        position = 0
        while True:
            has_ended = self.poll() is not None
            body = path.read_bytes()[position:] if path.is_file() else b""
            complete = body[: body.rfind(b"\n") + 1]
            position += len(complete)
            for line in complete.splitlines():
                yield json.loads(line)
            if has_ended:
                return
            yield None

    def error(self, event: dict[str, Any]) -> LmrunError:
        """The child's failure as an exception of this process; ``event`` is its `Error`, or {}."""
        status = self.poll() or ExitStatus.BUG
        kind = getattr(errors, event.get("kind", ""), StageError)
        error: LmrunError = kind(event.get("message", f"lmrun: ended with status {status}."))
        error.status = _named(status)
        tail = (self.folder / "log").read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        if error.status in _LOGGED and tail:
            error.add_note("\n".join(tail))
        return error


def _named(status: int) -> ExitStatus:
    """The exit status; that of a process which a signal ended is `STAGE_FAILED`."""
    try:
        return ExitStatus(status)
    except ValueError:
        return ExitStatus.STAGE_FAILED


def _start(verb: str, overrides: Sequence[str]) -> _Command:
    """A started command. Raises `UsageError` on a word that is a flag."""
    for word in overrides:
        if not isinstance(word, str) or word.startswith("-"):
            raise UsageError(f"{word!r}: expected an override such as 'kv.bits=8'.")
    command = _Command((verb, *overrides), Path(tempfile.mkdtemp(prefix="lmrun-python-")))
    threading.Thread(target=command.run, name=f"lmrun-{verb}", daemon=True).start()
    command.started.wait()
    if command.failure is not None:
        shutil.rmtree(command.folder, ignore_errors=True)
        raise StageError(f"lmrun {verb}: cannot be started: {command.failure}.")
    return command


def _until(command: _Command, name: str) -> dict[str, Any]:
    """The first event of a name; raises the child's error where it ends before."""
    error: dict[str, Any] = {}
    for event in command.events():
        if event is None:
            time.sleep(_POLL_S)
        elif event["event"] == name:
            return event
        elif event["event"] == events.Error.name:
            error = event
    raise command.error(error)


def _end(command: _Command) -> None:
    if command.poll() is None:
        command.stop()
    shutil.rmtree(command.folder, ignore_errors=True)


class Deployment:
    """A deployment that answers requests; see `lmrun.up`."""

    base_url: str
    """Of the API, without ``/v1``."""
    model: str
    """Name in the API."""

    def __init__(self, command: _Command, ready: dict[str, Any]) -> None:
        self._command = command
        self._finalize = weakref.finalize(self, _end, command)
        self.base_url, self.model = str(ready["url"]), str(ready["model"])

    @property
    def pid(self) -> int:
        """Of the supervisor, whose children serve."""
        assert self._command.process is not None
        return self._command.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._command.poll() is None

    def stop(self) -> ExitStatus:
        """Let running requests end (``frontend.drain_s``), then stop; 0 where all of it lived.

        Again is harmless. Leaving the ``with`` block, the end of the program and of this object
        do the same.
        """
        if self.is_running:
            self._command.stop()
        status = self._command.poll()
        self._finalize()
        assert status is not None
        return _named(status)

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def up(overrides: Sequence[str]) -> Deployment:
    """Build what is missing, launch, and return when it answers.

    Raises what the command line would say: `ConfigError`, `PlanError`, `StageError`.
    """
    command = _start("up", overrides)
    try:
        return Deployment(command, _until(command, events.Ready.name))
    except BaseException:
        _end(command)
        raise


def build(overrides: Sequence[str]) -> None:
    """Run the stages that are missing, as `lmrun build` does; raises as `up`."""
    command = _start("build", overrides)
    error: dict[str, Any] = {}
    try:
        for event in command.events():
            if event is None:
                time.sleep(_POLL_S)
            elif event["event"] == events.Error.name:
                error = event
        if command.poll() != ExitStatus.OK:
            raise command.error(error)
    finally:
        _end(command)
