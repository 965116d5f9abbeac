"""`lmrun build`: the offline stages only."""

import sys

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import files, flags, summary
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.building import ALL, build, check_gate
from lmrun.deploy.locking import from_flag, overrides_of
from lmrun.errors import ExitStatus
from lmrun.plan.plan import Plan
from lmrun.plan.sizes import show_bytes

FLAGS: dict[str, bool | None] = {"--locked": None, "--junit": True}


def run(argv: list[str]) -> ExitStatus:
    """Run the missing stages of the overrides in ``argv``; stdout gets the workspace folder.

    `--locked` refuses (7) anything else than the recipe's lock, or the lock `--locked=FILE`.
    `--junit FILE` gets what the quality gate found, which refuses (6) a bound that is not kept.
    """
    given, overrides = flags.split(argv, FLAGS)
    composed = compose(overrides_of(given.get("--locked"), overrides))
    results = files.of_results(given.get("--junit"), composed)
    store = Store(env.home())
    with located(composed):
        locked = from_flag(given.get("--locked"), composed, store)
        plan = build(composed, store, goal=ALL, locked=locked)
    sys.stdout.write(f"{plan.workspace}\n")
    summary.append(_summary(plan, store))
    check_gate(composed, plan, store, results)
    return ExitStatus.OK


def _summary(plan: Plan, store: Store) -> str:
    """Markdown: the artifacts that are there now."""
    lines = [f"### lmrun build: {plan.served_name}", "", "| stage | artifact | size | built in |"]
    lines.append("| --- | --- | ---: | ---: |")
    for stage in plan.stages:
        artifact = store.find(stage.name, stage.fingerprint) if stage.fingerprint else None
        if artifact is None:
            continue
        manifest = artifact.manifest
        size, seconds = show_bytes(manifest.num_bytes), f"{manifest.fields.seconds:.1f} s"
        lines.append(f"| {stage.name} | `{manifest.fingerprint[:12]}` | {size} | {seconds} |")
    return "\n".join(lines)
