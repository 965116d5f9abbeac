"""`lmrun up`: build what is missing, launch, serve, stay in the foreground."""

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.locking import from_flag, overrides_of
from lmrun.deploy.supervisor import UpOptions, up
from lmrun.errors import ExitStatus, UsageError

FLAGS = {"--verify": True, "--locked": None}


def run(argv: list[str]) -> ExitStatus:
    """Deploy the overrides in ``argv`` until a signal; `--verify=full` hashes artifacts first.

    `--locked` refuses (7) anything else than the recipe's lock, or the lock `--locked=FILE`.
    """
    given, overrides = flags.split(argv, FLAGS)
    if given.get("--verify", "full") != "full":
        raise UsageError(f"--verify: expected full, got {given['--verify']!r}.")
    composed = compose(overrides_of(given.get("--locked"), overrides))
    store = Store(env.home())
    with located(composed):
        locked = from_flag(given.get("--locked"), composed, store)
        options = UpOptions(verify_first="--verify" in given, locked=locked)
        return up(composed, store, options)
