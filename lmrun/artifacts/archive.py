"""An artifact as one tar file: `lmrun store export` and `import`.

The first member is manifest.json (without stamps, which mean nothing elsewhere), then come the
files in the order of their names; each is a regular file with one plain 512-byte header, no owner
and no time. So equal artifacts give equal bytes, and `tar -tf` lists them.

A reader trusts no byte: every header must be such a one, every name and size that of the manifest,
every digest right, before anything is published. What it cannot know is whether the bytes are what
the named stage would have built: import what you would run.
"""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from lmrun.artifacts import canonical
from lmrun.artifacts import manifest as manifests
from lmrun.artifacts.files import (
    CHUNK_BYTES,
    fsync_path,
    parse_json,
    stamp,
    storage_errors,
)
from lmrun.artifacts.manifest import FileRecord, Manifest
from lmrun.artifacts.store import Artifact, Store
from lmrun.errors import ArtifactError

MAX_MANIFEST_BYTES = 16 << 20
MODE = 0o644
_BLOCK = tarfile.BLOCKSIZE


def pack(artifact: Artifact, file: Path) -> int:
    """Write an artifact to a tar file, written aside and renamed; the bytes of the file.

    Raises `ArtifactError` for an artifact whose bytes are wrong, and for a file that cannot be
    written. A file that was there is replaced.
    """
    document = artifact.manifest.without_stamps().to_json()
    head = (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    with _aside(file) as aside, aside.open("wb") as out:
        out.write(_header(manifests.FILE_NAME, len(head)))
        out.write(_padded(head))
        for name, record in sorted(artifact.manifest.files.items()):
            out.write(_header(name, record.size))
            _copy(artifact.path / name, record, out)
        end = 2 * _BLOCK
        out.write(bytes(end + -(out.tell() + end) % tarfile.RECORDSIZE))
        out.flush()
        os.fsync(out.fileno())
    return file.stat().st_size


def unpack(store: Store, file: Path) -> tuple[Artifact, bool]:
    """Put the artifact of a tar file into a store; it, and whether it was new there.

    Raises `ArtifactError` for whatever is not as `pack` writes it; the store is then as it was.
    """
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            return _unpacked(store, _Reader(opened, size, str(file)))
    except OSError as error:
        if error.filename is not None and Path(error.filename) == file:
            raise ArtifactError(
                f"{file}: expected a file of `lmrun store export`, got {error.strerror}."
            ) from error
        raise


def _unpacked(store: Store, reader: "_Reader") -> tuple[Artifact, bool]:
    manifest = reader.manifest()
    stage, fingerprint = manifest.fields.stage, manifest.fingerprint
    with storage_errors(store.home), store.locked(stage, fingerprint):
        found = store.find(stage, fingerprint)
        if found is not None:
            return found, False
        aside = store.partial(stage, f"{fingerprint}.import")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            files = {
                name: reader.file(name, record, aside)
                for name, record in sorted(manifest.files.items())
            }
            reader.end()
            for folder in {(aside / name).parent for name in files} | {aside}:
                fsync_path(folder)
            artifact = store.publish(aside, Manifest(manifest.fields, files))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        shutil.rmtree(store.partial(stage, fingerprint), ignore_errors=True)
        return artifact, True


class _Reader:
    """Reads the members in the order that `pack` writes them."""

    def __init__(self, opened: IO[bytes], size: int, where: str) -> None:
        self._opened = opened
        self._left = size
        self._where = where

    def manifest(self) -> Manifest:
        """The first member, checked."""
        size = self._header(manifests.FILE_NAME)
        if size > MAX_MANIFEST_BYTES:
            raise self._wrong(f"a manifest of {size} bytes")
        try:
            document = parse_json(self._take(size))
        except ValueError as error:
            raise self._wrong(f"a manifest that is no JSON ({error})") from error
        self._padding(size)
        where = f"{self._where}: {manifests.FILE_NAME}"
        found = Manifest.from_json(document, where)
        fields = found.fields
        made_of = {
            "stage": fields.stage,
            "code_version": fields.code_version,
            "config": fields.config,
            "inputs": fields.inputs,
            "numeric_class": fields.numeric_class,
        }
        if canonical.digest(made_of) != fields.fingerprint:
            raise ArtifactError(
                f"{where}: expected the fingerprint of what it says the artifact was made from, got"
                f" {fields.fingerprint[:12]}."
            )
        return found

    def file(self, name: str, record: FileRecord, folder: Path) -> FileRecord:
        """Write the next member, which must be this file; its record with the stamp of the copy."""
        size = self._header(name)
        if size != record.size:
            raise self._wrong(f"{name} of {size} bytes where the manifest says {record.size}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hasher = hashlib.sha256()
        with path.open("xb") as out:
            left = size
            while left:
                chunk = self._take(min(left, CHUNK_BYTES))
                hasher.update(chunk)
                out.write(chunk)
                left -= len(chunk)
            out.flush()
            os.fsync(out.fileno())
        if hasher.hexdigest() != record.sha256:
            raise self._wrong(f"{name} with other bytes than were exported (SHA-256 differs)")
        self._padding(size)
        return FileRecord(**asdict(stamp(path)), sha256=record.sha256)

    def end(self) -> None:
        """Two blocks of zeros and no more than zeros after them."""
        if self._left < 2 * _BLOCK:
            raise self._wrong("one that ends too early")
        while self._left:
            if self._take(min(self._left, CHUNK_BYTES)).strip(b"\0"):
                raise self._wrong("more members than the manifest names")

    def _header(self, name: str) -> int:
        """Size of the next member, which must be a plain file of this name."""
        block = self._take(_BLOCK)
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise self._wrong(f"a broken header where {name} was due ({error})") from error
        if member.type != tarfile.REGTYPE:
            kind = "a folder" if member.isdir() else "a link" if _is_link(member) else "no file"
            raise self._wrong(f"{kind} ({member.name!r}) where {name} was due")
        if member.name != name:
            raise self._wrong(f"{member.name!r} where {name} was due")
        if not 0 <= member.size <= self._left:
            raise self._wrong(f"{name} of {member.size} bytes with {self._left} left in the file")
        return member.size

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise self._wrong("one that ends too early")
        data = self._opened.read(count)
        if len(data) != count:
            raise self._wrong("one that became shorter while it was read")
        self._left -= count
        return data

    def _padding(self, size: int) -> None:
        if self._take(-size % _BLOCK).strip(b"\0"):
            raise self._wrong("padding that is not zero")

    def _wrong(self, what: str) -> ArtifactError:
        return ArtifactError(
            f"{self._where}: expected a file of `lmrun store export`, got {what}."
            " Nothing was imported."
        )


def _is_link(member: tarfile.TarInfo) -> bool:
    return member.issym() or member.islnk()


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, MODE
    header = member.tobuf(tarfile.GNU_FORMAT)
    if len(header) != _BLOCK:
        raise ArtifactError(f"store export: the file name {name} is too long for a plain header.")
    return header


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)


def _copy(path: Path, record: FileRecord, out: IO[bytes]) -> None:
    """Append a file's bytes; `ArtifactError` if they are not those of the record."""
    hasher = hashlib.sha256()
    count = 0
    try:
        with path.open("rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                hasher.update(chunk)
                count += len(chunk)
                out.write(chunk)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: it is gone. Build the artifact again.") from error
    if count != record.size or hasher.hexdigest() != record.sha256:
        raise ArtifactError(
            f"{path}: its bytes are not those that were written. `lmrun store verify` marks the"
            " artifact, the next build makes it again."
        )
    out.write(bytes(-count % _BLOCK))


@contextmanager
def _aside(file: Path) -> Iterator[Path]:
    """A path beside the file, renamed to it when the block ends well, removed otherwise."""
    if file.exists() and not file.is_file():
        raise ArtifactError(
            f"{file}: expected the name of a file to write, got a folder or device."
            " Name another file."
        )
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(file)
        fsync_path(file.absolute().parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ArtifactError(
            f"{file}: cannot be written ({error.strerror}). Name another file."
        ) from error
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
