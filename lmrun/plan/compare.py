"""Two deployments side by side: settings, and what the difference would cost. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping

from lmrun.artifacts.canonical import canonical
from lmrun.plan.comparison import (
    NOT_NEEDED,
    Change,
    Comparison,
    Downtime,
    Figure,
    Side,
    StageChange,
    Status,
)
from lmrun.plan.effects import effect
from lmrun.plan.plan import Action, Plan, StagePlan
from lmrun.plan.sizes import things
from lmrun.plan.speed import SpeedEstimate
from lmrun.plan.stage_specs import STAGES

KV_TOKENS = "tokens it holds"
CONTEXT = " at context "
"""In the name of an estimate: what follows is not the shortest context."""


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
        unit = "tokens" if what == KV_TOKENS else "B"
        yield Figure(what, unit, rows[0].get(what), rows[1].get(what))


def _sizes(plan: Plan | None) -> dict[str, int]:
    if plan is None:
        return {}
    budget = plan.budget
    return {
        "weights": budget.weights_bytes,
        "KV cache": budget.kv_bytes,
        KV_TOKENS: budget.num_tokens,
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
        if len(plans) < 2 or CONTEXT not in what or all(what in side for side in estimates)
    ]
    seen = [_observed(plan) for plan in (old, new)]
    rows += [
        Figure(f"{what} (observed)", "tokens/s", seen[0].get(what), seen[1].get(what))
        for what in dict.fromkeys([*seen[0], *seen[1]])
    ]
    return tuple(rows), plans[-1].speeds.source


def _estimates(plan: Plan | None) -> dict[str, float]:
    """Of each kind and number of sequences the shortest context, which every plan has, and others.

    The names of the latter have `CONTEXT` in them.
    """
    found: dict[str, float] = {}
    for estimate in plan.speeds.estimates if plan else ():
        what = _estimated_what(estimate)
        if what in found:
            what += f"{CONTEXT}{estimate.context_length}"
        found[what] = estimate.tokens_per_s
    return found


def _estimated_what(estimate: SpeedEstimate) -> str:
    if estimate.phase == "prefill":
        return f"prefill, {estimate.context_length} tokens"
    return f"decode, {things(estimate.num_seqs, 'sequence')}"


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
