"""The events that say what a plan holds."""

from lmrun import events
from lmrun.artifacts.store import Store
from lmrun.plan import gate, quality
from lmrun.plan.plan import Plan


def emit(plan: Plan) -> None:
    """Tell the reader of `--events` what would run, and why."""
    stages = (
        events.PlannedStage(stage.name, str(stage.action), stage.fingerprint, stage.why)
        for stage in plan.stages
    )
    events.emit(events.Planned(plan.served_name, plan.recipe, tuple(stages)))


def emit_quality(plan: Plan, store: Store) -> None:
    """Tell it the figures that are in the store, and how they keep the bounds; else nothing."""
    report = quality.path(plan, store)
    if report is None or plan.quality is None:
        return
    gates = (
        events.GateResult(one.name, one.key, one.bound, one.value, bool(one.passed))
        for one in plan.gates
    )
    events.emit(events.Evaluated(gate.figures(plan.quality), tuple(gates), str(report)))
