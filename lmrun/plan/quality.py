"""Quality reports in the store: that of a plan, and the nearest setting whose report passes."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lmrun.artifacts.store import Store
from lmrun.config.schema import EvaluateConfig, RunConfig
from lmrun.plan import gate
from lmrun.plan.gate import Gate
from lmrun.plan.plan import Plan, StagePlan
from lmrun.plan.stage_seconds import ELSEWHERE
from lmrun.plan.stage_specs import EVALUATE
from lmrun.quant import combinations

REPORT = "report.json"
"""File of the evaluate artifact."""
MODEL = "model"
"""Metric of the evaluate manifest: `model_of` its plan."""
SETTINGS = "settings"
"""Metric of the evaluate manifest: what the deployment was built and launched with, dotted."""
_GROUPS = ("prune", "quant", "kv", "backend", "calibration")
"""Groups whose keys move quality, in the order they are told."""
_ALWAYS = ("backend.activation_bits",)
_NOT_TOLD = ("calibration.batch_size", "calibration.statistics_samples")
"""Keys that move bytes, and quality by nothing that means anything."""


@dataclass(frozen=True)
class Passing:
    """A stored evaluation that keeps every bound."""

    changes: Mapping[str, tuple[Any, Any]]
    """Dotted key → the value that does not pass, and the one that does."""
    figures: Mapping[str, float]

    @property
    def text(self) -> str:
        """`kv.bits=8 quant.group_size=32`, as overrides."""
        return " ".join(f"{key}={_shown(new)}" for key, (_, new) in self.changes.items())


def of(plan: Plan, store: Store) -> dict[str, Any] | None:
    """The quality report of a plan's evaluate stage; None where it is not in the store."""
    stage = plan.stage(EVALUATE.name)
    return None if stage is None else of_stage(stage, store)


def of_stage(stage: StagePlan, store: Store) -> dict[str, Any] | None:
    """As `of`, for the evaluate stage itself."""
    return None if stage.fingerprint is None else read(store, stage.fingerprint)


def path(plan: Plan, store: Store) -> Path | None:
    """Where the report of a plan lies, or will; None where the plan has none."""
    stage = plan.stage(EVALUATE.name)
    if stage is None or stage.fingerprint is None:
        return None
    return store.folder(EVALUATE.name, stage.fingerprint) / REPORT


def read(store: Store, fingerprint: str) -> dict[str, Any] | None:
    """The report of an evaluate artifact; None where there is none that can be read."""
    artifact = store.find(EVALUATE.name, fingerprint)
    if artifact is None:
        return None
    try:
        document = json.loads((artifact.path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def settings(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What of a resolved run config (`Plan.config`) moves quality, by dotted key.

    Keys that nothing reads are left out: those of another quantizer, for example.
    """
    used = combinations.reads(msgspec.convert(config, RunConfig))
    told = (used | set(_ALWAYS)) - set(_NOT_TOLD)
    return {
        f"{group}.{leaf}": config[group][leaf]
        for group in _GROUPS
        for leaf in config[group]
        if f"{group}.{leaf}" in told
    }


def nearest_passing(plan: Plan, store: Store, evaluate: EvaluateConfig) -> Passing | None:
    """The stored evaluation of the same model with the same baseline and data that keeps every
    bound, and differs from the plan in the fewest settings, by the least."""
    stage = plan.stage(EVALUATE.name)
    if stage is None:
        return None
    now = settings(plan.config)
    found = [
        Passing(_changes(now, then), gate.figures(document))
        for then, document in _comparable(stage, plan, store)
        if not _fails(gate.check(document, evaluate))
    ]
    return min(
        (one for one in found if one.changes),
        key=lambda one: (len(one.changes), _distance(one.changes), one.text),
        default=None,
    )


def _fails(gates: tuple[Gate, ...]) -> bool:
    return any(not one.passed for one in gates)


def _comparable(
    stage: StagePlan, plan: Plan, store: Store
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Settings and report of every evaluation of the same model on the same data."""
    model = model_of(plan)
    for manifest in store.manifests(EVALUATE.name):
        fields = manifest.fields
        then = fields.metrics.get(SETTINGS)
        is_same = _data(fields.inputs) == _data(stage.inputs) and all(
            fields.config.get(key) == value
            for key, value in stage.config.items()
            if key.startswith("evaluate.")
        )
        if not isinstance(then, dict) or not is_same or fields.metrics.get(MODEL) != model:
            continue
        document = read(store, manifest.fingerprint)
        if document is not None:
            yield then, document


def _data(inputs: Mapping[str, str | None]) -> dict[str, str | None]:
    """Of the inputs of an evaluate stage, what its figures are measured on."""
    return {name: value for name, value in inputs.items() if name not in ELSEWHERE}


def model_of(plan: Plan) -> str | None:
    """Metric `model` of the evaluate manifest: the checkpoint that the deployment was made from,
    by the fingerprint of its files."""
    resolve = plan.stage("resolve")
    return resolve.fingerprint if resolve is not None else None


def _changes(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What has to be set otherwise; keys that are not read any more go back to their default."""
    found = {key: (now.get(key), value) for key, value in then.items() if now.get(key) != value}
    default = RunConfig()
    for key, value in now.items():
        group, _, leaf = key.partition(".")
        if key not in then and value != getattr(getattr(default, group), leaf):
            found[key] = (value, getattr(getattr(default, group), leaf))
    return found


def _distance(changes: Mapping[str, tuple[Any, Any]]) -> float:
    """Doublings between the numbers that differ."""
    total = 0.0
    for old, new in changes.values():
        if isinstance(old, int | float) and isinstance(new, int | float) and old > 0 < new:
            total += abs(math.log2(new / old))
        else:
            total += 1.0
    return total


def _shown(value: Any) -> str:  # noqa: ANN401 - a configuration value
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value)
