"""The sides of a comparison: overrides, a lock file, or a git revision with overrides."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lmrun.artifacts.measurements import find_observation, observation_key
from lmrun.artifacts.store import Store
from lmrun.config import Composed, RunConfig, compose, flat
from lmrun.config.places import Places
from lmrun.errors import LmrunError
from lmrun.plan import gate
from lmrun.plan import lock as locks
from lmrun.plan.comparison import Side
from lmrun.plan.lock import Lock
from lmrun.plan.machine import this_machine
from lmrun.plan.plan import Action, Plan, StagePlan
from lmrun.plan.planner import make_plan, plan_run

_ERRORS = "relative_output_error"
"""Metric of quantize: a linear's role → mean relative error of its outputs."""


def from_overrides(
    words: Sequence[str], store: Store, places: Places | None = None, name: str = ""
) -> Side:
    """A side that is composed now; one that cannot be composed or planned says why.

    ``name`` stands before the overrides. The values of a side that cannot be composed are not
    shown, but for its recipe: one of them may be a secret that was refused.
    """
    try:
        composed = compose(words, places=places)
    except LmrunError as error:
        side = Side(_named(name, [_without_value(word) for word in words]), refusal=str(error))
    else:
        side = _planned(_named(name, words), composed, store)
    return dataclasses.replace(side, label=places.label if places else "")


def _without_value(word: str) -> str:
    key, sign, _ = word.partition("=")
    if key.lstrip("+") == "recipe":
        return word
    return f"{key}=…" if sign else "…"


def from_lock(path: Path, store: Store) -> tuple[Side, Lock]:
    """A side as a lock file pins it: its settings, fingerprints and quality.

    Sizes and speed are planned from the locked settings, here and now.
    """
    lock = locks.read(path)
    config = {
        f"{group}.{key}": value
        for group, leaves in lock.config.items()
        for key, value in leaves.items()
    }
    side = Side(str(path), config, dict.fromkeys(config, str(path)), quality=lock.figures)
    try:
        run = msgspec.convert(lock.config, RunConfig)
        plan = plan_run(run, store, lock.recipe)
    except (msgspec.ValidationError, LmrunError) as error:
        return dataclasses.replace(side, refusal=str(error)), lock
    stages = tuple(_as_locked(stage, lock, store) for stage in plan.stages)
    plan = dataclasses.replace(plan, stages=stages)
    quality = {**_quality(plan, store), **side.quality}
    return dataclasses.replace(
        side,
        plan=plan,
        refusal=_refusal(plan),
        ready_s=_ready_s(plan, store),
        quality=quality,
    ), lock


def _named(name: str, words: Sequence[str]) -> str:
    return " ".join([*([name] if name else []), *words]) or "no overrides"


def _planned(name: str, composed: Composed, store: Store) -> Side:
    origins = {key: str(origin) for key, origin in composed.origins.items()}
    side = Side(name, flat(composed.run), origins)
    try:
        plan = make_plan(composed, store)
    except LmrunError as error:
        return dataclasses.replace(side, refusal=str(error))
    return dataclasses.replace(
        side,
        plan=plan,
        refusal=_refusal(plan),
        ready_s=_ready_s(plan, store),
        quality=_quality(plan, store),
    )


def _refusal(plan: Plan) -> str | None:
    return "\n".join(plan.refusals) or None


def _as_locked(stage: StagePlan, lock: Lock, store: Store) -> StagePlan:
    """The stage with the fingerprint that was locked."""
    locked = lock.stages.get(stage.name)
    if locked is None or locked.fingerprint == stage.fingerprint:
        return stage
    is_there = not locked.files or store.find(stage.name, locked.fingerprint) is not None
    return dataclasses.replace(
        stage,
        fingerprint=locked.fingerprint,
        action=Action.cached if is_there else Action.run,
        why="as locked",
        inputs={},
    )


def _ready_s(plan: Plan, store: Store) -> float | None:
    """Observed on this machine; None where nothing was, or another one is planned for."""
    if plan.workspace is None or not plan.device.is_this_machine:
        return None
    settings = dataclasses.asdict(plan.engine)
    seen = find_observation(
        store.home, observation_key(store.home, settings, this_machine().identity)
    )
    return seen.seconds_to_ready if seen else None


def _quality(plan: Plan, store: Store) -> dict[str, float]:
    """What the stored artifacts of the plan say of themselves, and what was evaluated."""
    figures = gate.figures(plan.quality) if plan.quality is not None else {}
    return {**figures, **_output_error(plan, store)}


def _output_error(plan: Plan, store: Store) -> dict[str, float]:
    stage = plan.stage("quantize")
    if stage is None or stage.fingerprint is None or stage.action is not Action.cached:
        return {}
    artifact = store.find(stage.name, stage.fingerprint)
    errors = artifact.manifest.fields.metrics.get(_ERRORS) if artifact else None
    if not errors:
        return {}
    mean = sum(errors.values()) / len(errors)
    return {"relative output error of the quantized linears": round(mean, 6)}
