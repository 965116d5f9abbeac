"""Removing from a store: `gc` what nobody needs, `rm` what is named.

Whatever goes is first renamed into trash/, under the store's lock and the fingerprint's, so that
nobody ever sees half an artifact; its bytes are freed afterwards, outside the locks.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from lmrun.artifacts import hub_lists, uses
from lmrun.artifacts.files import is_locked, remove_lock_file, storage_errors
from lmrun.artifacts.inventory import Entry, Unfinished, bytes_under, entries, unfinished
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Needed
from lmrun.errors import PlanError

LEFTOVER_AGE_S = 3600.0
"""A file written aside is renamed within moments; one so old was left by a killed process."""


@dataclass(frozen=True)
class Removed:
    """Something that `gc` removed, or would remove."""

    title: str
    num_bytes: int


@dataclass(frozen=True)
class Kept:
    """An artifact that stays, and why."""

    entry: Entry | Unfinished
    why: str


@dataclass(frozen=True)
class Swept:
    """What `gc` did, or would do."""

    removed: tuple[Removed, ...]
    kept: tuple[Kept, ...]

    @property
    def num_bytes(self) -> int:
        """Of all that was removed."""
        return sum(one.num_bytes for one in self.removed)


def sweep(
    store: Store, folder: Path | None, *, older_than_s: float | None = None, dry_run: bool = False
) -> Swept:
    """Remove all that no lock file and no running command needs and no process is building.

    ``folder`` is the working directory, whose `locks/` count. ``older_than_s`` spares what was used
    since. Raises `ArtifactError` where it cannot be known what is needed; nothing is removed then.
    """
    if dry_run or not store.home.is_dir():
        return _swept(store, folder, older_than_s, _Pretend(store))
    with storage_errors(store.home), uses.store_lock(store.home):
        broom = _Broom(store)
        swept = _swept(store, folder, older_than_s, broom)
    broom.finish()
    return swept


def remove(store: Store, doomed: Sequence[Entry], folder: Path | None, *, force: bool) -> int:
    """Remove artifacts, all of them or none; the bytes freed.

    `PlanError` for one that a running command uses or a process builds, and, without ``force``,
    for one that a lock file names.
    """
    with storage_errors(store.home), uses.store_lock(store.home):
        needed = uses.needed(store.home, folder)
        for entry in doomed:
            _check_removable(store, entry, needed, force=force)
        broom = _Broom(store)
        for entry in doomed:
            if not broom.take(entry):
                raise PlanError(f"{entry.title}: a process is building it. Wait until it is done.")
    broom.finish()
    return sum(entry.num_bytes for entry in doomed)


def _check_removable(store: Store, entry: Entry, needed: Needed, *, force: bool) -> None:
    running = needed.running.get(entry.fingerprint)
    if running:
        raise PlanError(
            f"{entry.title}: used by {running[0].title}. Stop it first; --force does not pull an"
            " artifact from under a running command."
        )
    if is_locked(store.lock_file(entry.stage, entry.fingerprint)):
        raise PlanError(f"{entry.title}: a process is building it. Wait until it is done.")
    locks = needed.locks.get(entry.fingerprint)
    if locks and not force:
        raise PlanError(
            f"{entry.title}: needed by {locks[0]}. --force removes it all the same; the next build"
            " makes it again."
        )


class _Broom:
    """Moves things into the trash, and empties it at the end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trash: list[Path] = []

    def take(self, entry: Entry | Unfinished) -> bool:
        """False where a process builds it."""
        try:
            with self._store.locked(entry.stage, entry.fingerprint, wait=False):
                self._trash.append(self._store.to_trash(entry.path))
        except Timeout:
            return False
        except FileNotFoundError:
            pass  # it went by itself: finished, or removed by another
        return True

    def discard(self, path: Path) -> None:
        """Something that belongs to no fingerprint."""
        if path.is_dir() and not path.is_symlink():
            self._trash.append(path)
        else:
            path.unlink(missing_ok=True)

    def discard_lock(self, path: Path) -> None:
        """The file of a lock that nobody holds."""
        remove_lock_file(path)

    def forget(self) -> int:
        """Notes of what is gone; how many."""
        home = self._store.home
        return uses.forget_vanished_locks(home) + uses.forget_dead(home)

    def finish(self) -> None:
        """Free the bytes. Another `gc` may be at it too."""
        for path in self._trash:
            shutil.rmtree(path, ignore_errors=True)


class _Pretend(_Broom):
    """Moves nothing."""

    def take(self, entry: Entry | Unfinished) -> bool:
        return not is_locked(self._store.lock_file(entry.stage, entry.fingerprint))

    def discard(self, path: Path) -> None:
        pass

    def discard_lock(self, path: Path) -> None:
        pass

    def forget(self) -> int:
        return 0


def _swept(store: Store, folder: Path | None, older_than_s: float | None, broom: _Broom) -> Swept:
    needed = uses.needed(store.home, folder)
    newest = float("inf") if older_than_s is None else time.time() - older_than_s
    removed: list[Removed] = []
    kept: list[Kept] = []
    trash = sorted((store.home / "trash").glob("*"))
    found: list[tuple[Entry | Unfinished, float]] = [(one, one.used) for one in entries(store)]
    found += [(part, part.changed) for part in unfinished(store)]
    for entry, used in found:
        why = _why_needed(entry, needed)
        if why is None and used > newest:
            why = "used since"
        if why is None and not broom.take(entry):
            why = "being built"
        if why is None:
            removed.append(Removed(entry.title, entry.num_bytes))
        else:
            kept.append(Kept(entry, why))
    removed += [_discarded(broom, f"trash {path.name}", path) for path in trash]
    removed += [_discarded(broom, f"leftover {path.name}", path) for path in _leftovers(store)]
    for lock in _orphan_locks(store):
        broom.discard_lock(lock)
        removed.append(Removed(f"lock {lock.name}", 0))
    broom.forget()
    return Swept(tuple(removed), tuple(kept))


def _why_needed(entry: Entry | Unfinished, needed: Needed) -> str | None:
    running = needed.running.get(entry.fingerprint)
    if running:
        return f"used by {running[0].title}"
    locks = needed.locks.get(entry.fingerprint)
    return f"needed by {locks[0]}" if locks else None


def _discarded(broom: _Broom, title: str, path: Path) -> Removed:
    size = bytes_under(path)
    broom.discard(path)
    return Removed(title, size)


def _leftovers(store: Store) -> Iterable[Path]:
    """Files written aside by killed processes, and folders of partial/ that are none of ours."""
    known = {part.path for part in unfinished(store)}
    places = [path for path in (store.home / "partial").glob("*") if path not in known]
    places += store.home.glob(".*.json.*")
    for folder in (uses.LOCK_FILES, hub_lists.FOLDER):
        places += (store.home / folder).glob(".*")
    return sorted(path for path in places if _age_s(path) > LEFTOVER_AGE_S)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _orphan_locks(store: Store) -> Iterable[Path]:
    """Lock files of fingerprints that nobody holds; what is being built now is not among them."""
    return sorted(
        path
        for path in (store.home / "locks").glob("*-*.lock")
        if path.name != "store.lock" and not is_locked(path)
    )
