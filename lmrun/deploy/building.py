"""From a composed run config to a plan whose workspace is there.

The missing stages run in a child, so that torch never enters this process.
"""

import asyncio
import json
import sys
from pathlib import Path

from lmrun import log
from lmrun.artifacts.store import Artifact, Store
from lmrun.artifacts.uses import Use, using
from lmrun.config import Composed
from lmrun.config.located import with_origin
from lmrun.deploy.locking import Locked
from lmrun.deploy.process import Children
from lmrun.deploy.stopping import Stop, StoppedError, in_daemon_thread
from lmrun.errors import (
    ArtifactError,
    ExitStatus,
    GateError,
    LmrunError,
    StageError,
)
from lmrun.evals import junit
from lmrun.models.text_files import check_text_files
from lmrun.plan import gate, planned, quality
from lmrun.plan.plan import ModelKind, Plan, check_runnable
from lmrun.plan.planner import make_plan
from lmrun.plan.quality_text import quality_lines
from lmrun.plan.text import plan_text

logger = log.get(__name__)

RUNNER = "lmrun.stages.runner"
WORKSPACE_STAGE = "convert"
ALL = "evaluate"
"""The goal of a deployment: its workspace, and its quality where the recipe asks for that."""
RANDOM_WEIGHTS = "random weights: the text will be noise; choose a model with model.path=..."


class Builder:
    """Makes plans of one run config and brings about what they need."""

    def __init__(
        self,
        composed: Composed,
        store: Store,
        children: Children,
        stop: Stop,
        locked: Locked | None = None,
    ) -> None:
        self._composed = composed
        self._store = store
        self._children = children
        self._stop = stop
        self._locked = locked
        self._commit: str | None = None

    def plan(self) -> Plan:
        """The plan as things are now. Raises `PlanError`, also for one that is only priced.

        A revision of the hub stays what it was when this was first called.
        """
        plan = make_plan(self._composed, self._store, commit=self._commit)
        self._commit = plan.hub.commit if plan.hub else None
        check_runnable(plan)
        return plan

    async def built(self, plan: Plan, goal: str = WORKSPACE_STAGE) -> Plan:
        """Run what is missing for the workspace; the plan again, now that it is there.

        With `ALL` its quality is evaluated, too, where the recipe asks for it: see `check_gate`.
        Another ``goal`` is a stage whose artifact is wanted instead. Raises the error of a stage,
        with its exit status, and `StoppedError`; `DriftError` where a lock holds the build and
        something is not as it says.
        """
        locked = self._locked
        if locked is None:
            return await self._run(plan, goal)
        held = await self._stop.or_result(in_daemon_thread(lambda: locked.check_inputs(plan)))
        built = await self._run(held, goal)
        await self._stop.or_result(in_daemon_thread(lambda: locked.check_built(built)))
        return built

    async def _run(self, plan: Plan, goal: str) -> Plan:
        if self._has(plan, goal):
            return plan
        await self._run_stages(plan, goal)
        plan = self.plan()
        if not self._has(plan, goal):  # `store gc` took it when the stages let go of it
            fingerprints = {stage.name: stage.fingerprint or "" for stage in plan.stages}
            with using(self._store.home, Use("build", fingerprints, recipe=plan.recipe)):
                plan = self.plan()
                if not self._has(plan, goal):
                    await self._run_stages(plan, goal)
                plan = self.plan()
        if not self._has(plan, goal):
            what = "workspace" if goal in (WORKSPACE_STAGE, ALL) else f"artifact of {goal}"
            raise StageError(f"build: the stages ended well, and there is no {what}.")
        return plan

    async def _run_stages(self, plan: Plan, goal: str) -> None:
        """Run a plan's stages in a child; the error of the one that fails."""
        document = json.dumps(plan.to_json()).encode() + b"\n"
        child = await self._children.spawn(
            "stages", RUNNER, document, arguments=(goal,), own_terminal=True
        )
        status = await self._stop.or_result(child.wait())
        if status != ExitStatus.OK:
            raise _failure(status, child.explain_end())

    def _has(self, plan: Plan, goal: str) -> bool:
        """Whether nothing is left to run for the goal. For a workspace, a stage that nothing reads
        any more counts as cached; a damaged one does not."""
        if goal == WORKSPACE_STAGE:
            return not plan.missing_to_launch
        if goal == ALL:
            return not plan.missing
        stage = plan.stage(goal)
        if stage is None or stage.fingerprint is None:
            return False
        return self._store.find(goal, stage.fingerprint) is not None

    def check_gate(self, plan: Plan, results: Path | None = None) -> None:
        """`check_gate` of this deployment."""
        check_gate(self._composed, plan, self._store, results)

    async def still_built(self, plan: Plan) -> Plan:
        """The plan, its workspace built again if `store gc` took it before the use was noted."""
        convert = plan.stage("convert")
        if convert is None or convert.fingerprint is None:
            return plan
        if self._store.find(convert.name, convert.fingerprint) is not None:
            return plan
        return await self.built(self.plan(), ALL)

    async def verified(self, plan: Plan) -> Plan:
        """Hash every cached artifact of the plan; a new plan in which the damaged are missing."""
        logger.info("hashing the artifacts")
        artifacts = self.cached(plan)
        problems = await self._stop.or_result(
            in_daemon_thread(lambda: _condemned(artifacts, self._store))
        )
        for problem in problems:
            logger.error("%s; it will be rebuilt", problem)
        return self.plan()

    def cached(self, plan: Plan) -> list[Artifact]:
        """Artifacts of the plan that are in the store."""
        found = (
            self._store.find(stage.name, stage.fingerprint)
            for stage in plan.stages
            if stage.fingerprint is not None
        )
        return [artifact for artifact in found if artifact is not None]


