"""The sweeps of a store: finding one by its id, and what `lmrun sweep ls` shows."""

import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmrun import json_schema
from lmrun.artifacts.files import files_under, storage_errors
from lmrun.columns import columns
from lmrun.errors import ArtifactError, PlanError, UsageError
from lmrun.json_schema import COUNT, TEXT, TEXT_OR_NULL, TEXTS, or_null, record, records
from lmrun.plan.sizes import show_bytes, things
from lmrun.sweep.rows import FILE_NAME, LOCK, Status, Sweep, read_sweep, sweeps_folder

LATEST = "latest"
SCHEMA_VERSION = 1
SCHEMA = json_schema.document(
    "lmrun sweep ls",
    SCHEMA_VERSION,
    home=TEXT,
    sweeps=records(
        id=TEXT,
        folder=TEXT,
        created=TEXT_OR_NULL,
        verb=TEXT_OR_NULL,
        command=or_null(TEXTS),
        points=or_null(record(**{status.value: COUNT for status in Status})),
        bytes=COUNT,
        problem={**TEXT_OR_NULL, "description": "null where it can be read"},
    ),
)
"""JSON Schema of `document`; newest first."""
_HEADS = ("sweep", "when", "points", "ok", "failed", "skipped", "waiting", "size", "command")
_SHOWN = 60
"""Characters of a command line."""


@dataclass(frozen=True)
class Listed:
    """One sweep's folder."""

    id: str
    folder: Path
    sweep: Sweep | None
    """None where `sweep.json` cannot be read."""
    problem: str | None
    num_bytes: int


def sweeps(home: Path) -> list[Listed]:
    """All sweeps of a store, the newest first; unreadable ones last."""
    folder = sweeps_folder(home)
    found = [_listed(path) for path in _folders(folder)]
    found.sort(key=lambda one: one.id)
    return sorted(found, key=lambda one: one.sweep.created if one.sweep else "", reverse=True)


def find(home: Path, name: str) -> Sweep:
    """The sweep of an id, of the first digits of one, or the latest.

    Raises `UsageError` where none or several have such an id, `ArtifactError` where the sweep
    cannot be read.
    """
    if name == LATEST:
        newest = next((one.sweep for one in sweeps(home) if one.sweep is not None), None)
        if newest is None:
            raise UsageError(f"sweep {name}: there is no sweep yet. `lmrun -m KEY=A,B` makes one.")
        return newest
    return read_sweep(folder_of(home, name))


def folder_of(home: Path, name: str) -> Path:
    """The folder of the one sweep whose id begins so; raises `UsageError`."""
    ids = [path.name for path in _folders(sweeps_folder(home))]
    matching = [one for one in ids if name and one.startswith(name)]
    if name in ids:
        matching = [name]
    if len(matching) == 1:
        return sweeps_folder(home) / matching[0]
    if matching:
        raise UsageError(
            f"sweep {name}: several begin so: {', '.join(matching)}. Write more of it."
        )
    known = f" Sweeps: {', '.join(ids)}." if ids else " There is none yet."
    raise UsageError(f"sweep {name}: no such sweep.{known}")


def remove(folder: Path) -> int:
    """Remove a sweep's folder, its logs too, and return its bytes; artifacts stay in the store.

    Raises `PlanError` while a command runs it.
    """
    with storage_errors(folder):
        try:
            with FileLock(folder / LOCK, timeout=0):
                num_bytes = _size(folder)
                shutil.rmtree(folder)
        except Timeout:
            raise PlanError(
                f"sweep {folder.name}: a command runs it. Wait for its end, or stop it."
            ) from None
    return num_bytes


def table(home: Path, found: Sequence[Listed]) -> str:
    """For people, a sweep a line."""
    if not found:
        return "no sweeps yet: `lmrun -m KEY=A,B` makes one\n"
    rows: list[tuple[str, ...]] = []
    for one in found:
        size = show_bytes(one.num_bytes)
        if one.sweep is None:
            rows.append((one.id, "", "", "", "", "", "", size, f"unreadable: {one.problem}"))
            continue
        counts = _counts(one.sweep)
        failed = counts["failed"] + counts["gate_failed"]
        rows.append(
            (
                one.id,
                one.sweep.created.replace("T", " ").removesuffix("Z")[:16],
                str(len(one.sweep.rows)),
                *(str(n or "") for n in (counts["ok"], failed, counts["skipped"])),
                str(counts["waiting"] or ""),
                size,
                _short(command_text(one.sweep)),
            )
        )
    total = show_bytes(sum(one.num_bytes for one in found))
    heads = [head if any(row[index] for row in rows) else "" for index, head in enumerate(_HEADS)]
    lines = [
        *columns([heads, *rows]),
        f"{things(len(found), 'sweep')}, {total} in {sweeps_folder(home)}",
    ]
    return "\n".join(lines) + "\n"


def document(home: Path, found: Sequence[Listed]) -> dict[str, Any]:
    """The document of ``ls --json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "home": str(home),
        "sweeps": [
            {
                "id": one.id,
                "folder": str(one.folder),
                "created": one.sweep and one.sweep.created,
                "verb": one.sweep and one.sweep.verb,
                "command": None if one.sweep is None else list(one.sweep.command),
                "points": None if one.sweep is None else _counts(one.sweep),
                "bytes": one.num_bytes,
                "problem": one.problem,
            }
            for one in found
        ],
    }


def command_text(sweep: Sweep) -> str:
    """The command line, quoted for a shell where that is needed."""
    return f"lmrun {shlex.join(sweep.command)}"


def _listed(folder: Path) -> Listed:
    sweep, problem = None, None
    try:
        sweep = read_sweep(folder)
    except ArtifactError as error:
        problem = str(error).removeprefix(f"{folder / FILE_NAME}: ")
    return Listed(folder.name, folder, sweep, problem, _size(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _size(folder: Path) -> int:
    total = 0
    for name in files_under(folder):
        with suppress(FileNotFoundError):  # the sweep runs: it was renamed
            total += (folder / name).stat().st_size
    return total


def _counts(sweep: Sweep) -> dict[str, int]:
    return {status.value: len(sweep.of_status(status)) for status in Status}


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
