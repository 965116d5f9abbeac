"""Compares everything a lock pins with what is here, hashing all of it: no stamp is trusted."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmrun import json_schema, log
from lmrun.artifacts.files import sha256
from lmrun.artifacts.store import Artifact, Store
from lmrun.artifacts.uses import Use, using
from lmrun.config import Composed, resolved
from lmrun.deploy import locking
from lmrun.errors import ArtifactError, PlanError
from lmrun.json_schema import BOOLEAN, COUNT, TEXT, TEXTS, record, records
from lmrun.plan import drift as drifts
from lmrun.plan import gate
from lmrun.plan.drift import Drift
from lmrun.plan.lock import Lock
from lmrun.plan.plan import Action, Plan
from lmrun.plan.planner import make_plan
from lmrun.progress import progress_bar

logger = log.get(__name__)

CLASS = "numeric class"
SCHEMA_VERSION = 1
SCHEMA = json_schema.document(
    "lmrun verify report",
    SCHEMA_VERSION,
    lock=TEXT,
    holds=BOOLEAN,
    drift=records(kind={"enum": list(drifts.KINDS)}, name=TEXT, locked=TEXT, now=TEXT, where=TEXT),
    moved_stages=TEXTS,
    notes=TEXTS,
    checked=record(
        {"figures": COUNT},
        settings=COUNT,
        model_files=COUNT,
        artifacts=COUNT,
        packages=COUNT,
        hashed_bytes=COUNT,
    ),
)
"""JSON Schema of `lmrun verify --json`."""


@dataclass(frozen=True)
class Report:
    """What `lmrun verify` found."""

    lock: str
    drift: tuple[Drift, ...]
    moved_stages: tuple[str, ...]
    """Stages that would build another artifact than the locked one: the consequence of drift."""
    notes: tuple[str, ...]
    """What differs and changes nothing."""
    checked: Mapping[str, int]
    """What was counted → how many; `hashed_bytes` are bytes."""

    def to_json(self) -> dict[str, Any]:
        """The document, of `SCHEMA`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "lock": self.lock,
            "holds": not self.drift,
            "drift": [asdict(drift) for drift in self.drift],
            "moved_stages": list(self.moved_stages),
            "notes": list(self.notes),
            "checked": dict(self.checked),
        }


@dataclass
class _Findings:
    drift: list[Drift] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hashed_bytes: int = 0


def verify(composed: Composed, locked: Lock, store: Store, path: Path) -> Report:
    """Everything that drifted since the lock, at once. Builds nothing.

    What is found damaged in the store is marked, so that the next build replaces it, and the
    digest cache learns the digests of the files as they are.
    """
    found = _Findings()
    plan = _plan(composed, store, found)
    now = _now(composed, locked, plan, store, found)
    found.drift = [*drifts.inputs_drift(locked, now, composed.origins), *found.drift]
    _check_quality(locked, composed, store, found)
    moved = drifts.moved_stages(locked, now)
    used = {name: stage.fingerprint for name, stage in locked.stages.items() if stage.files}
    with using(store.home, Use("verify", used)):
        _check_artifacts(locked, plan, store, moved, found)
    found.drift += drifts.versions_drift(locked, now)
    if locked.config == now.config:
        found.notes += drifts.sources_notes(locked, now)
    return Report(
        lock=str(path),
        drift=tuple(found.drift),
        moved_stages=tuple(moved) if plan is not None else (),
        notes=tuple(found.notes),
        checked={
            "settings": sum(len(group) for group in locked.config.values()),
            "model_files": len(locked.model.files),
            "artifacts": sum(1 for stage in locked.stages.values() if stage.files),
            "packages": len(locked.packages),
            **({"figures": len(locked.figures)} if locked.figures else {}),
            "hashed_bytes": found.hashed_bytes,
        },
    )


def _plan(composed: Composed, store: Store, found: _Findings) -> Plan | None:
    """None, and a drift, where the model cannot be planned any more."""
    try:
        return make_plan(composed, store)
    except (PlanError, ArtifactError) as error:
        found.drift.append(Drift("plan", "plan", "possible", f"refused: {error}"))
        return None


