"""Runs the offline stages of a plan: `build` here, or this module as a child process.

    python -m lmrun.stages.runner [STAGE]    plan (JSON) on stdin; last line of stdout:
                                             {"workspace": PATH}, the folder of STAGE's artifact

The child keeps torch out of the process that supervises. Errors meant for the user go to stderr as
one message, with their exit status.
"""

import ctypes
import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import msgspec

from lmrun import __version__, env, events, log
from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import RESUME, Artifact, Store
from lmrun.artifacts.uses import Use, using
from lmrun.config import RunConfig
from lmrun.engine.process import die_with_parent
from lmrun.errors import ExitStatus, LmrunError, StageError
from lmrun.plan import evaluation
from lmrun.plan.machine import this_machine
from lmrun.plan.plan import ModelKind, Plan, StagePlan, check_runnable
from lmrun.plan.planner import plan_run
from lmrun.plan.stage_specs import BY_NAME, EVALUATE, JUDGING
from lmrun.plan.why import CHECKPOINT
from lmrun.stages import evaluating, resolve
from lmrun.stages.context import StageContext, StageResult

MODULES = {
    "resolve": "lmrun.stages.resolve",
    "prune": "lmrun.stages.prune",
    "calibrate": "lmrun.stages.calibrate",
    "quantize": "lmrun.stages.quantize",
    "convert": "lmrun.stages.convert",
    "baseline": "lmrun.stages.baseline",
    "evaluate": "lmrun.stages.evaluate",
}
"""Stage → module whose ``run(context)`` implements it; loaded when the stage runs, since those
that compute bring torch."""
PACKAGES = ("lmrun", "numpy", "safetensors", "tokenizers", "torch")
"""Packages whose versions a manifest records."""
GOAL = "convert"
"""The stage whose artifact the engine needs."""
ALL = "evaluate"
"""The goal of a deployment: the workspace, and its quality where the recipe asks for that."""
MATH_SWITCHES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)
"""Environment variables by which torch's libraries choose other arithmetic than that of the
numeric class; the child forgets them."""

CUBLAS_SWITCH = "CUBLAS_WORKSPACE_CONFIG"
MALLOC_OPTIONS = {
    "M_MMAP_THRESHOLD": (-3, 1 << 25),
    "M_TRIM_THRESHOLD": (-1, (1 << 31) - 1),
    "M_ARENA_MAX": (-8, 1),
}
"""glibc's options, as malloc.h numbers them, and their values."""

_log = log.get("lmrun.stages.runner")  # __name__ is __main__ in the child


def build(plan: Plan, store: Store, threads: int | None = None, goal: str = GOAL) -> Path:
    """Run what is missing for the workspace of a plan; return its folder.

    With the goal `ALL` its quality is evaluated too, where the recipe asks for it. Another
    ``goal`` is a stage whose artifact is wanted instead: what it needs is run, no more.

    Where files are not hashed yet, they are, and the plan is made once more. A stage runs only if
    something that must be built reads its output. ``threads`` is how many tasks may run at once
    (default: the cores of this machine). Raises `StageError` and `ArtifactError`.
    """
    check_runnable(plan)
    is_workspace = plan.model_kind is ModelKind.workspace
    if is_workspace and (goal == GOAL or not plan.stages):
        assert plan.workspace is not None
        return plan.workspace
    commit = plan.hub.commit if plan.hub else None
    dataset = plan.calibration_dataset
    lacks_text = dataset is not None and dataset.is_missing
    if plan.unhashed or (plan.hub and plan.hub.missing) or lacks_text:
        if plan.hub:
            # huggingface_hub is imported where a model comes from the hub alone
            from_hub = import_module("lmrun.stages.from_hub")
            from_hub.download(plan, store.home)
        if lacks_text:
            import_module("lmrun.stages.from_hub").download_text(plan, store.home)
        resolve.hash_inputs(store.home, plan.unhashed)
        run = msgspec.convert(plan.config, RunConfig)
        plan = plan_run(run, store, plan.recipe, commit=commit)
        moved = plan.calibration_dataset
        if moved is not None and moved.is_missing:
            raise StageError(
                f"{moved.hub_id}: {moved.revision} became another commit meanwhile. Run the command"
                " again."
            )
        if plan.unhashed:
            raise StageError(
                f"{plan.unhashed[0]}: it changes while it is read. Wait until it is complete."
            )
    builder = _Build(plan, store, threads or this_machine().cores)
    fingerprints = {stage.name: stage.fingerprint or "" for stage in plan.stages}
    with using(store.home, Use("build", fingerprints, recipe=plan.recipe)):
        if goal == ALL and any(stage.name in JUDGING for stage in plan.missing):
            evaluating.check_files(plan, builder.texts())
        if goal in (GOAL, ALL):
            for stage in plan.missing if goal == ALL else plan.missing_to_launch:
                builder.artifact(stage.name)
            if is_workspace:
                assert plan.workspace is not None
                return plan.workspace
            return builder.artifact(GOAL).path
        return builder.artifact(goal).path


