"""The digest cache: SHA-256 of external files, keyed on path, size, mtime and inode.

`plan` only looks digests up; `resolve` alone hashes and writes (`hash_files`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from lmrun import json_schema
from lmrun.artifacts.files import sha256, stamp, storage_errors, write_json
from lmrun.artifacts.manifest import FILE_RECORD, check
from lmrun.artifacts.shapes import DigestsShape, fits
from lmrun.errors import ArtifactError, StageError
from lmrun.json_schema import mapping

FILE_NAME = "digests.json"
SCHEMA_VERSION = 1
SCHEMA = json_schema.document("lmrun digest cache", SCHEMA_VERSION, files=mapping(FILE_RECORD))


class DigestCache:
    """Digests of files outside the store. Reading creates nothing."""

    def __init__(self, home: Path) -> None:
        self._file = home / FILE_NAME
        self._lock = home / f"{FILE_NAME}.lock"
        self._known = self._read()

    def lookup(self, path: Path) -> str | None:
        """The digest of a file that has not changed since it was hashed, else None."""
        record = self._known.get(str(path.resolve()))
        if record is None:
            return None
        now = asdict(stamp(path))
        return str(record["sha256"]) if all(record[key] == now[key] for key in now) else None

    def hash_files(
        self,
        paths: Sequence[Path],
        progress: Callable[[int], None] | None = None,
        *,
        anew: bool = False,
    ) -> dict[Path, str]:
        """Digests of files, hashing those not known, kept in the cache file.

        A file that changes while it is read is hashed again; one that cannot be read is a
        `StageError`. ``progress`` is told the bytes of each chunk. ``anew`` hashes every file,
        whatever is known of it. Where the cache file cannot be written the error comes after the
        hashing: `lookup` of this object knows the digests.
        """
        digests: dict[Path, str] = {}
        fresh: dict[str, dict[str, Any]] = {}
        for path in paths:
            try:
                known = None if anew else self.lookup(path)
                while known is None:
                    before = stamp(path)
                    found = sha256(path, progress)
                    if stamp(path) == before:
                        known = found
                        fresh[str(path.resolve())] = {**asdict(before), "sha256": found}
            except OSError as error:
                raise StageError(f"{path}: cannot be read ({error.strerror}).") from error
            digests[path] = known
        if fresh:
            self._known = {**self._known, **fresh}
            self._add(fresh)
        return digests

    def remember(self, path: Path, sha256: str) -> None:
        """Keep the digest of a file that the caller has just hashed and no one else writes."""
        self._add({str(path.resolve()): {**asdict(stamp(path)), "sha256": sha256}})

    def _add(self, fresh: dict[str, dict[str, Any]]) -> None:
        with storage_errors(self._file.parent):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock):
                files = {**self._read(), **fresh}
                document = {"schema_version": SCHEMA_VERSION, "files": files}
                check(document, SCHEMA, str(self._file))
                write_json(self._file, document)
        self._known = files

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ArtifactError(
                f"store: cannot read {self._file} ({error.strerror})."
                " Name another folder by LMRUN_HOME."
            ) from error
        except (ValueError, RecursionError):
            return {}  # damaged: a cache may be forgotten, the files are hashed again
        if not fits(document, DigestsShape):
            check(document, SCHEMA, f"{self._file} (a cache: it may be deleted)")
        files: dict[str, dict[str, Any]] = document["files"]
        return files
