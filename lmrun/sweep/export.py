"""A conclusion as CSV and as JSON, both for pandas.

    pandas.read_csv("sweep.csv")
    pandas.read_json("sweep.json", orient="table")          # or json_normalize(document, "data")

The JSON is a Table Schema document (the ``table`` orientation of pandas): ``schema.fields`` says
what each column is, with its unit; ``data`` has one flat record a point.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

from lmrun import json_schema
from lmrun.json_schema import COUNT, TEXT, TEXTS, or_null, record
from lmrun.sweep.choose import Chosen
from lmrun.sweep.conclusion import Conclusion, Entry, repeated, value_text
from lmrun.sweep.rows import Row

SCHEMA_VERSION = 1
_FIELD = record(
    {
        "unit": {"type": "string", "description": "empty: a ratio, a share or no figure at all"},
        "better": {"enum": ["lower", "higher"]},
        "description": TEXT,
    },
    name=TEXT,
    type={"enum": ["integer", "number", "string", "boolean", "any"]},
)
SCHEMA = json_schema.document(
    "lmrun sweep show",
    SCHEMA_VERSION,
    sweep=record(id=TEXT, verb=TEXT, command=TEXTS, created=TEXT, folder=TEXT),
    front={**TEXTS, "description": "figures that the Pareto front is over"},
    repetitions={"const": "mean, and sample standard deviation (NAME_deviation)"},
    notes=TEXTS,
    schema=record(fields={"type": "array", "items": _FIELD}, primaryKey=TEXTS, pandas_version=TEXT),
    data={"type": "array", "items": {"type": "object", "required": ["point", "status"]}},
    points=COUNT,
    chosen=or_null(record(point=COUNT, id=TEXT, overrides=TEXTS, expression=TEXT, why=TEXT)),
)
"""JSON Schema of `to_json`."""

_DEVIATION = "_deviation"
_BEFORE = (("point", "integer"), ("id", "string"), ("status", "string"), ("pareto", "boolean"))


def to_csv(conclusion: Conclusion) -> str:
    """One line a point (repetitions are one), units in the heads: ``memory [GiB]``.

    Points without figures have empty fields there, and ``why`` in words.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = _fields(conclusion)
    writer.writerow(field["header"] for field in fields)
    for line in _records(conclusion):
        writer.writerow(_cell(line.get(field["name"])) for field in fields)
    return out.getvalue()


def to_json(conclusion: Conclusion, chosen: Chosen | None = None) -> dict[str, Any]:
    """The document of ``--json``; `SCHEMA` describes it."""
    sweep = conclusion.sweep
    fields = [
        {name: value for name, value in field.items() if name != "header"}
        for field in _fields(conclusion)
    ]
    records = list(_records(conclusion))
    names = [field["name"] for field in fields]
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": {
            "id": sweep.id,
            "verb": sweep.verb,
            "command": list(sweep.command),
            "created": sweep.created,
            "folder": str(sweep.folder),
        },
        "points": len(sweep.rows),
        "front": [figure.name for figure in conclusion.front],
        "repetitions": "mean, and sample standard deviation (NAME_deviation)",
        "notes": list(conclusion.notes),
        "schema": {"fields": fields, "primaryKey": ["point"], "pandas_version": "1.4.0"},
        "chosen": None
        if chosen is None
        else {
            "point": chosen.entry.number,
            "id": chosen.entry.rows[0].point.id,
            "overrides": list(chosen.entry.rows[0].point.overrides),
            "expression": str(chosen.goal),
            "why": chosen.why,
        },
        "data": [{name: line.get(name) for name in names} for line in records],
    }


def _fields(conclusion: Conclusion) -> list[dict[str, str]]:
    """Every column: its name, type and head in CSV, and of a figure unit and direction."""
    fields = [_field(name, kind) for name, kind in _BEFORE]
    fields += [_field(key, _kind(conclusion, key)) for key in conclusion.keys]
    fields.append(_field("seeds", "integer"))
    for figure in conclusion.figures:
        told = {"unit": figure.unit, "better": figure.better.value}
        described = {**told, "description": figure.description}
        fields.append({**_field(figure.name, "number", figure.header), **described})
        if conclusion.has_repetitions:
            unit = f" [{figure.unit}]" if figure.unit else ""
            header = figure.header.removesuffix(unit) + f" deviation{unit}"
            fields.append(
                {**_field(figure.name + _DEVIATION, "number", header), "unit": figure.unit}
            )
    return [*fields, _field("seconds", "number", "seconds [s]"), _field("why", "string")]


def _field(name: str, kind: str, header: str | None = None) -> dict[str, str]:
    return {"name": name, "type": kind, "header": header or name}


def _kind(conclusion: Conclusion, key: str) -> str:
    """Of a swept key's values; one that is not always there, or of several kinds, is any."""
    values = [row.point.keys.get(key) for row in conclusion.sweep.rows]
    for kind, name in ((bool, "boolean"), (int, "integer"), (str, "string")):
        if all(type(value) is kind for value in values):
            return name
    is_number = all(type(value) in (int, float) for value in values)
    return "number" if is_number else "any"


def _records(conclusion: Conclusion) -> Iterator[dict[str, Any]]:
    """Flat records, in the order of the points."""
    lines = [_of_entry(entry) for entry in conclusion.entries]
    lines += [_of_row(row) for row in conclusion.left_out]
    yield from sorted(lines, key=lambda line: int(line["point"]))


def _of_entry(entry: Entry) -> dict[str, Any]:
    first = entry.rows[0]
    seconds = [row.seconds for row in entry.rows if row.seconds is not None]
    status = "ok" if entry.passed else "gate_failed"
    return {
        "point": entry.number,
        "id": first.point.id,
        "status": status,
        "pareto": entry.is_pareto,
        **{key: _plain(value) for key, value in entry.settings.items()},
        "seeds": len(entry.rows),
        **{name: value.mean for name, value in entry.values.items()},
        **{name + _DEVIATION: value.deviation for name, value in entry.values.items()},
        "seconds": sum(seconds) if seconds else None,
        "why": entry.off_front or "",
    }


def _of_row(row: Row) -> dict[str, Any]:
    settings = {key: _plain(value) for key, value in repeated(row.point).items()}
    return {
        "point": row.point.index + 1,
        "id": row.point.id,
        "status": row.status.value,
        "pareto": False,
        **settings,
        "seeds": 1,
        "seconds": row.seconds,
        "why": row.why,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a key
    """A value that fits one cell."""
    return value if isinstance(value, str | int | float | None) else value_text(value)


def _cell(value: Any) -> str:  # noqa: ANN401 - any value of a record
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
