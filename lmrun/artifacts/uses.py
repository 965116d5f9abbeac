"""Who needs which artifact: lock files, and commands that run. `gc` and `rm` ask here.

    lock-files/<hash of its path>.json   where a lock file was written; the file says what it needs
    deployments/<id>.json, <id>.lock     a command that runs: what it uses; locked while it lives
    locks/store.lock                     held while uses are noted, and while artifacts are removed

A command notes what it uses and *then* looks whether it is there, so that a removal either comes
before and is seen, or after and finds the note.
"""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock

from lmrun import json_schema, log
from lmrun.artifacts.files import is_locked, remove_lock_file, storage_errors, write_json
from lmrun.artifacts.manifest import check
from lmrun.errors import ArtifactError
from lmrun.json_schema import DIGEST, TEXT, TEXT_OR_NULL, mapping

LOCK_FILES = "lock-files"
RUNNING = "deployments"
SCHEMA_VERSION = 1
MAX_LOCK_BYTES = 64 << 20
_FINGERPRINT = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
SCHEMA = json_schema.document(
    "lmrun deployment record",
    SCHEMA_VERSION,
    {
        "workspace": TEXT_OR_NULL,
        "host": TEXT_OR_NULL,
        "port": {"type": ["integer", "null"]},
        "served_name": TEXT_OR_NULL,
        "recipe": TEXT_OR_NULL,
    },
    id={"type": "string", "pattern": "^[0-9a-f]{16}$"},
    verb=TEXT,
    pid={"type": "integer", "minimum": 1},
    pid_started={"type": "number", "minimum": 0},
    started={"type": "number", "minimum": 0},
    artifacts={**mapping(DIGEST), "propertyNames": {"pattern": "^[a-z_]+$"}},
)
"""JSON Schema of `deployments/<id>.json`; checked on every write and read."""

_log = log.get(__name__)


@dataclass(frozen=True)
class Use:
    """What a command uses while it runs."""

    verb: str
    """`up`, `build`, `export`, …"""
    artifacts: Mapping[str, str]
    """Stage → fingerprint; an artifact need not be there yet."""
    workspace: str | None = None
    """Folder that the engine maps."""
    host: str | None = None
    port: int | None = None
    served_name: str | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class Running:
    """A command that runs, as its record tells."""

    id: str
    pid: int
    pid_started: float
    """When the process began, in seconds since 1970: a pid may come again."""
    started: float
    """When the use began, in seconds since 1970."""
    use: Use

    @property
    def title(self) -> str:
        """As messages name it: `up on port 23333 (pid 12)`."""
        place = f" on port {self.use.port}" if self.use.port is not None else ""
        return f"{self.use.verb}{place} (pid {self.pid})"


@dataclass(frozen=True)
class Needed:
    """Fingerprint → who needs it."""

    locks: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    running: Mapping[str, tuple[Running, ...]] = field(default_factory=dict)

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self.locks or fingerprint in self.running


@contextmanager
def store_lock(home: Path) -> Iterator[None]:
    """Held for moments by who notes a use, and by who decides what is removed."""
    with storage_errors(home):
        (home / "locks").mkdir(parents=True, exist_ok=True)
        file = home / "locks" / "store.lock"
        lock = FileLock(file)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        remove_lock_file(file)


def note_lock(home: Path, path: Path) -> None:
    """Remember a lock file that was just written, so that `gc` keeps what it names.

    Where the store cannot be written, a warning says so.
    """
    where = path.absolute()
    name = hashlib.sha256(os.fsencode(where)).hexdigest()[:32]
    try:
        with store_lock(home), storage_errors(home):
            (home / LOCK_FILES).mkdir(exist_ok=True)
            write_json(home / LOCK_FILES / f"{name}.json", {"path": str(where)})
    except ArtifactError as error:
        _log.warning("%s: `lmrun store gc` will not know of this file: %s", path, error)


def lock_files(home: Path, folder: Path | None = None) -> list[Path]:
    """The lock files that are still there: those noted, and `locks/*.lock.yaml` of a folder."""
    found = set() if folder is None else {p.absolute() for p in folder.glob("locks/*.lock.yaml")}
    for note in sorted((home / LOCK_FILES).glob("*.json")):
        path = _noted_path(note)
        if path is not None and path.is_file():
            found.add(path)
    return sorted(found)


def forget_vanished_locks(home: Path) -> int:
    """Drop the notes of lock files that are gone; how many. Called under `store_lock`."""
    dropped = 0
    for note in (home / LOCK_FILES).glob("*.json"):
        path = _noted_path(note)
        if path is None or not path.is_file():
            note.unlink(missing_ok=True)
            dropped += 1
    return dropped


def _noted_path(note: Path) -> Path | None:
    """None for a note that is no note."""
    try:
        document = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    path = document.get("path") if isinstance(document, dict) else None
    return Path(path) if isinstance(path, str) and path.startswith("/") else None


