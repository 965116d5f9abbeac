"""JSON Schemas of reports whose documents are made where they are printed.

A test runs each command and holds what it prints against its schema.
"""

from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_TRUTH = {"type": "boolean"}
_MOMENT = {"type": "string", "format": "date-time"}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def _record(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _list(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": _record(**properties)}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _report(title: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_record(schema_version={"const": 1}, **properties),
    }


STORE_LS = _report(
    "lmrun store ls",
    home=_TEXT,
    bytes=_COUNT,
    artifacts=_list(
        stage=_TEXT,
        fingerprint=_DIGEST,
        path=_TEXT,
        bytes=_COUNT,
        created=_MOMENT,
        last_used=_MOMENT,
        model_name=_or_null(_TEXT),
        problem={**_or_null(_TEXT), "description": "null where nothing is known to be wrong"},
        used_by=_record(
            locks={"type": "array", "items": _TEXT, "description": "lock files that need it"},
            running=_list(verb=_TEXT, pid=_COUNT, port=_or_null(_COUNT)),
            stages=_list(stage=_TEXT, fingerprint=_DIGEST),
        ),
    ),
    unfinished=_list(
        stage=_TEXT,
        fingerprint=_DIGEST,
        path=_TEXT,
        bytes=_COUNT,
        changed=_MOMENT,
        is_being_built=_TRUTH,
    ),
)

STORE_VERIFY = _report(
    "lmrun store verify",
    damaged={**_COUNT, "description": "how many"},
    artifacts=_list(stage=_TEXT, fingerprint=_DIGEST, problem=_or_null(_TEXT)),
)

STORE_GC = _report(
    "lmrun store gc",
    dry_run=_TRUTH,
    bytes={**_COUNT, "description": "freed, or what would be"},
    removed=_list(title=_TEXT, bytes=_COUNT),
    kept=_list(stage=_TEXT, fingerprint=_DIGEST, bytes=_COUNT, why=_TEXT),
)

STORE_KEY = _report(
    "lmrun store key",
    key=_DIGEST,
    numeric_class=_or_null({"type": "object"}),
    stages=_list(
        stage=_TEXT,
        fingerprint=_DIGEST,
        code_version=_COUNT,
        action={"enum": ["run", "cached", "unknown"]},
        path=_TEXT,
    ),
)

BENCH_STARTUP = _report(
    "lmrun bench startup",
    bench={"const": "startup"},
    runs=_COUNT,
    goal_s={"type": "number"},
    commands=_list(
        command={"type": "array", "items": _TEXT},
        cpu_s={"type": "number", "description": "user and system time, the least of the runs"},
        imports_ms={"type": "object", "additionalProperties": {"type": "number"}},
    ),
)
