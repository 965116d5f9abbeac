"""Two deployments side by side: settings, and what the difference would cost. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec

from lmrun.artifacts.canonical import canonical
from lmrun.plan.effects import effect
from lmrun.plan.plan import Action, Plan, StagePlan
from lmrun.plan.speed import SpeedEstimate
from lmrun.plan.stage_specs import STAGES

SCHEMA_VERSION = 1
NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a run config, and its plan where there is one."""

    name: str
    """As people read it: the overrides, a lock file, `git:REV` with overrides."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key → resolved value, in the order of the schema."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted key → where it was set."""
    plan: Plan | None = None
    refusal: str | None = None
    """Why there is no plan, or why it would not be run."""
    ready_s: float | None = None
    """Observed seconds from the start of the engine to its first token."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """Figure → value, of what was built or locked."""
    label: str = ""
    """What stands before paths of this side alone: `main:` for those of a revision."""


@dataclass(frozen=True)
class Change:
    """A setting that differs."""

    key: str
    old: Any
    new: Any
    old_origin: str | None
    """None where the side has no such key."""
    new_origin: str | None
    changes: str
    """What the key changes: stages, the launch, the plan."""


@dataclass(frozen=True)
class StageChange:
    """A stage that at least one side needs."""

    stage: str
    old_fingerprint: str | None
    """None while it is not known, or where that side does not need the stage."""
    new_fingerprint: str | None
    is_same: bool
    """Both fingerprints are known and equal."""
    action: str
    """What the new side does: `run`, `cached`, `unknown`, or `not needed`."""
    why: str
    seconds: float | None
    """Of the new side's run, where earlier ones tell; None where it does not run."""


@dataclass(frozen=True)
class Figure:
    """A number on each side."""

    what: str
    unit: str
    """`B`, `tokens/s`, or "" for a plain number."""
    old: float | None
    """None where it is not known."""
    new: float | None


@dataclass(frozen=True)
class Downtime:
    """What it takes to go from the old side, running, to the new one."""

    needs_restart: bool
    because: tuple[str, ...]
    """Parts of the deployment that differ: `engine`, `server`, `web page`."""
    fits_beside: bool | None
    """Whether the memory holds both engines at once; None where that is not known."""
    both_bytes: int | None
    device_bytes: int | None
    seconds: float | None
    """Observed seconds that an engine of the new side (of the old one, where the new one never
    ran) took to become ready; None while nothing was observed."""


class Status(StrEnum):
    """How the sides stand to each other."""

    same = "same"
    changed = "changed"
    added = "added"
    removed = "removed"


@dataclass(frozen=True)
class Comparison:
    """What differs between two sides, and what follows from it."""

    recipe: str | None
    """Set where several recipes are compared."""
    status: Status
    old: str | None
    """Name of the side; None where there is none."""
    new: str | None
    old_refusal: str | None
    new_refusal: str | None
    changes: tuple[Change, ...]
    stages: tuple[StageChange, ...]
    memory: tuple[Figure, ...]
    """Bytes of the device: weights, KV cache, all."""
    written_bytes: int | None
    """Artifacts that the new side's stages would write, as estimated."""
    downtime: Downtime | None
    """None where a side has no plan."""
    speed: tuple[Figure, ...]
    speed_source: str
    """Where the figures come from, or why there are none."""
    quality: tuple[Figure, ...]
    """Empty where neither side knows any."""

    @property
    def is_different(self) -> bool:
        """Whether anything but the way the sides were written differs."""
        return self.status is not Status.same


