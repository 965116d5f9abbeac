"""`lmrun build`: the offline stages only."""

import sys

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.building import build
from lmrun.errors import ExitStatus

FLAGS: dict[str, bool] = {}


def run(argv: list[str]) -> ExitStatus:
    """Run the missing stages of the overrides in ``argv``; stdout gets the workspace folder."""
    _, overrides = flags.split(argv, FLAGS)
    composed = compose(overrides)
    with located(composed):
        plan = build(composed, Store(env.home()))
    sys.stdout.write(f"{plan.workspace}\n")
    return ExitStatus.OK