@dataclass(frozen=True)
class _Build:
    """Makes the artifacts of one plan, each after those it reads."""

    plan: Plan
    store: Store
    threads: int

    def artifact(self, name: str) -> Artifact:
        """The artifact of a stage, built unless it is in the store."""
        stage = self._stage(name)
        assert stage.fingerprint is not None, "nothing is unhashed"
        found = self.store.find(name, stage.fingerprint)
        if found is not None:
            return found
        inputs = {earlier: self.artifact(earlier).path for earlier in self._reads(name)}
        try:
            artifact = self.store.build(
                name, stage.fingerprint, lambda partial: self._run(stage, inputs, partial)
            )
        except Exception as error:
            events.emit(events.StageFailed(name, str(error)))
            raise
        events.emit(events.StageFinished(name, stage.fingerprint, artifact.manifest.fields.seconds))
        return artifact

    def texts(self) -> Path:
        """The folder of tokenizer and chat template."""
        if self.plan.model_kind is ModelKind.builtin:
            return self.artifact("resolve").path
        found = self.plan.checkpoint or self.plan.workspace
        assert found is not None, "a model is a checkpoint or a workspace"
        return found

    def _stage(self, name: str) -> StagePlan:
        stage = self.plan.stage(name)
        if stage is None:
            raise StageError(f"{name}: expected this stage in the plan, got none.")
        return stage

    def _reads(self, name: str) -> list[str]:
        """Earlier stages whose artifacts a stage opens."""
        if name == "convert" and self.plan.stage("quantize") is not None:
            return ["quantize"]
        if name in JUDGING:
            read = ("calibrate", "convert", "baseline")
            return [one for one in read if one in self._stage(name).inputs]
        is_builtin = self.plan.model_kind is ModelKind.builtin
        return [
            earlier
            for earlier in self._stage(name).inputs
            if self.plan.stage(earlier) is not None and (earlier != "resolve" or is_builtin)
        ]

    def _run(self, stage: StagePlan, inputs: dict[str, Path], partial: Path) -> ManifestFields:
        context = StageContext(
            plan=self.plan,
            stage=stage,
            model=inputs.get("prune") or inputs.get("resolve") or self.plan.checkpoint,
            inputs=inputs,
            partial=partial,
            store=self.store,
            build=lambda plan: build(plan, self.store, self.threads),
            threads=self.threads,
        )
        _drop_leftovers(partial)
        fingerprint = partial.name.removeprefix(f"{stage.name}-")
        _log.info("%s: %s", stage.name, stage.why)
        events.emit(events.StageStarted(stage.name, fingerprint, stage.why))
        start = time.monotonic()
        with _arithmetic(stage):
            result: StageResult = import_module(MODULES[stage.name]).run(context)
        self._check_unchanged(stage.name)
        seconds = round(time.monotonic() - start, 3)
        for fallback in result.fallbacks:
            _log.warning("%s: %s", stage.name, fallback)
        _log.info("%s: done in %.1f s", stage.name, seconds)
        metrics: dict[str, Any] = dict(result.metrics)
        if result.fallbacks:
            metrics["fallbacks"] = list(result.fallbacks)
        if "resolve" in stage.inputs:
            metrics[CHECKPOINT] = dict(self._stage("resolve").inputs)
        return ManifestFields(
            stage=stage.name,
            code_version=stage.code_version,
            fingerprint=fingerprint,
            inputs={name: value for name, value in stage.inputs.items() if value is not None},
            config=stage.config,
            numeric_class=stage.numeric_class,
            seconds=seconds,
            versions=_versions(),
            metrics=metrics,
            model_name=self.plan.served_name,
        )

    def _check_unchanged(self, name: str) -> None:
        """Refuse an artifact of files that were replaced while the stage read them."""
        digests = DigestCache(self.store.home)
        for path, expected in self._outside(name):
            if digests.lookup(path) not in expected:
                raise StageError(
                    f"{path}: expected the file that was planned with, got one that changed"
                    " meanwhile. Run the command again."
                )

    def _outside(self, name: str) -> Iterator[tuple[Path, Collection[str | None]]]:
        """Files from outside that a stage may have read, with the digests they may have."""
        if self.plan.model_kind is not ModelKind.builtin and self.plan.checkpoint is not None:
            for file, digest in self._stage("resolve").inputs.items():
                yield self.plan.checkpoint / file, (digest,)
        if name in JUDGING:
            known = evaluation.external_inputs(self.plan).values()
            yield from ((path, known) for path in evaluation.external_files(self.plan))
        if name == EVALUATE.name and self.plan.model_kind is ModelKind.workspace:
            inputs = self._stage(name).inputs
            files = (Path(self.plan.model_path) / file for file in inputs)
            yield from ((path, (inputs[path.name],)) for path in files if path.is_file())


