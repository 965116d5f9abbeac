"""Why a stage runs: the fields and inputs that differ from the nearest artifact of that stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmrun.artifacts.canonical import canonical
from lmrun.artifacts.manifest import ManifestFields

SHOWN_CHANGES = 3
NO_ENTRY = "no entry yet"
CHECKPOINT, TEXT = "checkpoint", "text"
"""Metrics of a manifest: digests of the checkpoint's files, and what the text was called."""
_INPUT_WORDS = {
    **{stage: f"{stage} changed" for stage in ("prune", "calibrate", "quantize")},
    "calibration_template": "the chat template of the calibration text changed",
}


def why_missing(wanted: ManifestFields, stored: Sequence[ManifestFields]) -> str:
    """The changes against the stored entry with the fewest; of equals, the first given."""
    if not stored:
        return NO_ENTRY
    nearest = min((changes(entry, wanted) for entry in stored), key=len)
    shown = nearest[:SHOWN_CHANGES]
    if len(nearest) > SHOWN_CHANGES:
        shown.append(f"{len(nearest) - SHOWN_CHANGES} more")
    return ", ".join(shown)


def changes(old: ManifestFields, new: ManifestFields) -> list[str]:
    """One phrase a difference, config first: `quant.group_size 128 → 64`."""
    found = [
        f"{key} {_show(old.config, key)} → {_show(new.config, key)}"
        for key in _differing(old.config, new.config)
    ]
    if old.code_version != new.code_version:
        found.append(f"code version {old.code_version} → {new.code_version}")
    found += [_input_change(key, old, new) for key in _differing(old.inputs, new.inputs)]
    old_class, new_class = dict(old.numeric_class or {}), dict(new.numeric_class or {})
    found += [
        f"numeric class: {key} {_show(old_class, key)} → {_show(new_class, key)}"
        for key in _differing(old_class, new_class)
    ]
    return found


def _input_change(key: str, old: ManifestFields, new: ManifestFields) -> str:
    if key == "resolve":
        return _checkpoint_change(old.metrics.get(CHECKPOINT), new.metrics.get(CHECKPOINT))
    if key == "text":
        name = new.metrics.get(TEXT)
        return "the calibration text changed" + (f" (now {name})" if name else "")
    return _INPUT_WORDS.get(key, f"input {key} changed")


def _checkpoint_change(old: object, new: object) -> str:
    """The files that differ, where the entry says which it was built from."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return "the checkpoint changed"
    names = _differing(old, new)
    shown = names[:SHOWN_CHANGES]
    if len(names) > SHOWN_CHANGES:
        shown.append(f"{len(names) - SHOWN_CHANGES} more")
    return f"the checkpoint changed: {', '.join(shown)}" if shown else "the checkpoint changed"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [*new, *(key for key in old if key not in new)]
    return [
        key
        for key in keys
        if key not in old or key not in new or canonical(old[key]) != canonical(new[key])
    ]


def _show(values: Mapping[str, Any], key: str) -> str:
    return canonical(values[key]).strip('"') if key in values else "none"
