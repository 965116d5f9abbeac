"""`lmrun explain`: which file or override set a value, and what it beat."""

import sys

from lmrun.cli import flags
from lmrun.cli.output import as_json
from lmrun.config import compose, explain
from lmrun.errors import ExitStatus, UsageError
from lmrun.plan.effects import effect

FLAGS = {"--all": False, "--json": False}


def run(argv: list[str]) -> ExitStatus:
    """Explain the bare words in ``argv``, keys or groups, with its overrides; `--all` every key."""
    given, words = flags.split(argv, FLAGS)
    names, overrides = flags.parted(words)
    if not names and "--all" not in given:
        raise UsageError("explain: expected a key such as kv.bits, a group such as kv, or --all.")
    if names and "--all" in given:
        raise UsageError(f"--all: explains every key. Leave out {' '.join(names)}, or --all.")
    explain.check(names)
    composed = compose(overrides)
    if "--json" in given:
        sys.stdout.write(as_json(explain.document(composed, names, effect)))
    else:
        sys.stdout.write(explain.text(composed, names, effect) + "\n")
    return ExitStatus.OK