def named_in(path: Path) -> set[str]:
    """Every fingerprint that a lock file mentions, whatever version of lmrun wrote it.

    Raises `ArtifactError` for one that cannot be read: what it needs is then unknown.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_LOCK_BYTES + 1)
    except OSError as error:
        raise ArtifactError(
            f"{path}: expected a lock file, got {error.strerror}. What it needs is unknown:"
            " make it readable, or remove it."
        ) from error
    if len(content) > MAX_LOCK_BYTES:
        raise ArtifactError(
            f"{path}: expected a lock file, got more than {MAX_LOCK_BYTES >> 20} MiB."
            " What it needs is unknown: remove it."
        )
    return {match.decode() for match in _FINGERPRINT.findall(content)}


@contextmanager
def using(home: Path, use: Use) -> Iterator[None]:
    """Keep `gc` and `rm` from what a command uses, while the block runs.

    Look whether the artifacts are there inside the block. A store that cannot be written is used
    without a note; a warning says so.
    """
    identity = secrets.token_hex(8)
    lock: FileLock | None = None
    try:
        lock = _note(home, identity, use)
    except ArtifactError as error:
        _log.warning("%s: not noted as running: %s", use.verb, error)
    try:
        yield
    finally:
        if lock is not None:
            _forget(home, identity)
            lock.release()


def running(home: Path) -> list[Running]:
    """The commands that run, oldest first. Records of dead ones are left out."""
    found = []
    for file in (home / RUNNING).glob("*.json"):
        if not _is_alive(home, file.stem):
            continue
        try:
            found.append(_read(file))
        except FileNotFoundError:
            continue  # it has just ended
    return sorted(found, key=lambda one: (one.started, one.id))


def forget_dead(home: Path) -> int:
    """Drop the records and locks of dead processes; how many records. Called under `store_lock`."""
    for lock in (home / "locks").glob("*-*.lock"):
        remove_lock_file(lock)
    dead = {
        file.stem
        for file in (home / RUNNING).glob("*")
        if not file.name.startswith(".") and not _is_alive(home, file.stem)
    }
    for identity in dead:
        _forget(home, identity)
    for aside in (home / RUNNING).glob(".*"):
        aside.unlink(missing_ok=True)
    return len(dead)


def needed(home: Path, folder: Path | None = None) -> Needed:
    """Everything that must stay. ``folder`` is the working directory, for its `locks/`.

    Raises `ArtifactError` where a lock file or a record cannot be read.
    """
    locks: dict[str, tuple[Path, ...]] = {}
    for path in lock_files(home, folder):
        for fingerprint in named_in(path):
            locks[fingerprint] = (*locks.get(fingerprint, ()), path)
    users: dict[str, tuple[Running, ...]] = {}
    for one in running(home):
        for fingerprint in one.use.artifacts.values():
            users[fingerprint] = (*users.get(fingerprint, ()), one)
    return Needed(locks, users)


def _note(home: Path, identity: str, use: Use) -> FileLock:
    process = psutil.Process()
    document = {
        "schema_version": SCHEMA_VERSION,
        "id": identity,
        "pid": process.pid,
        "pid_started": process.create_time(),
        "started": time.time(),
        **asdict(use),
    }
    check(document, SCHEMA, "deployment record")
    folder = home / RUNNING
    with store_lock(home), storage_errors(home):
        folder.mkdir(exist_ok=True)
        forget_dead(home)
        lock = FileLock(folder / f"{identity}.lock")
        lock.acquire()
        try:
            write_json(folder / f"{identity}.json", document)
            _touch(home, use)
        except BaseException:
            _forget(home, identity)
            lock.release()
            raise
    return lock


def _touch(home: Path, use: Use) -> None:
    """Remember when the artifacts were last used: the mtime of their folders."""
    for stage, fingerprint in use.artifacts.items():
        with suppress(FileNotFoundError):  # not built yet, or being replaced
            os.utime(home / "artifacts" / stage / fingerprint)


def _forget(home: Path, identity: str) -> None:
    for suffix in (".json", ".lock"):
        try:
            (home / RUNNING / f"{identity}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s: cannot be removed: %s", identity, error.strerror)


def _is_alive(home: Path, identity: str) -> bool:
    """Whether the record's process lives: it holds the lock, which the kernel drops at its end."""
    return is_locked(home / RUNNING / f"{identity}.lock")


def _read(file: Path) -> Running:
    """Raises `FileNotFoundError`, and `ArtifactError` for a damaged record."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{file}: expected a deployment record, got {error}.") from error
    check(document, SCHEMA, str(file))
    names = Use.__dataclass_fields__
    return Running(
        id=document["id"],
        pid=document["pid"],
        pid_started=document["pid_started"],
        started=document["started"],
        use=Use(**{name: document[name] for name in names if name in document}),
    )
