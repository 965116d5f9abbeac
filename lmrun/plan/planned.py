"""The event that says what a plan holds."""

from lmrun import events
from lmrun.plan.plan import Plan


def emit(plan: Plan) -> None:
    """Tell the reader of `--events` what would run, and why."""
    stages = (
        events.PlannedStage(stage.name, str(stage.action), stage.fingerprint, stage.why)
        for stage in plan.stages
    )
    events.emit(events.Planned(plan.served_name, plan.recipe, tuple(stages)))
