"""`lmrun up`: build what is missing, launch, serve, stay in the foreground."""

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.supervisor import UpOptions, up
from lmrun.errors import ExitStatus, UsageError

FLAGS = {"--verify": True}


def run(argv: list[str]) -> ExitStatus:
    """Deploy the overrides in ``argv`` until a signal; `--verify=full` hashes artifacts first."""
    given, overrides = flags.split(argv, FLAGS)
    if given.get("--verify", "full") != "full":
        raise UsageError(f"--verify: expected full, got {given['--verify']!r}.")
    composed = compose(overrides)
    with located(composed):
        options = UpOptions(verify_first="--verify" in given)
        return up(composed, Store(env.home()), options)
