"""How long a stage will take, by the nearest entry of the store."""

from collections.abc import Sequence

from lmrun.artifacts.manifest import Manifest
from lmrun.plan.plan import StagePlan

SAME = ("quant.method",)
"""Keys that must be equal: another method is another amount of work."""
AMOUNTS = ("calibration.samples", "calibration.seq_len")
"""Keys to which the time of calibrate is about in proportion."""


def estimated_seconds(
    stage: StagePlan, disk_bytes: int | None, entries: Sequence[Manifest]
) -> float | None:
    """Seconds of the entry nearest in what it read, scaled; None where none is near.

    Another checkpoint's entry is scaled by the bytes written, for `calibrate` not at all: its
    output says little about the work.
    """
    near = [entry for entry in entries if _is_comparable(stage, entry)]
    if not near:
        return None
    entry = max(near, key=lambda one: _shared_inputs(stage, one))
    seconds = entry.fields.seconds
    if stage.name == "calibrate":
        for key in AMOUNTS:
            seconds *= stage.config[key] / entry.fields.config[key]
        return seconds
    if disk_bytes is None or not entry.num_bytes:
        return seconds
    return seconds * disk_bytes / entry.num_bytes


def _is_comparable(stage: StagePlan, entry: Manifest) -> bool:
    config = entry.fields.config
    if any(config.get(key) != stage.config.get(key) for key in SAME):
        return False
    if stage.name == "calibrate":
        same_model = entry.fields.inputs.get("resolve") == stage.inputs.get("resolve")
        return same_model and all(key in config for key in AMOUNTS)
    return True


def _shared_inputs(stage: StagePlan, entry: Manifest) -> int:
    return sum(entry.fields.inputs.get(name) == value for name, value in stage.inputs.items())
