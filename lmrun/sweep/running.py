"""Running a sweep: what is missing is run, and what has finished is kept."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec
from filelock import FileLock, Timeout

from lmrun import log
from lmrun.artifacts.files import storage_errors
from lmrun.artifacts.store import Store
from lmrun.config import RunConfig
from lmrun.config.places import Places
from lmrun.errors import ArtifactError, PlanError, StageError
from lmrun.plan.machine import this_machine
from lmrun.progress import progress_bar
from lmrun.sweep import children, launching, narration
from lmrun.sweep.expansion import expand
from lmrun.sweep.job import Job
from lmrun.sweep.launching import JOBLIB, Launching
from lmrun.sweep.planning import TIMED, Planned, PlannedSweep, depends, plan_all
from lmrun.sweep.point import Phase, failed_row
from lmrun.sweep.rows import (
    LOCK,
    Row,
    Status,
    Sweep,
    log_file,
    read_row,
    read_sweep,
    row_file,
    sweeps_folder,
    write_row,
    write_sweep,
)

_DONE = (Status.ok, Status.gate_failed)
_ATTEMPTS = 2
"""A point whose worker died this often is given up."""

_log = log.get(__name__)


@dataclass(frozen=True)
class Request:
    """A sweep as the command line asks for it."""

    verb: str
    """`up`, `build`, `eval`, `bench`, or `plan`, which runs nothing."""
    words: tuple[str, ...]
    """The overrides, swept ones too."""
    command: tuple[str, ...]
    """All words after `lmrun`, to go on with."""
    overlap: bool = False
    """Time points while others run."""


@dataclass(frozen=True)
class Looked:
    """A request that was looked at: its points, and what will run them."""

    planned: PlannedSweep
    launcher: Launching


def look(request: Request, store: Store) -> Looked:
    """Plan every point; writes nothing. Raises what is wrong with the sweep as a whole."""
    places = Places.at(Path.cwd())
    expansion = expand(request.words, places)
    launcher = launching.prepare(expansion.launcher, this_machine().cores)
    count = len(expansion.candidates)
    with progress_bar("planning the points", count, unit="points") as advance:
        planned = plan_all(expansion.candidates, request.verb, store, places, advance)
    return Looked(planned, launcher)


def run(request: Request, looked: Looked, store: Store) -> Sweep:
    """Run what is missing of a sweep; its rows, all of them.

    A point that fails is a row. Raises `PlanError` where another command runs the same sweep, and
    `KeyboardInterrupt`: what has finished is kept, and the same command goes on.
    """
    planned, launcher = looked.planned, looked.launcher
    folder = sweeps_folder(store.home) / planned.id
    with storage_errors(store.home), _alone(folder, planned.id), _terminated_as_interrupted():
        sweep = _begun(request, planned, folder)
        todo = [row for row in sweep.rows if row.status is Status.waiting]
        narration.begin(sweep, planned, len(todo))
        try:
            with narration.rows_as_they_finish(sweep, todo):
                _run_all(sweep, todo, launcher, request)
        except KeyboardInterrupt:
            narration.stopped(read_sweep(folder))
            raise
        return read_sweep(folder)


@contextmanager
def _alone(folder: Path, identity: str) -> Iterator[None]:
    """Hold the sweep; the kernel lets go of it when this process ends, however."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PlanError(
            f"sweep {identity}: another command runs it. Wait for its end, or look at it:"
            f" lmrun sweep show {identity}."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _begun(request: Request, planned: PlannedSweep, folder: Path) -> Sweep:
    """The sweep on disk: rows that are still true stay, all others wait."""
    try:
        created = read_sweep(folder).created
    except ArtifactError:
        created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    sweep = Sweep(
        id=planned.id,
        folder=folder,
        command=request.command,
        created=created,
        rows=tuple(_row(one, planned.verb, folder) for one in planned.points),
        verb=planned.verb,
        merged=len(planned.merged),
    )
    write_sweep(sweep)
    for row in sweep.rows:
        if row.status is Status.waiting:
            row_file(folder, row.point).unlink(missing_ok=True)
        elif row.status in _DONE:
            write_row(sweep, row)
    return sweep


def _row(one: Planned, verb: str, folder: Path) -> Row:
    """The row of an earlier run if its figures are those of what is planned now."""
    if one.why_not or one.plan is None:
        return one.row
    known = read_row(folder, one.point)
    if known is None or known.status not in _DONE:
        return one.row
    now = depends(msgspec.convert(one.plan.config, RunConfig), one.plan, verb)
    return replace(known, point=one.point) if now == known.depends else one.row


def _run_all(sweep: Sweep, todo: Sequence[Row], launcher: Launching, request: Request) -> None:
    """With workers on this machine, everything is built and evaluated first, and then timed one
    by one; elsewhere a worker does all of a point."""
    is_beside = launcher.name == JOBLIB and launcher.workers != 1
    if not (is_beside and sweep.verb in TIMED and not request.overlap):
        _launched(sweep, todo, launcher, _job(sweep, Phase.all, request.overlap))
        return
    _launched(sweep, todo, launcher, _job(sweep, Phase.offline, request.overlap))
    rest = [row for row in read_sweep(sweep.folder).rows if row.status is Status.waiting]
    one_by_one = launching.prepare((), 1)
    _launched(sweep, rest, one_by_one, _job(sweep, Phase.timing, request.overlap))


def _job(sweep: Sweep, phase: Phase, overlap: bool) -> Job:
    return Job(sweep.folder, Path.cwd(), phase, overlap, reporting=tuple(children.reporting()))


def _launched(sweep: Sweep, todo: Sequence[Row], launcher: Launching, job: Job) -> None:
    """Run the job for every row. A worker that is killed takes the launcher with it: the rest is
    launched again, without a point that did so twice."""
    done = _is_done(sweep, job)
    if launcher.name == JOBLIB:
        job = replace(job, starter=os.getpid())
    deaths: dict[str, int] = {}
    waiting = [row for row in todo if not done(row)]
    while waiting:
        before = {row.point.id: _size(log_file(sweep.folder, row.point)) for row in waiting}
        try:
            launcher.launch([row.point.id for row in waiting], job, sweep.folder)
            problem = "the launcher ended without it"
        except Exception as error:  # noqa: BLE001 - launchers raise what their libraries do
            problem = " ".join(str(error).split()) or type(error).__name__
            _log.warning("the launcher %s failed: %s", launcher.name, problem)
        waiting = [row for row in waiting if not done(row)]
        begun = [
            row
            for row in waiting
            if _size(log_file(sweep.folder, row.point)) != before[row.point.id]
        ]
        if waiting and not begun:
            raise StageError(f"hydra/launcher={launcher.name}: {problem}.")
        for row in begun:
            deaths[row.point.id] = deaths.get(row.point.id, 0) + 1
            if deaths[row.point.id] >= _ATTEMPTS:
                write_row(sweep, failed_row(sweep, row.point, f"its worker died: {problem}"))
        waiting = [row for row in waiting if not done(row)]


def _is_done(sweep: Sweep, job: Job) -> Callable[[Row], bool]:
    """Whether a point has what the job is to give it: a row, if one that still is to be timed."""

    def done(row: Row) -> bool:
        found = read_row(sweep.folder, row.point)
        if found is None:
            return False
        return job.phase is Phase.offline or found.status is not Status.waiting

    return done


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
