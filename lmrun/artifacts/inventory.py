"""What lies in a store: finished artifacts, what is being built, and who uses what."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lmrun.artifacts.files import files_under, is_locked
from lmrun.artifacts.manifest import FILE_NAME, Manifest
from lmrun.artifacts.store import Store, mark_of_damage, read_manifest
from lmrun.errors import ArtifactError, UsageError

MIN_PREFIX = 6
"""Digits of a fingerprint that a person must type at least."""
_PARTIAL = re.compile(r"([a-z_]+)-([0-9a-f]{64})(?:\.import)?")
_FINGERPRINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A finished artifact, whole or not."""

    stage: str
    fingerprint: str
    path: Path
    manifest: Manifest | None
    """None where it cannot be read."""
    problem: str | None
    """Why it counts as absent, as far as is known without looking at its files."""
    num_bytes: int
    """Of its files, as they lie there."""
    created: float
    """Seconds since 1970, as all times here."""
    used: float
    """When a command last noted that it uses it; when it was built, if none did."""

    @property
    def title(self) -> str:
        """As messages name it."""
        return f"{self.stage} {self.fingerprint[:12]}"


@dataclass(frozen=True)
class Unfinished:
    """A partial folder."""

    stage: str
    fingerprint: str
    path: Path
    num_bytes: int
    changed: float
    is_being_built: bool
    """A process holds its lock."""

    @property
    def title(self) -> str:
        """As messages name it."""
        return f"{self.stage} {self.fingerprint[:12]} (unfinished)"


def entries(store: Store) -> list[Entry]:
    """Every artifact, by stage and then the newest first."""
    found = []
    for folder in (store.home / "artifacts").glob("*/*"):
        if folder.is_dir() and _FINGERPRINT.fullmatch(folder.name):
            try:
                found.append(_entry(folder))
            except FileNotFoundError:
                continue  # removed meanwhile
    return sorted(found, key=lambda entry: (entry.stage, -entry.created, entry.fingerprint))


def unfinished(store: Store) -> list[Unfinished]:
    """Every partial folder that belongs to a fingerprint, by name."""
    found = []
    for folder in sorted((store.home / "partial").glob("*")):
        match = _PARTIAL.fullmatch(folder.name)
        if match is None:
            continue
        stage, fingerprint = match[1], match[2]
        try:
            changed = max(
                (place.lstat().st_mtime for place in (folder, *folder.rglob("*"))), default=0.0
            )
        except FileNotFoundError:
            changed = folder.parent.stat().st_mtime
        found.append(
            Unfinished(
                stage=stage,
                fingerprint=fingerprint,
                path=folder,
                num_bytes=bytes_under(folder),
                changed=changed,
                is_being_built=is_locked(store.lock_file(stage, fingerprint)),
            )
        )
    return found


def readers(entry: Entry, among: Iterable[Entry]) -> list[Entry]:
    """The artifacts that were made from an artifact."""
    return [
        other
        for other in among
        if other.manifest is not None
        and other.manifest.fields.inputs.get(entry.stage) == entry.fingerprint
    ]


def chosen(store: Store, prefix: str) -> Entry:
    """The artifact whose fingerprint begins so; `UsageError` for none or several."""
    if len(prefix) < MIN_PREFIX or not re.fullmatch("[0-9a-f]{1,64}", prefix):
        raise UsageError(
            f"{prefix}: expected {MIN_PREFIX} or more digits of a fingerprint."
            " `lmrun store ls` shows them."
        )
    found = [entry for entry in entries(store) if entry.fingerprint.startswith(prefix)]
    if not found:
        raise UsageError(
            f"{prefix}: no artifact in {store.home} has a fingerprint that begins so."
            " `lmrun store ls` shows them."
        )
    if len(found) > 1:
        names = ", ".join(f"{entry.stage} {entry.fingerprint}" for entry in found)
        raise UsageError(f"{prefix}: expected one artifact, got {len(found)}: {names}.")
    return found[0]


def bytes_under(path: Path) -> int:
    """Bytes of the files below a folder, or of a file; what vanishes meanwhile counts nothing."""
    names = files_under(path) if path.is_dir() else [""]
    return sum(_size(path / name) for name in names)


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:
        return 0


def _entry(folder: Path) -> Entry:
    """Raises `FileNotFoundError` where the folder vanishes."""
    stage, fingerprint = folder.parent.name, folder.name
    used = folder.stat().st_mtime
    manifest: Manifest | None = None
    problem: str | None
    try:
        manifest = read_manifest(folder, fingerprint)
        problem = mark_of_damage(folder)
        created = (folder / FILE_NAME).stat().st_mtime
    except ArtifactError as error:
        problem = str(error)
        created = used
        folder.stat()
    return Entry(
        stage=stage,
        fingerprint=fingerprint,
        path=folder,
        manifest=manifest,
        problem=problem,
        num_bytes=bytes_under(folder),
        created=created,
        used=max(used, created),
    )
