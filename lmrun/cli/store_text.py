"""What `lmrun store ls` prints: a table for people, a document for programs."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmrun.artifacts.inventory import Entry, Unfinished, readers
from lmrun.artifacts.uses import Needed
from lmrun.columns import columns
from lmrun.plan.sizes import show_bytes, things

SCHEMA_VERSION = 1
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_COLUMNS = ("stage", "fingerprint", "size", "age", "last used", "used by")


def listing(
    home: Path, entries: Sequence[Entry], parts: Sequence[Unfinished], needed: Needed
) -> dict[str, Any]:
    """The document of `ls --json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "home": str(home),
        "bytes": _total(entries, parts),
        "artifacts": [
            {
                "stage": entry.stage,
                "fingerprint": entry.fingerprint,
                "path": str(entry.path),
                "bytes": entry.num_bytes,
                "created": _utc(entry.created),
                "last_used": _utc(entry.used),
                "model_name": entry.manifest.fields.model_name if entry.manifest else None,
                "problem": entry.problem,
                "used_by": {
                    "locks": [str(path) for path in needed.locks.get(entry.fingerprint, ())],
                    "running": [
                        {"verb": one.use.verb, "pid": one.pid, "port": one.use.port}
                        for one in needed.running.get(entry.fingerprint, ())
                    ],
                    "stages": [
                        {"stage": reader.stage, "fingerprint": reader.fingerprint}
                        for reader in readers(entry, entries)
                    ],
                },
            }
            for entry in entries
        ],
        "unfinished": [
            {
                "stage": part.stage,
                "fingerprint": part.fingerprint,
                "path": str(part.path),
                "bytes": part.num_bytes,
                "changed": _utc(part.changed),
                "is_being_built": part.is_being_built,
            }
            for part in parts
        ],
    }


def table(home: Path, entries: Sequence[Entry], parts: Sequence[Unfinished], needed: Needed) -> str:
    """The same for people, one artifact a line."""
    now = time.time()
    rows = [_COLUMNS] if entries or parts else []
    for entry in entries:
        rows.append(
            (
                entry.stage,
                entry.fingerprint[:12],
                show_bytes(entry.num_bytes),
                ago(now - entry.created),
                ago(now - entry.used),
                _users(entry, entries, needed),
            )
        )
    for part in parts:
        state = "being built" if part.is_being_built else "unfinished; the next build goes on"
        size, age = show_bytes(part.num_bytes), ago(now - part.changed)
        rows.append((part.stage, part.fingerprint[:12], size, age, "", state))
    lines = list(columns(rows))
    total = show_bytes(_total(entries, parts))
    lines.append(f"{things(len(entries), 'artifact')}, {total} in {home}")
    return "\n".join(lines) + "\n"


def ago(seconds: float) -> str:
    """`5 min`, `3 h`, `2 d`; never less than `0 s`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def shown(path: Path) -> str:
    """A path, from the working directory where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _total(entries: Sequence[Entry], parts: Sequence[Unfinished]) -> int:
    return sum(entry.num_bytes for entry in entries) + sum(part.num_bytes for part in parts)


def _users(entry: Entry, entries: Sequence[Entry], needed: Needed) -> str:
    users = [one.title for one in needed.running.get(entry.fingerprint, ())]
    users += [shown(path) for path in needed.locks.get(entry.fingerprint, ())]
    users += [reader.title for reader in readers(entry, entries)]
    if entry.problem is not None:
        users.insert(0, f"damaged: {entry.problem}")
    return ", ".join(users) or "–"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
