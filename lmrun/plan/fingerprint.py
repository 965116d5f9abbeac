"""Fingerprints of stages: one function for plan, run and workers."""

from collections.abc import Mapping
from typing import Any

from lmrun.artifacts import canonical
from lmrun.config.schema import RunConfig
from lmrun.models.builtin import BuiltinModel
from lmrun.plan.stage_specs import StageSpec, keys_read
from lmrun.quant import combinations

SAMPLE_TEXT_VERSION = 1
"""Version of the text `builtin:sample`; raised by whoever changes it."""


def fingerprint(
    stage: StageSpec,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    numeric_class: Mapping[str, Any] | None,
) -> str:
    """SHA-256, in hex, over the canonical JSON of all that determines the stage's output.

    ``config`` is `config_subset`; ``inputs`` holds content digests of external inputs and
    fingerprints of stages; ``numeric_class`` is None for a stage that computes nothing.
    """
    return canonical.digest(
        {
            "stage": stage.name,
            "code_version": stage.code_version,
            "config": dict(config),
            "inputs": dict(inputs),
            "numeric_class": None if numeric_class is None else dict(numeric_class),
        }
    )


def config_subset(stage: StageSpec, run: RunConfig) -> dict[str, Any]:
    """The keys that a stage reads with these settings, and their values.

    Lists, which mean sets, are sorted; `auto` of `quant.range` and `quant.format` is what it stands
    for.
    """
    subset: dict[str, Any] = {}
    chosen = combinations.resolved(run)
    for key in keys_read(stage, run):
        group, _, name = key.partition(".")
        value = chosen.get(key, getattr(getattr(run, group), name))
        value = getattr(value, "value", value)
        subset[key] = sorted(value) if isinstance(value, list) else value
    return subset


def builtin_digest(model: BuiltinModel) -> str:
    """Content digest of a built-in model: what it is written from."""
    return canonical.digest(
        {
            "builtin": model.name,
            "version": model.version,
            "seed": model.seed,
            "config": model.config,
        }
    )


def sample_text_digest() -> str:
    """Content digest of the calibration text that comes with lmrun."""
    return canonical.digest({"builtin": "sample", "version": SAMPLE_TEXT_VERSION})
