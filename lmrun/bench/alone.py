"""One timed run at a time on a machine: two would measure each other."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lmrun import log
from lmrun.errors import StageError

_log = log.get("lmrun.bench.alone")

LOCK_NAME = "timed-run.lock"


def lock_file() -> Path:
    """The file that timed runs of this user lock, whatever their LMRUN_HOME."""
    return Path(tempfile.gettempdir()) / f"lmrun-{os.getuid()}" / LOCK_NAME


@contextmanager
def timed(what: str = "bench") -> Iterator[None]:
    """Hold the machine for a timed run; wait, and say so, while another run of this user has it.

    One thread may enter it again. The kernel lets go when the process ends, however it does.
    Raises `StageError` where there is no place for the lock.
    """
    file = lock_file()
    try:
        lock = _acquired(file, what)
    except OSError as error:
        raise StageError(
            f"{file}: cannot be locked: {error.strerror}. Timed runs need it to keep apart."
        ) from error
    note = file.with_suffix(".holder")
    with suppress(OSError):  # a courtesy to who waits
        note.write_text(f"{what} (pid {os.getpid()})", encoding="utf-8")
    try:
        yield
    finally:
        lock.release()


def _acquired(file: Path, what: str) -> FileLock:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    if _owner(file.parent) != os.getuid():
        raise StageError(
            f"{file.parent}: belongs to another user. Timed runs need it to keep apart; remove it."
        )
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.warning("%s: %s has the machine; waiting for its end", what, _holder(file))
        lock.acquire()
        _log.info("%s: the machine is free", what)
    return lock


def _owner(folder: Path) -> int:
    return folder.lstat().st_uid


def _holder(file: Path) -> str:
    try:
        return file.with_suffix(".holder").read_text(encoding="utf-8") or "another timed run"
    except OSError:
        return "another timed run"