def _drop_leftovers(partial: Path) -> None:
    """Remove what a killed attempt left, but for the stage's own checkpoints."""
    for path in partial.iterdir():
        if path.name == RESUME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def _arithmetic(stage: StagePlan) -> Iterator[None]:
    """Torch with deterministic algorithms and one thread: `Workers` makes the parallelism.

    The engine's sums depend on no number of threads, and a stage that runs it needs no torch.
    """
    if stage.numeric_class is None or BY_NAME[stage.name].is_by_engine:
        yield
        return
    os.environ.setdefault(CUBLAS_SWITCH, ":4096:8")  # or cuBLAS is not deterministic
    torch = import_module("torch")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads what is not written
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def _versions() -> dict[str, str]:
    found = {"lmrun": __version__, "python": sys.version.split()[0]}
    for package in PACKAGES[1:]:
        found[package] = metadata.version(package)
    return found


def _keep_freed_memory() -> None:
    """Have glibc keep what was freed, up to 32 MiB a piece, in one arena for all threads.

    By its defaults each large temporary is mapped, zeroed and unmapped again: a tenth of the time
    of a forward pass. Another C library has no mallopt, or one that refuses.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in MALLOC_OPTIONS.values():
        mallopt(option, value)


def main() -> int:
    """Entry point of the child process; returns its exit status."""
    die_with_parent(os.getppid())
    for name in MATH_SWITCHES:
        os.environ.pop(name, None)
    os.environ["OMP_NUM_THREADS"] = "1"
    _keep_freed_memory()
    log.setup()
    try:
        plan = Plan.from_json(json.load(sys.stdin))
        workspace = build(plan, Store(env.home()), goal=sys.argv[1] if sys.argv[1:] else GOAL)
    except LmrunError as error:
        if log.is_json():
            _log.error("%s", error)
        else:
            sys.stderr.write(f"{error}\n")
        return int(error.status)
    sys.stdout.write(json.dumps({"workspace": str(workspace)}) + "\n")
    return int(ExitStatus.OK)


if __name__ == "__main__":
    sys.exit(main())
