"""`-m`: a sweep over any keys. Every point is planned first, then built, evaluated and timed."""

import sys
from collections.abc import Mapping, Sequence

from lmrun import env, log
from lmrun.artifacts.store import Store
from lmrun.cli import flags, summary, sweep
from lmrun.cli.output import as_json
from lmrun.errors import ExitStatus, UsageError
from lmrun.sweep import plan_table, running
from lmrun.sweep.conclusion import conclude
from lmrun.sweep.rows import Status, Sweep
from lmrun.sweep.table import headline, text

VERBS = ("up", "build", "eval", "bench", "plan")
_MULTIRUN: dict[str, bool | None] = {"-m": False, "--multirun": False}

logger = log.get(__name__)


def run(argv: list[str]) -> ExitStatus:
    """Run the sweep of the overrides behind the verb, which is the first word.

    Status 10 where a point failed; with `build` a failed gate counts as that.
    """
    verb, words = argv[0], argv[1:]
    if verb not in VERBS:
        raise UsageError(f"{verb} -m: no sweep goes over this verb. Verbs: {', '.join(VERBS)}.")
    if any(word.partition("=")[0] in ("--cfg", "-c") for word in words):
        raise UsageError("--cfg: shows the settings of one point. Leave out -m, or --cfg.")
    if verb == "plan":
        return _plan(words)
    given, overrides = flags.split(words, {**_MULTIRUN, **sweep.SHOW, "--overlap": False})
    _check(verb, given, overrides)
    store = Store(env.home())
    request = running.Request(
        verb=verb,
        words=tuple(overrides),
        command=_command(verb, given, overrides),
        overlap="--overlap" in given,
    )
    looked = running.look(request, store)
    found = running.run(request, looked, store)
    conclusion = conclude(found)
    sys.stderr.flush()
    status = _status(found)
    if conclusion.entries:
        summary.text(f"lmrun {verb} -m", text(conclusion))
        sweep.present(conclusion, given)
    else:
        logger.error("%s", headline(conclusion))
    return status


def _plan(words: list[str]) -> ExitStatus:
    given, overrides = flags.split(words, {**_MULTIRUN, "--json": False})
    _check_are_settings("plan", overrides)
    request = running.Request("plan", tuple(overrides), _command("plan", given, overrides))
    planned = running.look(request, Store(env.home())).planned
    shown = plan_table.table(planned)
    sys.stdout.write(as_json(plan_table.document(planned)) if "--json" in given else shown)
    summary.text("lmrun plan -m", shown)
    return ExitStatus.OK


def _check(verb: str, given: Mapping[str, str], overrides: Sequence[str]) -> None:
    """What would be found wrong after hours is found now."""
    _check_are_settings(verb, overrides)
    sweep.check_show(given)
    if "--overlap" in given and verb not in ("up", "bench"):
        raise UsageError(f"--overlap: is about timing, and {verb} -m times nothing.")


def _check_are_settings(verb: str, overrides: Sequence[str]) -> None:
    bare, _ = flags.parted(overrides)
    if bare:
        raise UsageError(f"{verb} -m: expected settings alone, got {bare[0]!r}.")


def _command(verb: str, given: Mapping[str, str], overrides: Sequence[str]) -> tuple[str, ...]:
    """The words that run the same sweep again."""
    verbs = () if verb == "up" else (verb,)
    flagged = ("--overlap",) if "--overlap" in given else ()
    return (*verbs, "-m", *overrides, *flagged)


def _status(found: Sweep) -> ExitStatus:
    failing = [Status.failed, Status.waiting]
    if found.verb == "build":
        failing.append(Status.gate_failed)
    if any(found.of_status(status) for status in failing):
        return ExitStatus.SWEEP_PARTLY_FAILED
    return ExitStatus.OK
