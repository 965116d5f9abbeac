"""Builds of a tiny model in processes that are killed, or whose disk fails, at a chosen point.

Run as a script with overrides as JSON on the first line of stdin. It imports lmrun and torch once
and forks a child for each order that follows, so that hundreds of attempts cost seconds. An order
is a JSON object on a line:

    {"home": HOME, "die_at": N}                 SIGKILL at the N-th change to the file system
    {"home": HOME, "die_after_s": X}            SIGKILL that many seconds after the start
    {"home": HOME, "fail_from": N, "errno": E}  that change and each later one raises the error; on
                                                a full disk removing still works
    {"home": HOME, "fill_at": N, "filler": FILE, "leave": B}  FILE takes all but B bytes of a disk
    {"home": HOME, "file_bytes": N}             no file may grow larger (RLIMIT_FSIZE)
    {"home": HOME}                              an undisturbed build

and is answered by a line with ``status`` (of the command, or minus the signal), ``changes`` (how
many; null where it was killed), ``seconds`` and ``error`` (the message).

A change is an opening for writing, a rename, or the making or removing of a file, a folder or a
link below the home folder, before it happens: Python's audit events, the same in every run.
"""

import errno
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.errors import LmrunError
from lmrun.plan.planner import make_plan
from lmrun.stages.runner import build

WRITES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.utime"}


class Changes:
    """Counts changes below a folder and strikes at one of them."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._home = order["home"]
        self._below = order["home"] + os.sep
        self._die_at = order.get("die_at")
        self._fail_from = order.get("fail_from")
        self._errno = order.get("errno")
        self._fill_at = order.get("fill_at")
        self._filler = Path(order.get("filler", "/nowhere"))
        self._leave = order.get("leave", 0)
        self._lock = threading.Lock()
        self.count = 0

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For `sys.addaudithook`."""
        if not self._is_change(event, arguments):
            return
        with self._lock:
            self.count += 1
            number = self.count
        if number == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self._fill_at:
            free = shutil.disk_usage(self._filler.parent).free
            self._filler.write_bytes(bytes(max(0, free - self._leave)))
        if self._fail_from is None or number < self._fail_from:
            return
        if self._errno == errno.EROFS or event not in ("os.remove", "os.rmdir"):
            raise OSError(self._errno, os.strerror(self._errno), str(arguments[0]))

    def _is_change(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            is_write = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            return bool(is_write) and self._is_below(path)
        return event in WRITES and any(self._is_below(argument) for argument in arguments[:2])

    def _is_below(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return text == self._home or text.startswith(self._below)


def _build(home: Path, overrides: list[str]) -> None:
    store = Store(home)
    build(make_plan(compose(overrides), store), store)


def _attempt(order: dict[str, Any], overrides: list[str], answer: int) -> None:
    """In the child: build, and say how it went."""
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"],) * 2)
    if "die_after_s" in order:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        clock = threading.Timer(order["die_after_s"], os.kill, (os.getpid(), signal.SIGKILL))
        clock.daemon = True
        clock.start()
    changes = Changes(order)
    sys.addaudithook(changes.hook)
    status, text = 0, ""
    try:
        _build(Path(order["home"]), overrides)
    except LmrunError as error:
        status, text = int(error.status), str(error)
    count = changes.count
    os.write(answer, json.dumps({"changes": count, "error": text}).encode())
    os._exit(status)


def main() -> None:
    """Serve orders until the end of stdin."""
    overrides = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory() as home:
        _build(Path(home), overrides)  # what is imported on the way is there for every child

    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _attempt(order, overrides, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            said = json.loads(answer.read() or b"{}")
        _, raw = os.waitpid(child, 0)
        result = {
            "status": os.waitstatus_to_exitcode(raw),
            "changes": said.get("changes"),
            "seconds": time.monotonic() - start,
            "error": said.get("error", ""),
        }
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
