"""`lmrun plan -m`: the points of a sweep with what each would run and cost."""

from collections.abc import Sequence
from typing import Any

from lmrun import json_schema
from lmrun.columns import columns
from lmrun.json_schema import COUNT, TEXT, TEXT_OR_NULL, or_null, record, records
from lmrun.plan.plan import Action, Plan
from lmrun.plan.sizes import show_bytes, show_seconds, things
from lmrun.sweep.conclusion import settings_text, value_text
from lmrun.sweep.planning import Planned, PlannedSweep
from lmrun.sweep.rows import POINT, Memory

SCHEMA_VERSION = 1
_NUMBER_OR_NULL = {"type": ["number", "null"]}
SCHEMA = json_schema.document(
    "lmrun plan -m",
    SCHEMA_VERSION,
    points=records(
        point=POINT,
        recipe=TEXT_OR_NULL,
        why_not={**TEXT_OR_NULL, "description": "null where it can be run"},
        stages=records(
            name=TEXT,
            action={"enum": [action.value for action in Action]},
            why=TEXT,
            seconds=_NUMBER_OR_NULL,
        ),
        memory=or_null(record(weights_bytes=COUNT, kv_bytes=COUNT, total_bytes=COUNT)),
        decode_tokens_per_s={
            **_NUMBER_OR_NULL,
            "description": "of one sequence, at best; null where the machine is not measured",
        },
    ),
    merged=records(settings=TEXT, into=TEXT),
)
"""JSON Schema of `document`."""


def table(sweep: PlannedSweep) -> str:
    """For people: a point a line, then those that cannot be run with the reason."""
    can, cannot = _parted(sweep.points)
    keys = list(dict.fromkeys(key for one in can for key in one.point.keys))
    heads = ("", *keys, "stages to run", "time", "memory", "weights", "KV cache", "decode")
    body = [_line(one, keys) for one in can]
    used = [index for index in range(len(heads)) if any(line[index] for line in body)]
    lines = list(columns([[line[index] for index in used] for line in (heads, *body)]))
    for one in cannot:
        lines.append(f"{one.point.index + 1}  {settings_text(one.point.keys)}: {one.why_not}")
    if can and cannot:
        lines.insert(len(lines) - len(cannot), "\ncannot be run")
    said = [things(len(sweep.points), "point")]
    if sweep.merged:
        count = len(sweep.merged)
        said.append(f"{count} more {'means' if count == 1 else 'mean'} the same as one of them")
    if cannot:
        said.append(f"{len(cannot)} cannot be run")
    return "\n".join([*lines, "", "; ".join(said)]) + "\n"


def document(sweep: PlannedSweep) -> dict[str, Any]:
    """The document of ``--json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "points": [_document(one) for one in sweep.points],
        "merged": [{"settings": one.settings, "into": one.into.id} for one in sweep.merged],
    }


def _parted(points: Sequence[Planned]) -> tuple[list[Planned], list[Planned]]:
    """Those with a price, and those that nothing can be said of but why they cannot be run."""
    priced = [one for one in points if one.is_priced]
    return priced, [one for one in points if not one.is_priced]


def _line(one: Planned, keys: Sequence[str]) -> tuple[str, ...]:
    plan, memory = one.plan, one.row.memory
    assert plan is not None and memory is not None  # `_parted`
    speed = _decode(plan)
    return (
        str(one.point.index + 1),
        *(value_text(one.point.keys[key]) if key in one.point.keys else "" for key in keys),
        _stages(plan),
        _time(plan),
        show_bytes(memory.total_bytes),
        show_bytes(memory.weights_bytes),
        show_bytes(memory.kv_bytes),
        "" if speed is None else f"{speed:.3g} tokens/s",
    )


def _stages(plan: Plan) -> str:
    if plan.refusals:
        return "priced only"
    return ", ".join(stage.name for stage in plan.missing) or "none, cached"


def _time(plan: Plan) -> str:
    known = [stage.seconds for stage in plan.missing]
    if not known or any(seconds is None for seconds in known):
        return ""
    return show_seconds(sum(seconds for seconds in known if seconds is not None))


def _decode(plan: Plan) -> float | None:
    """Predicted rate of one sequence."""
    rates = (
        estimate.tokens_per_s
        for estimate in plan.speeds.estimates
        if estimate.phase == "decode" and estimate.num_seqs == 1
    )
    return next(rates, None)


def _document(one: Planned) -> dict[str, Any]:
    plan, memory = one.plan, one.row.memory
    return {
        "point": {
            "index": one.point.index,
            "id": one.point.id,
            "overrides": list(one.point.overrides),
            "keys": dict(one.point.keys),
        },
        "recipe": one.recipe,
        "why_not": one.why_not or None,
        "stages": [
            {
                "name": stage.name,
                "action": stage.action.value,
                "why": stage.why,
                "seconds": stage.seconds,
            }
            for stage in (plan.stages if plan else ())
        ],
        "memory": None if memory is None else _memory(memory),
        "decode_tokens_per_s": None if plan is None else _decode(plan),
    }


def _memory(memory: Memory) -> dict[str, int]:
    return {
        "weights_bytes": memory.weights_bytes,
        "kv_bytes": memory.kv_bytes,
        "total_bytes": memory.total_bytes,
    }
