"""`manifest.json`: everything known about an artifact."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from lmrun import json_schema
from lmrun.artifacts.files import Stamp, write_json
from lmrun.artifacts.shapes import ManifestShape, fits
from lmrun.errors import ArtifactError
from lmrun.json_schema import COUNT, DIGEST, TEXT, mapping, record

FILE_NAME = "manifest.json"
SCHEMA_VERSION = 1

FILE_RECORD = record(size=COUNT, mtime_ns={"type": "integer"}, inode=COUNT, sha256=DIGEST)
"""JSON Schema of `FileRecord`."""
SCHEMA = json_schema.document(
    "lmrun artifact manifest",
    SCHEMA_VERSION,
    {"model_name": TEXT},
    stage={"type": "string", "pattern": "^[a-z_]+$"},
    code_version={"type": "integer", "minimum": 1},
    fingerprint=DIGEST,
    numeric_class={"type": ["object", "null"]},
    inputs=mapping(TEXT),
    config={"type": "object"},
    files=mapping(FILE_RECORD),
    versions=mapping(TEXT),
    seconds={"type": "number", "minimum": 0},
    metrics={"type": "object"},
)
"""JSON Schema of the file; checked on every write and read."""


@dataclass(frozen=True)
class FileRecord:
    """A file of an artifact: its stamp when it was committed, and the digest of its bytes."""

    size: int
    mtime_ns: int
    inode: int
    sha256: str

    @property
    def stamp(self) -> Stamp:
        """The recorded stamp."""
        return Stamp(self.size, self.mtime_ns, self.inode)


@dataclass(frozen=True)
class ManifestFields:
    """What a stage says about the artifact it built; the store adds the files."""

    stage: str
    code_version: int
    fingerprint: str
    inputs: Mapping[str, str]
    """As in `StagePlan.inputs`."""
    config: Mapping[str, Any]
    """As in `StagePlan.config`."""
    numeric_class: Mapping[str, Any] | None
    seconds: float
    """Wall time of the attempt that finished."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries that took part."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Figures and remarks (a fallback that was taken, for example)."""
    model_name: str | None = None
    """What the model was called when this was built or handed over; a workspace is served so."""


@dataclass(frozen=True)
class Manifest:
    """A manifest, checked."""

    fields: ManifestFields
    files: Mapping[str, FileRecord]
    """By relative POSIX name."""

    @property
    def fingerprint(self) -> str:
        """Of the artifact."""
        return self.fields.fingerprint

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(record.size for record in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """The document."""
        fields = asdict(self.fields)
        if fields["model_name"] is None:
            del fields["model_name"]
        return {
            "schema_version": SCHEMA_VERSION,
            **fields,
            "files": {name: asdict(record) for name, record in self.files.items()},
        }

    def without_stamps(self) -> "Manifest":
        """The same for files that lie elsewhere: no mtime and no inode is true there."""
        files = {
            name: FileRecord(record.size, mtime_ns=0, inode=0, sha256=record.sha256)
            for name, record in self.files.items()
        }
        return replace(self, files=files)

    @classmethod
    def from_json(cls, document: Any, where: str) -> "Manifest":  # noqa: ANN401 - not yet checked
        """Check a document; ``where`` begins the error message."""
        if not fits(document, ManifestShape):
            check(document, SCHEMA, where)
        for name in document["files"]:
            check_name(name, where)
        rest = {k: v for k, v in document.items() if k not in ("schema_version", "files")}
        files = {name: FileRecord(**record) for name, record in document["files"].items()}
        return cls(ManifestFields(**rest), files)


def check_name(name: str, where: str) -> None:
    """Refuse a file name that would lead out of an artifact's folder, or to lmrun's own files."""
    parts = PurePosixPath(name).parts
    leads_out = not parts or name.startswith("/") or ".." in parts or "\0" in name
    is_other_spelling = "/".join(parts) != name
    if leads_out or is_other_spelling or parts[0].startswith(".") or name == FILE_NAME:
        raise ArtifactError(f"{where}: expected plain relative file names, got {name!r}.")


def model_name(folder: Path) -> str | None:
    """What the model in a folder was called, by the manifest beside it, if there is one."""
    try:
        document = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    name = document.get("model_name") if isinstance(document, dict) else None
    is_name = isinstance(name, str) and name.strip() and name.isprintable() and len(name) < 256
    return str(name) if is_name else None


def check(document: Any, schema: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    """Validate a JSON document; `ArtifactError` names the place in it that is wrong.

    A document of another `schema_version` says whether an older or a newer lmrun wrote it.
    """
    _check_version(document, schema, where)
    import jsonschema  # noqa: PLC0415 - slow to load, and not every command reads a document

    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    if error is not None:
        place = "".join(f"[{part!r}]" for part in error.absolute_path)
        raise ArtifactError(f"{where}{place}: {error.message}")


def _check_version(document: Any, schema: Mapping[str, Any], where: str) -> None:  # noqa: ANN401
    expected = schema.get("properties", {}).get("schema_version", {}).get("const")
    got = document.get("schema_version") if isinstance(document, dict) else None
    is_version = isinstance(got, int) and not isinstance(got, bool)
    if expected is None or not is_version or got == expected:
        return
    writer = "a newer" if got > expected else "an older"
    raise ArtifactError(
        f"{where}: schema_version: expected {expected}, got {got} ({writer} lmrun wrote it)"
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an artifact's folder, checked, flushed and at once."""
    document = manifest.to_json()
    check(document, SCHEMA, str(folder / FILE_NAME))
    write_json(folder / FILE_NAME, document)
