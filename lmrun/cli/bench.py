"""`lmrun bench`: speed. `startup` is built: CPU time of the verbs that only look."""

import json
import sys

from lmrun.bench import startup
from lmrun.cli import flags
from lmrun.config import compose
from lmrun.errors import ExitStatus, PlanError, UsageError

FLAGS = {"--runs": True, "--json": False}
STARTUP = "startup"
DEFAULT_OVERRIDES = ("+recipe=w4a16_kv4_server",)
DEFAULT_RUNS = 5
MOST_RUNS = 1000


def run(argv: list[str]) -> ExitStatus:
    """Time the start of `--help`, `list`, `explain`, `plan` and `diff` of the overrides."""
    given, words = flags.split(argv, FLAGS)
    names, overrides = flags.parted(words)
    if not names:
        raise UsageError("bench: expected what to time, got nothing. Write lmrun bench startup.")
    if names != [STARTUP]:
        raise PlanError(f"bench {' '.join(names)}: not built yet. lmrun bench startup is.")
    overrides = overrides or list(DEFAULT_OVERRIDES)
    compose(overrides)  # what is not legal is refused here, in its own words
    runs = _runs(given.get("--runs", str(DEFAULT_RUNS)))
    results = [startup.measure(command, runs) for command in startup.commands(overrides)]
    if "--json" not in given:
        sys.stdout.write(startup.text(results, runs) + "\n")
    sys.stdout.write(json.dumps(startup.document(results, runs)) + "\n")
    return ExitStatus.OK


def _runs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_RUNS:
        raise UsageError(f"--runs: expected a number from 1 to {MOST_RUNS}, got {text!r}.")
    return int(text)
