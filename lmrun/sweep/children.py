"""Child processes of a sweep: each dies with the process that started it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lmrun import events, log

GUARD = "lmrun.deploy.guard"
"""A module by name: it binds the process to its parent, then becomes the module it is given."""
TRACEBACK = "Traceback (most recent call last):"
STOP_S = 10.0
"""What a child gets to clear up."""


def reporting() -> list[str]:
    """Words for the guard of a child, so that it logs and sends events as this process does."""
    return [*log.arguments(), *events.arguments()]


def command(
    name: str, module: str, arguments: Sequence[str], how: Sequence[str] | None = None
) -> list[str]:
    """The words that start a module as the child ``name`` of this process.

    ``how`` are the words of `reporting`, by default this process's own.
    """
    said = reporting() if how is None else how
    guard = (sys.executable, "-P", "-m", GUARD, str(os.getpid()), "--name", name, *said)
    return [*guard, module, *arguments]


def run_logged(words: Sequence[str], log_file: Path, cwd: Path) -> int:
    """Run a command with all it says appended to a file; its status, negative for a signal.

    It has a session of its own, so that a Ctrl-C reaches this process alone. Whatever ends this
    call early ends the command, too. Call it on the main thread, whose end the kernel watches.
    """
    with log_file.open("ab") as out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=cwd,
            start_new_session=True,
        )
    try:
        return process.wait()
    except BaseException:
        stop(process)
        raise


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and after a while SIGKILL to the whole group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):  # nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe(status: int) -> str:
    """How a process ended, for a message."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def last_words(text: str) -> str:
    """What a process said at its end that is no line of the log: its error, in one line."""
    _, traceback, after = text.rpartition(TRACEBACK)
    if traceback:
        lines = after.splitlines()[1:]
        return next((line for line in lines if line.strip() and not line.startswith(" ")), "")
    said: list[str] = []
    for line in reversed(after.splitlines()):
        if line.startswith("{"):  # --log-format json
            return _message(line)
        if line.startswith(("DEBUG ", "INFO ", "WARNING ", "ERROR ")):
            break
        said.append(line.strip())
    return " ".join(reversed([line for line in said if line]))


def _message(line: str) -> str:
    """Of a line of the JSON log, what it says of an error."""
    try:
        record = json.loads(line)
    except ValueError:
        return ""
    is_error = isinstance(record, dict) and record.get("level") == "error"
    return " ".join(str(record.get("message", "")).split()) if is_error else ""
