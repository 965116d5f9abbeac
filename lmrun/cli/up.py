"""`lmrun up`: build what is missing, launch, serve, stay in the foreground."""

import asyncio
from importlib import import_module

from lmrun.cli import flags
from lmrun.deploy.early import Early
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

    async def main() -> ExitStatus:
        async with Early() as early:
            # Late: what serves imports meanwhile.
            status: ExitStatus = await import_module("lmrun.cli.deploying").deploy(
                given, overrides, early
            )
            return status

    return asyncio.run(main())
