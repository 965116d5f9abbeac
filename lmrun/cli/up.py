"""`lmrun up`: build what is missing, launch, serve, stay in the foreground."""

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import files, flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.locking import from_flag, overrides_of
from lmrun.deploy.supervisor import UpOptions, up
from lmrun.errors import ExitStatus, UsageError

FLAGS = {"--verify": True, "--locked": None, "--junit": True}


def run(argv: list[str]) -> ExitStatus:
    """Deploy the overrides in ``argv`` until a signal; `--verify=full` hashes artifacts first.

    `--junit FILE` gets what the quality gate found; where that fails (6) nothing is launched.
    `--locked` refuses (7) anything else than the recipe's lock, or the lock `--locked=FILE`.
    """
    given, overrides = flags.split(argv, FLAGS)
    if given.get("--verify", "full") != "full":
        raise UsageError(f"--verify: expected full, got {given['--verify']!r}.")
    composed = compose(overrides_of(given.get("--locked"), overrides))
    store = Store(env.home())
    with located(composed):
        locked = from_flag(given.get("--locked"), composed, store)
        results = files.of_results(given.get("--junit"), composed)
        options = UpOptions("--verify" in given, locked, results)
        return up(composed, store, options)