def _now(
    composed: Composed, locked: Lock, plan: Plan | None, store: Store, found: _Findings
) -> Lock:
    if plan is None:
        return replace(
            locked,
            config=resolved(composed.run),
            engine=locking.engine(),
            packages=locking.packages(),
        )
    digests = locking.input_digests(composed, plan, store, anew=True)
    found.hashed_bytes += sum(path.stat().st_size for path in digests)
    return locking.current(composed, make_plan(composed, store), digests)


def _check_quality(locked: Lock, composed: Composed, store: Store, found: _Findings) -> None:
    """The figures of the lock against those of today's deployment.

    Where another numeric class is all that differs, bytes cannot be compared, and the figures
    decide: the class is then a note.
    """
    if not locked.figures:
        return
    classes = [drift for drift in found.drift if drift.kind == CLASS]
    try:
        report = make_plan(composed, store).quality
    except (PlanError, ArtifactError):
        return  # said already
    if report is None:
        if classes:
            found.notes.append(
                "quality: not evaluated in this numeric class; after `lmrun eval` with the same"
                " settings it is compared within evaluate.tolerance"
            )
        return
    tolerance = composed.run.evaluate.tolerance
    moved = drifts.quality_drift(locked, gate.figures(report), tolerance)
    found.drift += moved
    if not moved:
        found.drift = [drift for drift in found.drift if drift.kind != CLASS]
        found.notes += [f"another numeric class, of equal quality: {one.text}" for one in classes]


def _check_artifacts(
    locked: Lock, plan: Plan | None, store: Store, moved: list[str], found: _Findings
) -> None:
    """The bytes of each locked artifact, under the fingerprint it was locked with."""
    there: dict[str, Artifact] = {}
    for name, stage in locked.stages.items():
        if not stage.files:
            if plan is not None and name not in moved and locking.makes_artifact(plan, name):
                found.drift.append(Drift("artifact", f"{name}/*", drifts.NONE, "built"))
            continue
        look = store.look(name, stage.fingerprint)
        if look.artifact is not None:
            there[name] = look.artifact
        elif look.problem is not None:
            found.drift.append(Drift("artifact", name, "whole", f"damaged: {look.problem}"))
        elif name in moved:
            continue  # what would be built instead is the drift
        elif _is_needed(plan, name):
            found.drift.append(Drift("artifact", name, "built", f"not in the store {store.home}"))
        else:
            found.notes.append(
                f"{name}: not in this store, where nothing needs it; its bytes were not checked"
            )
    total = sum(artifact.manifest.num_bytes for artifact in there.values())
    with progress_bar("hash artifacts", total, unit="bytes") as advance:
        for name in locked.stages:
            if name in there:
                files = _digests(there[name], advance)
                found.drift += drifts.files_drift(name, locked.stages[name], files)
                _mark(there[name], files, store)
    found.hashed_bytes += total


def _is_needed(plan: Plan | None, name: str) -> bool:
    """Whether a build would make the artifact of a stage that is not there."""
    stage = plan.stage(name) if plan is not None else None
    return stage is None or stage.action is not Action.cached


def _digests(artifact: Artifact, advance: Callable[[int], None]) -> dict[str, str]:
    """Of every file; for one that cannot be read, why."""
    found: dict[str, str] = {}
    for name in artifact.manifest.files:
        try:
            found[name] = sha256(artifact.path / name, advance)
        except OSError as error:
            found[name] = f"cannot be read ({error.strerror})"
    return found


def _mark(artifact: Artifact, files: Mapping[str, str], store: Store) -> None:
    """Condemn an artifact whose bytes are not those of its own manifest."""
    for name, written in artifact.manifest.files.items():
        if files.get(name) != written.sha256:
            try:
                store.condemn(artifact, f"{name}: its bytes are not those that were written")
            except ArtifactError as error:
                logger.warning("%s: cannot be marked as damaged: %s", artifact.path, error)
            return
