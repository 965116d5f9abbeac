"""Files on disk: stamps, hashing, and writes that survive a crash."""

import errno
import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.errors import ArtifactError

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """What tells that a file has been replaced or written to, short of its bytes."""

    size: int
    mtime_ns: int
    inode: int


def stamp(path: Path) -> Stamp:
    """The stamp of a file; links are followed. Raises `OSError`."""
    info = path.stat()
    return Stamp(info.st_size, info.st_mtime_ns, info.st_ino)


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes, in hex. ``progress`` is told the bytes of each chunk."""
    hasher = hashlib.sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            hasher.update(chunk)
            if progress is not None:
                progress(len(chunk))
    return hasher.hexdigest()


def files_under(folder: Path) -> list[str]:
    """Files below a folder as sorted relative POSIX names; links to folders are not followed."""
    found = []
    for place, _, names in os.walk(folder):
        relative = Path(place).relative_to(folder)
        found += [(relative / name).as_posix() for name in names]
    return sorted(found)


def fsync_path(path: Path) -> None:
    """Flush a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file; one that died holds none. Writes nothing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def remove_lock_file(path: Path) -> bool:
    """Remove a lock file that no process holds; whether it is gone.

    The name goes while the lock is held, so that whoever opened the file before sees, once it has
    the lock, that the file has no name any more, and begins again (filelock does).
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return not path.exists()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            path.unlink()
    except OSError:
        return not path.exists()
    finally:
        os.close(handle)
    return True


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """JSON as lmrun writes it; `ValueError` for NaN, infinities and too many levels too."""
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("too many levels") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def write_json(path: Path, document: Any) -> None:  # noqa: ANN401 - any JSON value
    """Replace a JSON file at once, as `write_text` does."""
    write_text(path, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file at once: written aside, flushed, renamed, the folder flushed."""
    # No pid: containers that share a store have the same ones.
    aside = path.with_name(f".{path.name}.{secrets.randbits(48)}")
    try:
        with aside.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turns a full or read-only disk below ``place`` into an `ArtifactError` that says so."""
    try:
        yield
    except OSError as error:
        where = Path(os.fsdecode(error.filename)) if error.filename else place
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f"store: no space left at {place} ({free_bytes(place) / 2**30:.1f} GiB free)."
                " Free some, or name another folder by LMRUN_HOME."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise ArtifactError(
                f"store: cannot write {where} ({error.strerror})."
                " Name a writable folder by LMRUN_HOME."
            ) from error
        if error.errno == errno.EFBIG:
            raise ArtifactError(
                f"store: {where} would be larger than this process or file system may write"
                " (ulimit -f). Raise the limit, or name another folder by LMRUN_HOME."
            ) from error
        raise


def free_bytes(place: Path) -> int:
    """Free bytes of the disk where a file or folder lies, or will lie."""
    return shutil.disk_usage(existing(place)).free


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path
