"""One point, in a process of its own: ``python -m lmrun.sweep.point FOLDER ID PHASE``.

Builds and evaluates, then times, and writes the point's row. What it says goes to the point's log.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import FrameType

from lmrun import env, log
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use, using
from lmrun.bench import serving
from lmrun.bench.alone import timed
from lmrun.config import Composed, compose
from lmrun.config.located import located, with_origin
from lmrun.errors import ConfigError, ExitStatus, LmrunError, StageError
from lmrun.models.text_files import check_text_files
from lmrun.plan import gate
from lmrun.plan.plan import Plan, check_runnable
from lmrun.plan.planner import make_plan
from lmrun.sweep import children
from lmrun.sweep.planning import EVALUATE, TIMED, depends, memory_of, point_id
from lmrun.sweep.rows import Point, Row, Status, Sweep, log_file, read_row, read_sweep, write_row

RUNNER = "lmrun.stages.runner"
CONVERT = "convert"
LONGEST_WHY = 400

_log = log.get("lmrun.sweep.point")  # __name__ is __main__ in the child


class Phase(StrEnum):
    """How much of a point is done."""

    all = "all"
    offline = "offline"
    """Build and evaluate."""
    timing = "timing"
    """What `offline` left: speed."""


def run(sweep: Sweep, point: Point, phase: Phase, *, alone: bool = True) -> Row:
    """The row of a point. ``alone``: wait until no other timed run has the machine.

    Raises the error of whatever fails.
    """
    store = Store(env.home())
    composed = compose(point.overrides)
    before = read_row(sweep.folder, point) if phase is Phase.timing else None
    started = time.monotonic()
    with located(composed):
        plan = make_plan(composed, store)
        check_runnable(plan)
        if point_id(composed.run, plan, sweep.verb) != point.id:
            raise ConfigError(
                "sweep: its recipes, options or model are not those that it was planned with."
                " Run the same command again."
            )
        check_text_files(plan.text_folder, plan.chat_template)
        goal = EVALUATE if sweep.verb != "bench" and plan.stage(EVALUATE) else CONVERT
        fingerprints = {stage.name: stage.fingerprint or "" for stage in plan.stages}
        used = {name: digest for name, digest in fingerprints.items() if digest}
        with using(store.home, Use("sweep", used, recipe=plan.recipe)):
            plan = _built(composed, plan, store, goal)
            row = _judged(sweep, point, composed, plan)
            if sweep.verb in TIMED and row.status is Status.waiting and phase is not Phase.offline:
                row = _timed(row, composed, plan, alone=alone)
    spent = time.monotonic() - started + ((before.seconds or 0.0) if before else 0.0)
    return replace(row, seconds=round(spent, 3))


def _judged(sweep: Sweep, point: Point, composed: Composed, plan: Plan) -> Row:
    """The row after the offline stages; it waits where it is still to be timed."""
    is_evaluated = sweep.verb != "bench"
    failed = gate.failed(plan.gates) if is_evaluated else ()
    done = Status.waiting if sweep.verb in TIMED else Status.ok
    return Row(
        point,
        Status.gate_failed if failed else done,
        " ".join(with_origin(one.text, composed) for one in failed),
        recipe=plan.recipe,
        memory=memory_of(plan),
        quality=plan.quality if is_evaluated else None,
        log=log_file(sweep.folder, point),
        depends=depends(composed.run, plan, sweep.verb) or {},
    )


def _timed(row: Row, composed: Composed, plan: Plan, *, alone: bool) -> Row:
    with timed(f"sweep point {row.point.id}") if alone else contextlib.nullcontext():
        report = serving.measure(plan, composed.run.bench)
    if not report.complete:
        raise StageError(f"bench: {report.problem}")
    return replace(row, status=Status.ok, bench=report.to_json())


def _built(composed: Composed, plan: Plan, store: Store, goal: str) -> Plan:
    """Run the missing stages in a child, so that torch stays out; the plan, now that they are."""
    if not _missing(plan, goal):
        return plan
    words = children.command("stages", RUNNER, (goal,))
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said: list[str] = []
    try:
        assert process.stdin is not None and process.stderr is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(plan.to_json()) + "\n")
        for line in process.stderr:
            sys.stderr.write(line)
            sys.stderr.flush()
            said.append(line)
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status != ExitStatus.OK:
        reason = children.last_words("".join(said))
        raise StageError(reason or f"build: the stages process {children.describe(status)}.")
    commit = plan.hub.commit if plan.hub else None
    plan = make_plan(composed, store, commit=commit)
    if _missing(plan, goal):
        raise StageError("build: the stages ended well, and an artifact is missing.")
    return plan


def _missing(plan: Plan, goal: str) -> bool:
    return bool(plan.missing if goal == EVALUATE else plan.missing_to_launch)


def failed_row(sweep: Sweep, point: Point, why: str) -> Row:
    """The row of a point that did not end well; what was known of it before stays."""
    before = read_row(sweep.folder, point)
    row = next((row for row in sweep.rows if row.point.id == point.id), Row(point))
    known = before or row
    why = " ".join(why.split())
    return replace(
        known,
        status=Status.failed,
        why=why if len(why) <= LONGEST_WHY else f"{why[:LONGEST_WHY]}…",
        log=log_file(sweep.folder, point),
    )


def main() -> int:
    """Entry point of the child: write the row of a point, whatever becomes of it."""
    parser = argparse.ArgumentParser(prog="lmrun.sweep.point")
    parser.add_argument("folder", type=Path)
    parser.add_argument("id")
    parser.add_argument("phase", type=Phase)
    parser.add_argument("--overlap", action="store_true")
    given = parser.parse_args()
    log.setup()
    signal.signal(signal.SIGTERM, _interrupt)
    sweep = read_sweep(given.folder)
    point = next(row.point for row in sweep.rows if row.point.id == given.id)
    try:
        row = run(sweep, point, given.phase, alone=not given.overlap)
    except LmrunError as error:
        sys.stderr.write(f"{error}\n")
        row = failed_row(sweep, point, str(error))
    except OSError as error:
        _log.exception("the point failed")
        row = failed_row(sweep, point, str(error))
    except KeyboardInterrupt:
        _log.info("stopped")
        return int(ExitStatus.INTERRUPTED)
    write_row(sweep, row)
    return int(ExitStatus.OK)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
