"""`lmrun export`: an artifact as a folder that the user owns."""

import sys
from pathlib import Path

from lmrun import env
from lmrun.artifacts import uses
from lmrun.artifacts.handover import check_target, hand_over
from lmrun.artifacts.store import Store
from lmrun.cli import flags
from lmrun.cli.planned_stage import check_has, fingerprint_of
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy import building
from lmrun.errors import ArtifactError, ExitStatus, UsageError
from lmrun.plan.plan import check_runnable
from lmrun.plan.planner import make_plan
from lmrun.plan.sizes import things

STAGES = ("prune", "quantize", "convert")
FLAGS = {"--link": False, "--no-build": False}
USAGE = "Write: lmrun export prune|quantize|convert DIR +recipe=NAME."


def run(argv: list[str]) -> ExitStatus:
    """Put the artifact of a stage into a folder; stdout gets the folder."""
    given, words = flags.split(argv, FLAGS)
    bare, overrides = flags.parted(words)
    if len(bare) != 2:
        raise UsageError(
            f"export: expected a stage and a folder, got {things(len(bare), 'word')}. {USAGE}"
        )
    stage, folder = bare[0], Path(bare[1]).expanduser()
    if stage not in STAGES:
        raise UsageError(f"export: {stage}: expected prune, quantize or convert. {USAGE}")
    check_target(folder, stage)
    store = Store(env.home())
    composed = compose(overrides)
    with located(composed):
        plan = make_plan(composed, store)
        check_runnable(plan)
        check_has(plan, stage)
        if "--no-build" not in given:
            plan = building.build(composed, store, goal=stage)
    fingerprint = fingerprint_of(plan, stage)
    with uses.using(store.home, uses.Use("export", {stage: fingerprint})):
        look = store.look(stage, fingerprint)
        if look.artifact is None:
            raise ArtifactError(_missing(stage, fingerprint, look.problem))
        hand_over(look.artifact, folder, model_name=plan.served_name, link="--link" in given)
    sys.stdout.write(f"{folder}\n")
    return ExitStatus.OK


def _missing(stage: str, fingerprint: str, problem: str | None) -> str:
    what = "is not in the store" if problem is None else f"is damaged ({problem})"
    return f"{stage} {fingerprint[:12]} {what}. `lmrun build` with the same settings makes it."
