"""JSON Schemas of reports whose documents are made where they are printed.

A test runs each command and holds what it prints against its schema.
"""

from lmrun.json_schema import (
    BOOLEAN,
    COUNT,
    DIGEST,
    TEXT,
    TEXTS,
    document,
    or_null,
    record,
    records,
)

_MOMENT = {"type": "string", "format": "date-time"}

STORE_LS = document(
    "lmrun store ls",
    1,
    home=TEXT,
    bytes=COUNT,
    artifacts=records(
        stage=TEXT,
        fingerprint=DIGEST,
        path=TEXT,
        bytes=COUNT,
        created=_MOMENT,
        last_used=_MOMENT,
        model_name=or_null(TEXT),
        problem={**or_null(TEXT), "description": "null where nothing is known to be wrong"},
        used_by=record(
            locks={**TEXTS, "description": "lock files that need it"},
            running=records(verb=TEXT, pid=COUNT, port=or_null(COUNT)),
            stages=records(stage=TEXT, fingerprint=DIGEST),
        ),
    ),
    unfinished=records(
        stage=TEXT,
        fingerprint=DIGEST,
        path=TEXT,
        bytes=COUNT,
        changed=_MOMENT,
        is_being_built=BOOLEAN,
    ),
)

STORE_VERIFY = document(
    "lmrun store verify",
    1,
    damaged={**COUNT, "description": "how many"},
    artifacts=records(stage=TEXT, fingerprint=DIGEST, problem=or_null(TEXT)),
)

STORE_GC = document(
    "lmrun store gc",
    1,
    dry_run=BOOLEAN,
    bytes={**COUNT, "description": "freed, or what would be"},
    removed=records(title=TEXT, bytes=COUNT),
    kept=records(stage=TEXT, fingerprint=DIGEST, bytes=COUNT, why=TEXT),
)

STORE_KEY = document(
    "lmrun store key",
    1,
    key=DIGEST,
    numeric_class=or_null({"type": "object"}),
    stages=records(
        stage=TEXT,
        fingerprint=DIGEST,
        code_version=COUNT,
        action={"enum": ["run", "cached", "unknown"]},
        path=TEXT,
    ),
)

BENCH_STARTUP = document(
    "lmrun bench startup",
    1,
    bench={"const": "startup"},
    runs=COUNT,
    goal_s={"type": "number"},
    commands=records(
        command={"type": "array", "items": TEXT},
        cpu_s={"type": "number", "description": "user and system time, the least of the runs"},
        imports_ms={"type": "object", "additionalProperties": {"type": "number"}},
    ),
)
