"""The command ``lmrun``: finds the verb, loads its module, maps errors to exit statuses."""

import gc
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from lmrun import __version__, events, log
from lmrun.cli import help as texts
from lmrun.cli import output, reporting
from lmrun.errors import ExitStatus, LmrunError, PlanError, UsageError

logger = log.get("lmrun.cli.main")  # __name__ is __main__ when run with -m

VERBS = {
    "up": "lmrun.cli.up:run",
    "plan": "lmrun.cli.plan:run",
    "build": "lmrun.cli.build:run",
    "lock": "lmrun.cli.lock:run",
    "verify": "lmrun.cli.verify:run",
    "explain": "lmrun.cli.explain:run",
    "diff": "lmrun.cli.diff:run",
    "eval": "lmrun.cli.eval:run",
    "bench": "lmrun.cli.bench:run",
    "report": "lmrun.cli.report:run",
    "sweep": "lmrun.cli.sweep:run",
    "chat": "lmrun.cli.chat:run",
    "new": "lmrun.cli.new:run",
    "list": "lmrun.cli.list:run",
    "export": "lmrun.cli.export:run",
    "store": "lmrun.cli.store:run",
    "schema": "lmrun.cli.schema:run",
    "doctor": "lmrun.cli.doctor:run",
    "completion": "lmrun.cli.completion:run",
}
"""Verb → ``module:function``, loaded late; the function takes the words after the verb."""

PLANNED = (
    "down",
    "logs",
    "status",
)
"""Verbs of the design that do not exist yet."""

_OTHER_WORDS = {"serve": "up", "run": "up", "start": "up", "launch": "up", "stop": "down"}
"""What other tools call a verb."""

MULTIRUN = ("-m", "--multirun")
_COMPOSING = ("up", "plan", "build")
TAKE_A_VALUE = (
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--verify",
    "--junit",
    "--url",
    "--api-key",
    "--system",
    "--temperature",
    "--max-tokens",
    "--output",
    "--older-than",
    "--since",
    "--runs",
    "--model",
    "--revision",
    "--csv",
    "--html",
    "--choose",
    "--write-recipe",
    "--methods",
    "--peers",
    "--shape",
    "--layers",
    "--samples",
    "--seq-len",
    "--group-size",
    "--rounds",
    "--keep",
    "--models",
    "--group-sizes",
    "--text",
    "--calibration",
    "--preset",
    "--window",
    "--kl-tokens",
    "--kv-bits",
    "--activation-bits",
    "--isa",
    "--threads",
    "--batches",
    "--contexts",
    "--prefill",
    "--trace",
    "--requests",
    "--trace-speedup",
    "--against",
    "--gguf",
    "--install-peers",
)
"""Flags whose value must not be taken for the verb."""


def main() -> NoReturn:
    """Entry point of the console script."""
    gc.set_threshold(50_000, 20, 50)  # imports make many objects, and none of them is garbage
    output.settle()
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> ExitStatus:
    """Run one command; an error meant for the user becomes one message on stderr."""
    status = ExitStatus.BUG
    try:
        status = _dispatch(list(argv))
        sys.stdout.flush()
    except LmrunError as error:
        status = error.status
        if not (isinstance(error, output.Lost) and error.is_left):
            _say(str(error))
        _emit_error(error, status)
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
        if not log.is_json():
            sys.stderr.write("\n")
        _say("interrupted")
    except Exception as error:
        problem = output.of_a_file(error)
        if problem is not None:
            status = ExitStatus.STAGE_FAILED
            _say(problem)
            _emit_error(error, status)
            return status
        _emit_error(error, status)
        if not log.is_json():
            raise
        logger.exception("a bug in lmrun: %s", error)
    finally:
        events.emit(events.CommandFinished(status))
        events.close()
    return status


def _say(message: str) -> None:
    if log.is_json():
        logger.error("%s", message)
    else:
        sys.stderr.write(f"lmrun: {message}\n")


def _emit_error(error: Exception, status: ExitStatus) -> None:
    events.emit(events.Error(type(error).__name__, str(error), status))


def _dispatch(argv: list[str]) -> ExitStatus:
    if not argv:
        sys.stdout.write(texts.SHORT)
        return ExitStatus.OK
    how, argv = reporting.take(argv, TAKE_A_VALUE)
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    if "--help" in argv or "-h" in argv:
        verb, _ = _verb(argv)
        sys.stdout.write(texts.VERBS[verb] if verb in argv else texts.FULL)
        return ExitStatus.OK
    how.apply()
    verb, rest = _verb(argv)
    if "--version" in rest:
        return _load("lmrun.cli.version:run")(rest)
    _refuse_hydra_flags(rest)
    events.emit(events.CommandStarted(verb, __version__))
    if any(word.partition("=")[0] in MULTIRUN for word in rest):
        return _load("lmrun.cli.multirun:run")([verb, *rest])
    if verb in _COMPOSING and any(word.partition("=")[0] in ("--cfg", "-c") for word in rest):
        return _load("lmrun.cli.show_config:run")(rest)
    return _load(VERBS[verb])(rest)


def _load(target: str) -> Callable[[list[str]], ExitStatus]:
    module, _, name = target.partition(":")
    function: Callable[[list[str]], ExitStatus] = getattr(import_module(module), name)
    return function


def _verb(argv: list[str]) -> tuple[str, list[str]]:
    """The verb, which is the first bare word, and the words without it."""
    before = ""
    for index, word in enumerate(argv):
        if _is_bare(word) and before not in TAKE_A_VALUE:
            _check_verb(word)
            return word, argv[:index] + argv[index + 1 :]
        before = word
    return "up", argv


def _is_bare(word: str) -> bool:
    """True for a word that can be neither a flag nor an override."""
    return "=" not in word and not word.startswith(("-", "+", "~"))


def _check_verb(word: str) -> None:
    if word in VERBS:
        return
    if word in PLANNED:
        raise PlanError(f"{word}: not built yet. Verbs that are: {', '.join(VERBS)}.")
    near = _OTHER_WORDS.get(word) or next(
        iter(get_close_matches(word, [*VERBS, *PLANNED], 1)), None
    )
    advice = f"Did you mean {near}?" if near else f"Verbs: {', '.join(VERBS)}."
    raise UsageError(f"{word}: no such verb. {advice}")


def _refuse_hydra_flags(argv: Sequence[str]) -> None:
    names = [word.partition("=")[0] for word in argv]
    if "--info" in names or "-i" in names:
        raise PlanError("--info: not built yet. `--cfg job` prints the composed settings.")
    if "--experimental-rerun" in names:
        raise UsageError(
            "--experimental-rerun: refused, it would run code from a file. Give the overrides."
        )


if __name__ == "__main__":
    main()
