"""Settings of the command line that this deployment has no use for: said, not ignored."""

from collections.abc import Iterator

from lmrun.config import Composed
from lmrun.config.composed import COMMAND_LINE
from lmrun.plan.plan import ModelKind, Plan


def unread(composed: Composed, plan: Plan) -> tuple[str, ...]:
    """A remark for each key of the command line that nothing reads, in the order of the schema.

    Recipes and options are left out: they serve several models, and overrides change what is used.
    """
    given = {key for key, origin in composed.origins.items() if origin.source == COMMAND_LINE}
    return tuple(
        f"{key}: not used, {reason}"
        for prefix, reason in _idle(composed, plan)
        for key in composed.origins
        if key in given and key.startswith(prefix)
    )


def _idle(composed: Composed, plan: Plan) -> Iterator[tuple[str, str]]:
    """Key, or group with its dot, that nothing reads, and why."""
    run = composed.run
    if plan.model_kind in (ModelKind.checkpoint, ModelKind.builtin, ModelKind.config):
        if run.quant.method == "none":
            for leaf in ("bits", "group_size", "skip"):
                yield f"quant.{leaf}", "the weights are not quantized (quant.method=none)"
        if all(stage.name != "calibrate" for stage in plan.stages):
            yield "calibration.", f"quant.method={run.quant.method.value} needs no calibration"
    if run.model.hub_id is None:
        yield "model.hub_offline", "the model is a folder here"
    if run.kv.memory != "auto":
        yield "kv.memory_ratio", f"kv.memory={run.kv.memory} is the size"
    if plan.device.is_this_machine:
        yield "device.source", "this machine is looked at, not described"
    if plan.device.kind != "cpu":
        reason = f"{plan.device.name} is no CPU"
        yield from ((key, reason) for key in ("device.cores", "backend.isa", "backend.threads"))
    if run.frontend.ui == "none":
        yield "frontend.ui_port", "there is no page (frontend.ui=none)"
