"""`lmrun plan`: what would run, what it costs, and whether it fits. Writes nothing."""

import json
import sys

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags, summary
from lmrun.config import compose
from lmrun.errors import ExitStatus
from lmrun.plan import planned
from lmrun.plan.planner import make_plan
from lmrun.plan.text import plan_text


def run(argv: list[str]) -> ExitStatus:
    """Print the plan of the overrides in ``argv``; `--json` prints it as one JSON document."""
    given, overrides = flags.split(argv, {"--json": False})
    composed = compose(overrides)
    plan = make_plan(composed, Store(env.home()))
    planned.emit(plan)
    text = json.dumps(plan.to_json(), indent=1) if "--json" in given else plan_text(plan)
    sys.stdout.write(text + "\n")
    summary.text("lmrun plan", plan_text(plan))
    return ExitStatus.OK
