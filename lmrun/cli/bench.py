"""`lmrun bench`: the speed of a deployment or of a server; `startup`: that of the verbs that only
look; `quantize` and `quality`: our quantizers beside others; `engine`: the engine alone."""

import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.bench import startup
from lmrun.cli import bench_engine, bench_quantizers, flags, server_flags
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.building import build
from lmrun.errors import ExitStatus, PlanError, StageError, UsageError
from lmrun.plan.planner import make_plan

FLAGS = {
    **{"--runs": True, "--json": False},
    **server_flags.FLAGS,
    **bench_quantizers.FLAGS,
    **bench_engine.FLAGS,
}
STARTUP = "startup"
DEFAULT_OVERRIDES = ("+recipe=w4a16_kv4_server",)
DEFAULT_RUNS = 5
MOST_RUNS = 1000
_BESIDE_A_URL = ("bench", "recipe")
"""Keys, of which a server that runs already takes the load."""


def run(argv: list[str]) -> ExitStatus:
    """Measure what the overrides deploy, or the server at `--url`; or the start of verbs.

    Status 5 where it ended early: what was measured is printed all the same.
    """
    given, words = flags.split(argv, FLAGS)
    names, overrides = flags.parted(words)
    if len(names) == 1 and names[0] in bench_quantizers.RUN:
        others = [one for one in FLAGS if one not in bench_quantizers.TAKEN[names[0]]]
        _refuse(given, others, "another bench")
        return bench_quantizers.RUN[names[0]](given, overrides)
    if names == [bench_engine.ENGINE]:
        _refuse(given, [one for one in FLAGS if one not in bench_engine.TAKEN], "another bench")
        with _stopped_as_by_ctrl_c():
            return bench_engine.run(given, overrides)
    for name in (*bench_quantizers.FLAGS, *bench_engine.FLAGS):
        _refuse(given, (name,), f"lmrun bench {_owner(name)}")
    if not names:
        _refuse(given, ("--runs",), "lmrun bench startup")
        return _serving(given, overrides)
    if names != [STARTUP]:
        legal = ", ".join((STARTUP, bench_engine.ENGINE, *bench_quantizers.RUN))
        raise PlanError(f"bench {' '.join(names)}: not built yet. Of these words, {legal} are.")
    _refuse(given, server_flags.FLAGS, "lmrun bench without that word")
    return _startup(given, overrides)


def _owner(flag: str) -> str:
    """The benches that take a flag."""
    owners = [name for name, taken in bench_quantizers.TAKEN.items() if flag in taken]
    return " or ".join([bench_engine.ENGINE] * (flag in bench_engine.TAKEN) + owners)


def _serving(given: dict[str, str], overrides: list[str]) -> ExitStatus:
    # what `startup` and `--help` do not need
    from lmrun.bench.alone import timed  # noqa: PLC0415
    from lmrun.bench.legal import check  # noqa: PLC0415
    from lmrun.bench.serving import measure  # noqa: PLC0415
    from lmrun.bench.serving_text import report_text  # noqa: PLC0415

    url = given.get("--url")
    if url is None:
        _refuse(given, ("--api-key",), "a server behind --url")
    else:
        server_flags.check_url(url)
        _refuse_settings(overrides)
    composed = compose(overrides)
    bench, key = composed.run.bench, server_flags.key_of(given)
    with located(composed):
        check(bench)
        plan = None
        if url is None:
            store = Store(env.home())
            check(bench, make_plan(composed, store).engine.context_length)
            plan = build(composed, store)
        with _stopped_as_by_ctrl_c(), timed("lmrun bench"):
            report = measure(plan, bench, url=url, api_key=key)
    if "--json" not in given:
        sys.stdout.write(report_text(report) + "\n\n")
    sys.stdout.write(json.dumps(report.to_json()) + "\n")
    if report.problem is not None:
        raise StageError(f"bench: {report.problem}")
    return ExitStatus.OK


@contextmanager
def _stopped_as_by_ctrl_c() -> Iterator[None]:
    """A SIGTERM ends the children too, and removes what they left."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_settings(overrides: list[str]) -> None:
    """A server that runs has its own settings; those of the load are the bench's."""
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0].partition(".")[0]
        if key not in _BESIDE_A_URL:
            raise UsageError(
                f"bench: --url and {word} exclude each other. The server has its own settings;"
                " bench=..., bench.KEY=... and a recipe that sets them may stand beside it."
            )


def _refuse(given: Mapping[str, str], names: Iterable[str], whose: str) -> None:
    for name in names:
        if name in given:
            raise UsageError(f"{name}: only {whose} takes it.")


def _startup(given: dict[str, str], overrides: list[str]) -> ExitStatus:
    """CPU time of `--help`, `list`, `explain`, `plan` and `diff` of the overrides."""
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