def show(plan: Plan, *, in_full: bool = True) -> None:
    """The plan on stderr, and what a person must know before the text surprises them.

    ``-q`` and JSON lines leave the plan out; the `Planned` event is sent in any case.
    """
    planned.emit(plan)
    if in_full and log.is_chatty():
        sys.stderr.write(plan_text(plan) + "\n\n")
        sys.stderr.flush()
    if plan.model_kind is ModelKind.builtin:
        logger.warning("%s", RANDOM_WEIGHTS)


def build(
    composed: Composed,
    store: Store,
    *,
    show_plan: bool = True,
    goal: str = WORKSPACE_STAGE,
    locked: Locked | None = None,
) -> Plan:
    """Build in the foreground; the plan of what was built. A signal is a `KeyboardInterrupt`.

    ``goal`` is what is wanted, as in `Builder.built`: the workspace alone, or `ALL`, after which
    `check_gate` decides. ``locked`` refuses anything else than a lock says.
    """

    async def main() -> Plan:
        children, stop = Children(), Stop()
        stop.listen()
        builder = Builder(composed, store, children, stop, locked)
        plan = builder.plan()
        check_text_files(plan.text_folder, plan.chat_template)
        show(plan, in_full=show_plan)
        try:
            return await builder.built(plan, goal)
        finally:
            await children.kill_all()

    try:
        return asyncio.run(main())
    except StoppedError:
        raise KeyboardInterrupt from None


def check_gate(composed: Composed, plan: Plan, store: Store, results: Path | None = None) -> None:
    """Emit the `Evaluated` event and write the file of ``results`` (JUnit XML); `GateError` unless
    every bound of the recipe is kept.

    The plan is one whose evaluation is there; one that evaluates nothing passes. The report stays
    in the store either way.
    """
    report = quality.path(plan, store)
    if report is None or plan.quality is None:
        return
    planned.emit_quality(plan, store)
    if results is not None:
        figures, table = gate.figures(plan.quality), "\n".join(quality_lines(plan))
        name = plan.recipe or plan.served_name
        junit.write(results, junit.document(name, plan.gates, figures, details=table))
    failed = gate.failed(plan.gates)
    if not failed:
        return
    lines = [with_origin(one.text, composed) for one in failed]
    nearest = quality.nearest_passing(plan, store, composed.run.evaluate)
    if nearest is not None:
        lines.append(f"Nearest setting that passed: {nearest.text}.")
    lines.append(f"The report is {report}.")
    raise GateError("\n".join(lines))


def _failure(status: int, end: str) -> LmrunError:
    """The error for a runner that ended with `status`; it has said the reason itself."""
    error = StageError(f"build: {end}.")
    if status in (ExitStatus.CONFIG, ExitStatus.REFUSED, ExitStatus.GATE_FAILED):
        error.status = ExitStatus(status)
    return error


def _condemned(artifacts: list[Artifact], store: Store) -> list[str]:
    """What is wrong with the artifacts, each marked as damaged."""
    problems = []
    for artifact in artifacts:
        try:
            store.verify(artifact)
        except ArtifactError as error:
            problems.append(str(error))
    return problems
