"""What a sweep is on disk: its points, and what became of each.

    $LMRUN_HOME/sweeps/<id>/sweep.json               what was asked for: the command and its points
    $LMRUN_HOME/sweeps/<id>/points/<point id>.json   what became of one; there once it has ended
    $LMRUN_HOME/sweeps/<id>/points/<point id>.log    what its processes said

Every file is replaced at once, so that a killed sweep leaves whole rows only.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from lmrun import json_schema
from lmrun.artifacts.files import Stamp, parse_json, stamp, write_json
from lmrun.artifacts.manifest import check
from lmrun.errors import ArtifactError
from lmrun.json_schema import COUNT, TEXT, TEXT_OR_NULL, TEXTS, mapping, or_null, record

FOLDER = "sweeps"
LOCK = "running.lock"
"""In the folder of a sweep, held while a command runs it."""
FILE_NAME = "sweep.json"
POINTS = "points"
SCHEMA_VERSION = 1
SEEDS = ("calibration.seed", "bench.seed")
"""Keys whose points are repetitions of one measurement."""


class Status(StrEnum):
    """What became of a point."""

    ok = "ok"
    skipped = "skipped"
    """Illegal, or cannot fit: it was never run."""
    failed = "failed"
    gate_failed = "gate_failed"
    """It was measured, and is worse than its recipe allows."""
    waiting = "waiting"
    """Not run yet."""


@dataclass(frozen=True)
class Point:
    """One run config of a sweep."""

    index: int
    """Its place in the order of expansion, from 0."""
    overrides: tuple[str, ...]
    """The whole command line of this point, without verb and flags: `lmrun up` takes it as it is.
    Secrets are references in it."""
    keys: Mapping[str, Any]
    """Swept key → its value here, in the order of the command line: `recipe` and groups too."""
    id: str
    """Names its files: a digest of the run config, or of the overrides where there is none."""


@dataclass(frozen=True)
class Memory:
    """What the plan counts on, of one rank's device, in bytes."""

    weights_bytes: int
    kv_bytes: int
    total_bytes: int
    """Process, weights, activations and KV cache: what the engine takes at most."""


@dataclass(frozen=True)
class Row:
    """A point and what became of it."""

    point: Point
    status: Status = Status.waiting
    why: str = ""
    """Why it was skipped or failed; one line."""
    recipe: str | None = None
    """The last recipe of its overrides."""
    memory: Memory | None = None
    quality: dict[str, Any] | None = None
    """The report of the evaluate stage: `lmrun.evals.report.SCHEMA`."""
    bench: dict[str, Any] | None = None
    """The report of `lmrun bench`: `lmrun.bench.serving.SCHEMA`."""
    seconds: float | None = None
    """Wall time of everything that was run for it."""
    log: Path | None = None
    depends: Mapping[str, str] = field(default_factory=dict)
    """What the figures were measured of: `quality` and `bench` → a digest. Figures of others are
    measured again."""


@dataclass(frozen=True)
class Sweep:
    """A sweep: what was asked for, and the rows so far, in the order of expansion."""

    id: str
    """Content digest of the points, the verb and what is measured; 12 hex digits."""
    folder: Path
    command: tuple[str, ...]
    """The words after `lmrun` that it was begun with."""
    created: str
    """UTC, as ISO 8601 to the second."""
    rows: tuple[Row, ...]
    verb: str = "up"
    """`up` (build, evaluate, bench), `build`, `eval` or `bench`."""
    merged: int = 0
    """Points of the command line that meant the same as an earlier one."""

    @property
    def waiting(self) -> tuple[Row, ...]:
        """Rows of points that are still to be run."""
        return tuple(row for row in self.rows if row.status is Status.waiting)

    def of_status(self, status: Status) -> tuple[Row, ...]:
        """Rows that have this status."""
        return tuple(row for row in self.rows if row.status is status)


POINT = record(index=COUNT, id=TEXT, overrides=TEXTS, keys={"type": "object"})
SCHEMA = json_schema.document(
    "lmrun sweep",
    SCHEMA_VERSION,
    id=TEXT,
    verb=TEXT,
    command=TEXTS,
    created=TEXT,
    merged=COUNT,
    points={"type": "array", "items": record(point=POINT, recipe=TEXT_OR_NULL, skipped=TEXT)},
)
"""JSON Schema of sweep.json; ``skipped`` is the reason, or empty."""
ROW_SCHEMA = json_schema.document(
    "lmrun sweep row",
    SCHEMA_VERSION,
    point=POINT,
    status={"enum": [status.value for status in Status]},
    why=TEXT,
    recipe=TEXT_OR_NULL,
    memory=or_null(record(weights_bytes=COUNT, kv_bytes=COUNT, total_bytes=COUNT)),
    quality={"type": ["object", "null"]},
    bench={"type": ["object", "null"]},
    seconds={"type": ["number", "null"]},
    log=TEXT_OR_NULL,
    depends=mapping(TEXT),
)
"""JSON Schema of points/<point id>.json; ``log`` is the file's name beside it."""


