"""Gathers what a lock pins, and holds a deployment to it (`--locked`)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from lmrun import __version__, log
from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.store import Artifact, Store
from lmrun.config import Composed, resolved
from lmrun.config.suggest import listed
from lmrun.errors import ArtifactError, DriftError, PlanError
from lmrun.models.chat_template import NAMED_TEMPLATES
from lmrun.models.checkpoint import SIDE_FILES, WORKSPACE_FILE
from lmrun.models.registry import CONFIG_FILE
from lmrun.models.workspace import RANK_FILE
from lmrun.plan import drift as drifts
from lmrun.plan import evaluation, gate
from lmrun.plan.drift import Drift
from lmrun.plan.fingerprint import sample_text_digest
from lmrun.plan.lock import (
    UNKNOWN,
    Lock,
    LockedModel,
    LockedStage,
    LockedText,
    default_path,
    read,
    rounded,
)
from lmrun.plan.plan import ModelKind, Plan
from lmrun.plan.planner import make_plan
from lmrun.progress import progress_bar

logger = log.get(__name__)

PACKAGES = (
    "hydra-core",
    "numpy",
    "omegaconf",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
"""Packages whose versions a lock records, beside lmrun and Python."""


def check_lockable(composed: Composed, plan: Plan) -> None:
    """Refuse what cannot be pinned: a floating revision, a plan for another machine."""
    if plan.hub is not None and plan.hub.is_floating:
        raise PlanError(
            f"model.revision={plan.hub.revision}: a lock needs a commit, got a branch or tag, which"
            f" may mean another one tomorrow. Write model.revision={plan.hub.commit}, which it"
            " means today."
        )
    if composed.run.device.name != "auto":
        raise PlanError(
            f"device.name={composed.run.device.name}: a lock holds what was built, and this plan is"
            " for a described machine. Lock on that machine, with device=auto."
        )


def external_files(plan: Plan) -> dict[str, Path]:
    """Name → path of every file outside the store that a lock pins, the text apart."""
    files: dict[str, Path] = {}
    if plan.model_kind is ModelKind.workspace:
        folder = Path(plan.model_path)
        names = (WORKSPACE_FILE, RANK_FILE, CONFIG_FILE, *SIDE_FILES)
        files = {name: folder / name for name in names if (folder / name).is_file()}
    elif plan.model_kind is not ModelKind.builtin:
        resolve = plan.stage("resolve")
        assert resolve is not None and plan.checkpoint is not None
        files = {name: plan.checkpoint / name for name in resolve.inputs}
    return files


def template_file(composed: Composed) -> Path | None:
    """The file that `model.chat_template` names."""
    choice = composed.run.model.chat_template
    if choice == "auto" or choice in NAMED_TEMPLATES:
        return None
    return Path(choice).expanduser()


def input_digests(
    composed: Composed, plan: Plan, store: Store, *, anew: bool = False
) -> dict[Path, str]:
    """Digests of all external files of a plan that are there; ``anew`` trusts no stamp.

    They are kept in the digest cache, so that a plan made after this knows its fingerprints; a
    store that cannot be written is a warning. `StageError` for a file that cannot be read.
    """
    paths = list(external_files(plan).values())
    paths += [path for path in (plan.calibration_text, template_file(composed)) if path]
    paths += evaluation.external_files(plan)
    paths = [path for path in paths if path.is_file()]
    cache = DigestCache(store.home)
    todo = [path for path in paths if anew or cache.lookup(path) is None]
    if todo:
        total = sum(path.stat().st_size for path in todo)
        with progress_bar("hash inputs", total, unit="bytes") as advance:
            try:
                cache.hash_files(todo, advance, anew=anew)
            except ArtifactError as error:
                logger.warning("the digests are not kept: %s", error)
    found = {path: cache.lookup(path) for path in paths}
    return {path: digest for path, digest in found.items() if digest is not None}


def current(composed: Composed, plan: Plan, digests: Mapping[Path, str]) -> Lock:
    """A lock of things as they are, but for what the stages built: their files are left out."""
    run = composed.run
    template = template_file(composed)
    return Lock(
        recipe=plan.recipe,
        overrides=composed.overrides,
        config=resolved(run),
        interpolations={item.key: item.text for item in composed.interpolations},
        sources={
            f"{'recipes' if file.kind == 'recipe' else 'configs'}/{file.name}.yaml": file.digest
            for file in composed.files
        },
        model=LockedModel(
            name=_model_name(composed, plan),
            kind=plan.model_kind.value,
            files=_model_files(plan, digests),
            chat_template=None if template is None else digests.get(template),
        ),
        calibration=_text(composed, plan, digests),
        stages={
            stage.name: LockedStage(
                stage.code_version, stage.fingerprint or UNKNOWN, stage.numeric_class, {}
            )
            for stage in plan.stages
        },
        engine=engine(),
        packages=packages(),
        evaluation=evaluation.external_inputs(plan),
    )


def gather(composed: Composed, plan: Plan, store: Store) -> Lock:
    """The lock of a plan whose artifacts are all there; `PlanError` names those that are not."""
    now = current(composed, plan, input_digests(composed, plan, store))
    absent = unbuilt(plan, store)
    if absent:
        raise PlanError(
            f"lock: {listed(absent, 'and')} {'is' if len(absent) == 1 else 'are'} not built, and a"
            " lock holds what was built. Leave out --no-build, and `lmrun lock` builds first."
        )
    stages = dict(now.stages)
    for artifact in artifacts(plan, store):
        fields, files = artifact.manifest.fields, artifact.manifest.files
        stages[fields.stage] = replace(
            stages[fields.stage], files={name: record.sha256 for name, record in files.items()}
        )
    return replace(now, stages=stages, quality=_quality(plan))


def _quality(plan: Plan) -> dict[str, Any]:
    """The figures, and whether each bound is kept."""
    if plan.quality is None:
        return {}
    figures = gate.figures(plan.quality)
    return {
        "figures": {name: rounded(value) for name, value in figures.items()},
        "gates": {one.key: "passed" if one.passed else "failed" for one in plan.gates},
    }


def artifacts(plan: Plan, store: Store) -> list[Artifact]:
    """The artifacts of a plan that are in the store."""
    found = (store.find(one.name, one.fingerprint) for one in plan.stages if one.fingerprint)
    return [artifact for artifact in found if artifact is not None]


def unbuilt(plan: Plan, store: Store) -> list[str]:
    """Stages without their artifact, those included that nothing else needs any more."""
    there = {artifact.manifest.fields.stage for artifact in artifacts(plan, store)}
    return [
        stage.name
        for stage in plan.stages
        if makes_artifact(plan, stage.name) and stage.name not in there
    ]


def artifact_drift(locked: Lock, store: Store, names: Sequence[str]) -> list[Drift]:
    """What the artifacts of these stages hold, as their manifests tell, against the lock."""
    found: list[Drift] = []
    for name in names:
        stage = locked.stages[name]
        artifact = store.find(name, stage.fingerprint)
        if artifact is not None:
            files = {file: record.sha256 for file, record in artifact.manifest.files.items()}
            found += drifts.files_drift(name, stage, files)
    return found


@dataclass(frozen=True)
class Locked:
    """Holds a deployment to a lock file."""

    path: Path
    lock: Lock
    composed: Composed
    store: Store

    def check_inputs(self, plan: Plan) -> Plan:
        """`DriftError` unless a build of this plan is that of the lock. Hashes what is not known.

        Returns the plan, made again where files had to be hashed.
        """
        digests = input_digests(self.composed, plan, self.store)
        if plan.unhashed:
            plan = make_plan(self.composed, self.store)
        self._refuse(self._inputs(plan, digests), "nothing was built")
        return plan

    def check_built(self, plan: Plan) -> None:
        """`DriftError` unless the artifacts of a built plan have the bytes of the lock."""
        digests = input_digests(self.composed, plan, self.store)
        found = self._inputs(plan, digests)
        found = found or artifact_drift(self.lock, self.store, list(self.lock.stages))
        self._refuse(found, "nothing is launched")

    def _inputs(self, plan: Plan, digests: Mapping[Path, str]) -> list[Drift]:
        now = current(self.composed, plan, digests)
        if plan.hub is not None and plan.hub.missing:
            files = {name: self.lock.model.files.get(name, "") for name in plan.hub.missing}
            now = replace(now, model=replace(now.model, files={**now.model.files, **files}))
        return drifts.inputs_drift(self.lock, now, self.composed.origins)

    def _refuse(self, found: list[Drift], consequence: str) -> None:
        if found:
            raise DriftError(
                f"--locked: {drifts.counted(found)} since {self.path}; {consequence}.\n"
                f"{drifts.drift_text(found)}"
            )


def from_flag(value: str | None, composed: Composed, store: Store) -> Locked | None:
    """What `--locked` asks for: the recipe's own lock, or the file that is named.

    ``value`` is None where the flag is not given, and empty where it names no file.
    """
    if value is None:
        return None
    recipe = composed.recipe.name if composed.recipe else None
    path = Path(value) if value else default_path(recipe, "--locked", "Name it: --locked=FILE")
    return Locked(path, read(path), composed, store)


def overrides_of(value: str | None, overrides: Sequence[str]) -> list[str]:
    """The overrides that are given; where `--locked=FILE` stands alone, those of the lock."""
    return list(overrides) or (list(read(Path(value)).overrides) if value else [])


def makes_artifact(plan: Plan, stage: str) -> bool:
    """Whether this stage is there and makes an artifact; `resolve` of a checkpoint makes none."""
    if plan.stage(stage) is None:
        return False
    return stage != "resolve" or plan.model_kind is ModelKind.builtin


def _model_name(composed: Composed, plan: Plan) -> str:
    if plan.hub is not None:
        return f"{plan.hub.hub_id}@{plan.hub.commit}"
    return composed.run.model.path or plan.model_path


def _model_files(plan: Plan, digests: Mapping[Path, str]) -> dict[str, str]:
    resolve = plan.stage("resolve")
    if plan.model_kind is ModelKind.builtin and resolve is not None:
        return {name: digest for name, digest in resolve.inputs.items() if digest is not None}
    files = external_files(plan)
    return {name: digests[path] for name, path in files.items() if path in digests}


def _text(composed: Composed, plan: Plan, digests: Mapping[Path, str]) -> LockedText | None:
    if not any("text" in stage.inputs for stage in plan.stages):
        return None
    data, path = composed.run.calibration.data, plan.calibration_text
    return LockedText(data, sample_text_digest() if path is None else digests[path])


def engine() -> dict[str, str]:
    """Build, compiler and version of the engine that is installed."""
    info = import_module("lmrun._engine").build_info()
    return {name: info[name] for name in ("build", "compiler", "version")}


def packages() -> dict[str, str]:
    """Versions of lmrun, of Python (its minor version) and of `PACKAGES`."""
    found = {"lmrun": __version__, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for package in PACKAGES:
        found[package] = metadata.version(package)
    return found