@dataclass(frozen=True)
class Report:
    """What `lmrun diff` prints."""

    comparisons: tuple[Comparison, ...]
    since: str | None = None
    """The revision, where every recipe was looked at."""

    @property
    def is_different(self) -> bool:
        """Whether any comparison found a difference."""
        return any(comparison.is_different for comparison in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema_version": SCHEMA_VERSION, "differs": self.is_different, **document}


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of `Report.to_json`, made from the types above."""
    document: dict[str, Any] = msgspec.json.schema(Report)
    report = document["$defs"]["Report"]
    report["properties"] |= {
        "schema_version": {"const": SCHEMA_VERSION},
        "differs": {"type": "boolean"},
    }
    report["required"] += ["schema_version", "differs"]
    for definition in document["$defs"].values():
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    return document


def compare(old: Side | None, new: Side | None, recipe: str | None = None) -> Comparison:
    """The difference; a side that is None was added or removed."""
    left, right = old or Side(""), new or Side("")
    changes = tuple(_changes(left, right)) if old and new else ()
    stages = tuple(_stages(left.plan, right.plan))
    is_same = not changes and all(stage.is_same for stage in stages)
    status = Status.same if is_same and _refusal(left) == _refusal(right) else Status.changed
    if old is None or new is None:
        status = Status.added if old is None else Status.removed
    speed, source = _speed(left.plan, right.plan)
    return Comparison(
        recipe=recipe,
        status=status,
        old=old.name if old else None,
        new=new.name if new else None,
        old_refusal=left.refusal,
        new_refusal=right.refusal,
        changes=changes,
        stages=stages,
        memory=tuple(_memory(left.plan, right.plan)),
        written_bytes=_written(right.plan),
        downtime=_downtime(left, right),
        speed=speed,
        speed_source=source,
        quality=tuple(_quality(left, right)),
    )


def _refusal(side: Side) -> str | None:
    """The refusal as it would be with equal paths."""
    is_plain = side.refusal is None or not side.label
    return side.refusal if is_plain else str(side.refusal).replace(side.label, "")


def _changes(old: Side, new: Side) -> Iterator[Change]:
    keys = [*new.config, *(key for key in old.config if key not in new.config)]
    for key in keys:
        before, after = old.config.get(key), new.config.get(key)
        if canonical(before) != canonical(after):
            yield Change(
                key, before, after, old.origins.get(key), new.origins.get(key), effect(key)
            )


def _stages(old: Plan | None, new: Plan | None) -> Iterator[StageChange]:
    same: dict[str, bool] = {}
    for spec in STAGES:
        before = old.stage(spec.name) if old else None
        after = new.stage(spec.name) if new else None
        if before is None and after is None:
            continue
        same[spec.name] = (
            old is not None
            and new is not None
            and before is not None
            and after is not None
            and _is_same(before, after, same, reads_same=old.unhashed == new.unhashed)
        )
        runs = after is not None and after.action is not Action.cached
        yield StageChange(
            stage=spec.name,
            old_fingerprint=before.fingerprint if before else None,
            new_fingerprint=after.fingerprint if after else None,
            is_same=same[spec.name],
            action=after.action.value if after else NOT_NEEDED,
            why=after.why if after else NOT_NEEDED,
            seconds=after.seconds if after and runs else None,
        )


def _is_same(
    old: StagePlan, new: StagePlan, earlier: Mapping[str, bool], *, reads_same: bool
) -> bool:
    """Equal fingerprints; where neither is known yet, equal settings and equal files to hash."""
    if old.fingerprint is not None or new.fingerprint is not None:
        return old.fingerprint == new.fingerprint
    is_equal = (old.config, old.inputs, old.code_version) == (
        new.config,
        new.inputs,
        new.code_version,
    )
    return is_equal and reads_same and all(earlier.get(name, True) for name in new.inputs)


def _memory(old: Plan | None, new: Plan | None) -> Iterator[Figure]:
    rows = [_sizes(plan) for plan in (old, new)]
    for what in dict.fromkeys([*rows[0], *rows[1]]):
        yield Figure(what, "B", rows[0].get(what), rows[1].get(what))


def _sizes(plan: Plan | None) -> dict[str, int]:
    if plan is None:
        return {}
    budget = plan.budget
    return {
        "weights": budget.weights_bytes,
        "KV cache": budget.kv_bytes,
        "all memory": budget.fixed_bytes + budget.kv_bytes,
    }


def _written(plan: Plan | None) -> int | None:
    if plan is None:
        return None
    running = {stage.name for stage in plan.missing}
    return sum(cost.disk_bytes for cost in plan.budget.offline if cost.stage in running)


def _downtime(old: Side, new: Side) -> Downtime | None:
    if old.plan is None or new.plan is None:
        return None
    because = tuple(_restarted(old, new, old.plan, new.plan))
    budgets = [side.budget for side in (old.plan, new.plan)]
    both = sum(budget.fixed_bytes + budget.kv_bytes for budget in budgets)
    is_one_device = old.plan.device == new.plan.device
    ready = old.ready_s if new.ready_s is None else new.ready_s
    return Downtime(
        needs_restart=bool(because),
        because=because,
        fits_beside=both <= budgets[1].total_bytes if is_one_device else None,
        both_bytes=both if is_one_device else None,
        device_bytes=budgets[1].total_bytes if is_one_device else None,
        seconds=ready if because else None,
    )


def _restarted(old: Side, new: Side, before: Plan, after: Plan) -> Iterator[str]:
    """Parts of a running deployment that are started with other settings."""
    builds = [
        [(stage.name, stage.fingerprint) for stage in plan.stages][-1:] for plan in (before, after)
    ]
    engines = [
        (dataclasses.replace(plan.engine, workspace=""), plan.model_path, build)
        for plan, build in zip((before, after), builds, strict=True)
    ]
    if engines[0] != engines[1]:
        yield "engine"
    servers = [
        (
            plan.served_name,
            plan.chat_template,
            plan.frontend.host,
            plan.frontend.port,
            plan.frontend.drain_s,
            canonical(side.config.get("frontend.api_keys")),
        )
        for plan, side in ((before, old), (after, new))
    ]
    if servers[0] != servers[1]:
        yield "server"
    pages = [(plan.frontend.ui, plan.frontend.ui_port) for plan in (before, after)]
    if pages[0] != pages[1]:
        yield "web page"


def _speed(old: Plan | None, new: Plan | None) -> tuple[tuple[Figure, ...], str]:
    plans = [plan for plan in (old, new) if plan is not None]
    if not plans:
        return (), ""
    estimates = [_estimates(plan) for plan in (old, new)]
    rows = [
        Figure(what, "tokens/s", estimates[0].get(what), estimates[1].get(what))
        for what in dict.fromkeys([*estimates[0], *estimates[1]])
    ]
    seen = [_observed(plan) for plan in (old, new)]
    rows += [
        Figure(f"{what} (observed)", "tokens/s", seen[0].get(what), seen[1].get(what))
        for what in dict.fromkeys([*seen[0], *seen[1]])
    ]
    return tuple(rows), plans[-1].speeds.source


def _estimates(plan: Plan | None) -> dict[str, float]:
    """The first of each kind and number of sequences: short contexts, which every plan has."""
    found: dict[str, float] = {}
    for estimate in plan.speeds.estimates if plan else ():
        found.setdefault(_estimated_what(estimate), estimate.tokens_per_s)
    return found


def _estimated_what(estimate: SpeedEstimate) -> str:
    if estimate.phase == "prefill":
        return f"prefill, {estimate.context_length} tokens"
    sequences = "1 sequence" if estimate.num_seqs == 1 else f"{estimate.num_seqs} sequences"
    return f"decode, {sequences}"


def _observed(plan: Plan | None) -> dict[str, float]:
    rows = plan.observed.rows if plan and plan.observed else ()
    return {
        row.what.partition(" at ")[0].partition(" behind ")[0]: row.observed
        for row in rows
        if row.unit == "tokens/s"
    }


def _quality(old: Side, new: Side) -> Iterator[Figure]:
    for what in dict.fromkeys([*old.quality, *new.quality]):
        yield Figure(what, "", old.quality.get(what), new.quality.get(what))
