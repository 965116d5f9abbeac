"""Which files a commit of a hub repository has, noted once they are all on this machine.

With it a plan of a fixed commit needs no network. A commit never changes, so neither does its list.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lmrun import json_schema
from lmrun.artifacts.files import storage_errors, write_json
from lmrun.artifacts.manifest import check
from lmrun.json_schema import BOOLEAN, COUNT, DIGEST, TEXT, records
from lmrun.models.hub_files import HubFile

FOLDER = "hub"
SCHEMA_VERSION = 1
SCHEMA = json_schema.document(
    "lmrun list of a commit's files",
    SCHEMA_VERSION,
    hub_id=TEXT,
    commit=TEXT,
    files=records(
        name={"type": "string", "pattern": "^[^/]+$"}, size=COUNT, sha256=DIGEST, is_large=BOOLEAN
    ),
)


def read(home: Path, hub_id: str, commit: str) -> tuple[HubFile, ...] | None:
    """The files that lmrun reads of a commit, with their digests; None where none were noted."""
    file = _file(home, hub_id, commit)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # a note that cannot be read may be forgotten, the hub is asked again
    check(document, SCHEMA, f"{file} (a cache: it may be deleted)")
    return tuple(HubFile(**fields) for fields in document["files"])


def write(home: Path, hub_id: str, commit: str, files: Sequence[HubFile]) -> None:
    """Note the files of a commit; every digest is known."""
    file = _file(home, hub_id, commit)
    document = {
        "schema_version": SCHEMA_VERSION,
        "hub_id": hub_id,
        "commit": commit,
        "files": [asdict(one) for one in files],
    }
    check(document, SCHEMA, str(file))
    with storage_errors(home):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, document)


def _file(home: Path, hub_id: str, commit: str) -> Path:
    return home / FOLDER / f"{hub_id.replace('/', '--')}@{commit}.json"
