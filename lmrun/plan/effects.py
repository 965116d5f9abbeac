"""What a key of the run config can change: stages that would run again, the launch, or neither."""

from collections.abc import Mapping
from functools import cache

from lmrun.plan.stage_specs import STAGES

EXTERNAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("model.path", "model.hub_id", "model.revision"),
    "text": ("calibration.data",),
}
"""External input of a stage → the keys that say which one it is."""
FETCHING_KEYS = ("model.hub_token", "model.hub_offline")
"""They say how a checkpoint is fetched, not which."""
PLANNING_GROUPS = ("device",)
"""Groups that say which machine is planned for."""


def stages_changed(key: str) -> tuple[str, ...]:
    """Stages whose fingerprint covers `key`, itself or through an earlier stage, in their order.

    A recipe that does not need one of them leaves it out.
    """
    changed: list[str] = []
    for stage in STAGES:
        inputs = (name for name in stage.inputs if name in changed)
        external = (name for name in stage.inputs if key in EXTERNAL_KEYS.get(name, ()))
        if key in stage.config_keys or any(inputs) or any(external):
            changed.append(stage.name)
    return tuple(changed)


@cache
def effect(key: str) -> str:
    """`stages_changed` in words: ``quantize, convert``, ``launch only``, ``plan only``…"""
    stages = stages_changed(key)
    if stages:
        return ", ".join(stages)
    if key in FETCHING_KEYS:
        return "how the checkpoint is fetched"
    return "plan only" if key.partition(".")[0] in PLANNING_GROUPS else "launch only"
