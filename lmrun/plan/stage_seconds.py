"""How long a stage will take, by the nearest entry of the store."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmrun.artifacts.manifest import Manifest
from lmrun.plan.plan import StagePlan
from lmrun.plan.stage_specs import JUDGING

ELSEWHERE = ("convert", "template", "calibrate")
"""Inputs of an evaluation that are not the data it is measured on."""
SAME = ("quant.method", "quant.preset", "quant.rotate", "prune.method")
"""Keys that must be equal: another method is another amount of work."""
MOST_TIMES = 16
"""An entry is scaled by no more than this, up or down: the seconds of a tiny model are those of a
start and say nothing about a large one."""
AMOUNTS = ("calibration.statistics_samples", "calibration.seq_len")
"""Keys to which the time of calibrate is about in proportion."""


def estimated_seconds(
    stage: StagePlan, disk_bytes: int | None, entries: Sequence[Manifest]
) -> float | None:
    """Seconds of the entry nearest in what it read, scaled; None where none is near.

    Another checkpoint's entry is scaled by the bytes written; not for `calibrate`, `baseline` and
    `evaluate`, whose output says little about the work: there the checkpoint, and what is
    evaluated, must be the same.
    """
    near = [entry for entry in entries if _is_comparable(stage, entry)]
    if not near:
        return None
    entry = max(near, key=lambda one: (_shared_inputs(stage, one), -_apart(one, disk_bytes)))
    seconds = entry.fields.seconds
    if stage.name == "calibrate":
        for key in AMOUNTS:
            seconds *= stage.config[key] / entry.fields.config[key]
        return seconds
    if stage.name in JUDGING:
        return seconds
    if disk_bytes is None or not entry.num_bytes:
        return seconds
    if _apart(entry, disk_bytes) > math.log(MOST_TIMES):
        return None
    return seconds * disk_bytes / entry.num_bytes


def _apart(entry: Manifest, disk_bytes: int | None) -> float:
    """How far the sizes are from each other, as the logarithm of their ratio."""
    if not disk_bytes or not entry.num_bytes:
        return 0.0
    return abs(math.log(disk_bytes / entry.num_bytes))


def _is_comparable(stage: StagePlan, entry: Manifest) -> bool:
    config = entry.fields.config
    if any(config.get(key) != stage.config.get(key) for key in SAME):
        return False
    if _device(entry.fields.numeric_class) != _device(stage.numeric_class):
        return False
    if stage.name == "calibrate":
        same_model = entry.fields.inputs.get("resolve") == stage.inputs.get("resolve")
        return same_model and all(key in config for key in AMOUNTS)
    if stage.name in JUDGING:
        is_same = all(config.get(key) == stage.config[key] for key in _asked(stage.config))
        return is_same and _judged_on(entry.fields.inputs) == _judged_on(stage.inputs)
    return True


def _device(numeric_class: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - plain JSON
    """What computes: a GPU is another speed."""
    return (numeric_class or {}).get("device")


def _asked(config: Mapping[str, Any]) -> list[str]:
    return [key for key in config if key.startswith("evaluate.")]


def _judged_on(inputs: Mapping[str, str | None]) -> dict[str, str | None]:
    """Model and data; of an evaluation all but the workspace, which takes about as long."""
    return {name: value for name, value in inputs.items() if name not in ELSEWHERE}


def _shared_inputs(stage: StagePlan, entry: Manifest) -> int:
    return sum(entry.fields.inputs.get(name) == value for name, value in stage.inputs.items())