def sweeps_folder(home: Path) -> Path:
    """Where the sweeps of a store lie; it may not be there."""
    return home / FOLDER


def write_sweep(sweep: Sweep) -> None:
    """Write sweep.json, and the folders around it; rows are written by `write_row`."""
    (sweep.folder / POINTS).mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": SCHEMA_VERSION,
        "id": sweep.id,
        "verb": sweep.verb,
        "command": list(sweep.command),
        "created": sweep.created,
        "merged": sweep.merged,
        "points": [
            {
                "point": _point_json(row.point),
                "recipe": row.recipe,
                "skipped": row.why if row.status is Status.skipped else "",
            }
            for row in sweep.rows
        ],
    }
    check(document, SCHEMA, FILE_NAME)
    write_json(sweep.folder / FILE_NAME, document)


def write_row(sweep: Sweep, row: Row) -> None:
    """Write what became of a point."""
    document = row_json(row)
    file = row_file(sweep.folder, row.point)
    check(document, ROW_SCHEMA, file.name)
    write_json(file, document)


def row_json(row: Row) -> dict[str, Any]:
    """The document of a row."""
    return {
        "schema_version": SCHEMA_VERSION,
        "point": _point_json(row.point),
        "status": row.status.value,
        "why": row.why,
        "recipe": row.recipe,
        "memory": None if row.memory is None else asdict(row.memory),
        "quality": row.quality,
        "bench": row.bench,
        "seconds": row.seconds,
        "log": None if row.log is None else row.log.name,
        "depends": dict(row.depends),
    }


def row_file(folder: Path, point: Point) -> Path:
    """File of a point's row."""
    return folder / POINTS / f"{point.id}.json"


def row_stamp(folder: Path, point: Point) -> Stamp | None:
    """Another one each time that a point's row is written; None where there is none."""
    try:
        return stamp(row_file(folder, point))
    except FileNotFoundError:
        return None


def log_file(folder: Path, point: Point) -> Path:
    """File of what a point's processes said."""
    return folder / POINTS / f"{point.id}.log"


def read_sweep(folder: Path) -> Sweep:
    """A sweep and its rows so far; a point whose file is missing or damaged waits.

    Raises `ArtifactError` where sweep.json is missing or damaged.
    """
    file = folder / FILE_NAME
    try:
        document = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{file}: missing") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    check(document, SCHEMA, str(file))
    rows = []
    for item in document["points"]:
        point = _point(item["point"])
        skipped = item["skipped"]
        begun = Row(
            point, Status.skipped if skipped else Status.waiting, skipped, recipe=item["recipe"]
        )
        rows.append(begun if skipped else read_row(folder, point) or begun)
    return Sweep(
        id=document["id"],
        folder=folder,
        command=tuple(document["command"]),
        created=document["created"],
        rows=tuple(rows),
        verb=document["verb"],
        merged=document["merged"],
    )


def read_row(folder: Path, point: Point) -> Row | None:
    """What became of a point; None where nothing is known, as of a damaged file."""
    try:
        document = parse_json(row_file(folder, point).read_text(encoding="utf-8"))
        check(document, ROW_SCHEMA, point.id)
    except (OSError, ValueError, ArtifactError):
        return None
    memory = document["memory"]
    return Row(
        point=point,
        status=Status(document["status"]),
        why=document["why"],
        recipe=document["recipe"],
        memory=None if memory is None else Memory(**memory),
        quality=document["quality"],
        bench=document["bench"],
        seconds=document["seconds"],
        log=None if document["log"] is None else folder / POINTS / document["log"],
        depends=document["depends"],
    )


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "index": point.index,
        "id": point.id,
        "overrides": list(point.overrides),
        "keys": dict(point.keys),
    }


def _point(document: Mapping[str, Any]) -> Point:
    return Point(document["index"], tuple(document["overrides"]), document["keys"], document["id"])
