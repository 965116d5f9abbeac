"""`lmrun build`: the offline stages only."""

import sys

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.building import build
from lmrun.deploy.locking import from_flag
from lmrun.errors import ExitStatus

FLAGS: dict[str, bool | None] = {"--locked": None}


def run(argv: list[str]) -> ExitStatus:
    """Run the missing stages of the overrides in ``argv``; stdout gets the workspace folder.

    `--locked` refuses (7) anything else than the recipe's lock, or the lock `--locked=FILE`.
    """
    given, overrides = flags.split(argv, FLAGS)
    composed = compose(overrides)
    store = Store(env.home())
    with located(composed):
        plan = build(composed, store, locked=from_flag(given.get("--locked"), composed, store))
    sys.stdout.write(f"{plan.workspace}\n")
    return ExitStatus.OK
