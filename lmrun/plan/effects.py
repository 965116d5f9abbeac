"""What a key of the run config can change: stages that would run again, the launch, or neither."""

from collections.abc import Mapping
from functools import cache

from lmrun.config.keys import mapping_of
from lmrun.plan.stage_specs import JUDGING, STAGES

EXTERNAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("model.path", "model.hub_id", "model.revision"),
    "text": ("calibration.data",),
    "calibration_template": ("model.chat_template",),
    "reference": ("evaluate.baseline",),
    "evaluation_text": ("evaluate.data",),
    "tasks": ("evaluate.tasks",),
    "tools": ("evaluate.tools",),
    "template": ("model.chat_template",),
}
"""External input of a stage → the keys that say which one it is."""
CLASS_KEYS = ("backend.isa",)
"""They stand in the numeric class of the stages that run the engine."""
COMPUTE_KEYS = ("quant.device",)
"""They stand in the numeric class of the other stages that compute."""
FETCHING_KEYS = ("model.hub_token", "model.hub_offline")
"""They say how a checkpoint is fetched, not which."""
PLANNING_GROUPS = ("device",)
"""Groups that say which machine is planned for."""
_ALONE = {
    "bench": "bench only",
    "evaluate.tolerance": "verify only",
    "quant.activation_memory": "memory and disk of the stages",
    **{f"evaluate.{leaf}": "the gate" for leaf in ("max_ppl", "max_ppl_ratio", "max_kl")},
    **{f"evaluate.{leaf}": "the gate" for leaf in ("min_top1", "min_task_accuracy")},
    "evaluate.min_tool_accuracy": "the gate",
}
"""Groups and keys that move no stage and no launch → what they change."""


def stages_changed(key: str) -> tuple[str, ...]:
    """Stages whose fingerprint covers `key`, itself or through an earlier stage, in their order.

    A recipe that does not need one of them leaves it out.
    """
    key = mapping_of(key) or key
    changed: list[str] = []
    for stage in STAGES:
        inputs = (name for name in stage.inputs if name in changed)
        external = (name for name in stage.inputs if key in EXTERNAL_KEYS.get(name, ()))
        by_class = stage.computes and key in (CLASS_KEYS if stage.is_by_engine else COMPUTE_KEYS)
        if key in stage.config_keys or any(inputs) or any(external) or by_class:
            changed.append(stage.name)
    return tuple(changed)


@cache
def effect(key: str) -> str:
    """`stages_changed` in words: ``quantize, convert``, ``launch only``, ``plan only``…

    A launch goes with every stage that makes a workspace; beside those that only judge one it is
    said.
    """
    key = mapping_of(key) or key
    stages = stages_changed(key)
    if stages:
        is_launched = all(stage in JUDGING for stage in stages) and key[:9] != "evaluate."
        return ", ".join(["launch", *stages] if is_launched else stages)
    alone = _ALONE.get(key) or _ALONE.get(key.partition(".")[0])
    if alone is not None:
        return alone
    if key in FETCHING_KEYS:
        return "how the checkpoint is fetched"
    return "plan only" if key.partition(".")[0] in PLANNING_GROUPS else "launch only"
