"""What a sweep says while it runs, on stderr: a line for each row, and how long the rest takes."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lmrun import log
from lmrun.artifacts.files import Stamp
from lmrun.artifacts.measurements import load_ceilings
from lmrun.plan.machine import this_machine
from lmrun.plan.sizes import show_seconds, things
from lmrun.sweep.conclusion import settings_text
from lmrun.sweep.figures import figures_of
from lmrun.sweep.planning import TIMED, PlannedSweep
from lmrun.sweep.rows import Row, Status, Sweep, read_row, row_stamp

POLL_S = 0.2
SHOWN = ("memory_gib", "ppl_ratio", "ppl", "kl", "ttft_ms", "tokens_per_s")
"""Figures of a line; the perplexity only where there is no ratio."""
_LISTED = 20

_log = log.get("lmrun.sweep")


def begin(sweep: Sweep, planned: PlannedSweep, num_todo: int) -> None:
    """Say what the sweep is, what of it is skipped and why, and what is left to run."""
    count = len(sweep.rows)
    _log.info("sweep %s: %s, below %s", sweep.id, things(count, "point"), sweep.folder)
    if planned.merged:
        same = planned.merged[0]
        _log.info(
            "%s of the command line %s: %s is what %s is",
            things(len(planned.merged), "point"),
            "is another in other words"
            if len(planned.merged) == 1
            else "are others in other words",
            *(same.settings, settings_text(same.into.keys)),
        )
    skipped = sweep.of_status(Status.skipped)
    for row in skipped[:_LISTED]:
        _log.warning("skipped: %s: %s", _name(row), row.why)
    if len(skipped) > _LISTED:
        _log.warning("skipped: %d more", len(skipped) - _LISTED)
    if num_todo and sweep.verb in TIMED and not _is_measured(sweep):
        _log.info(
            "this machine's ceilings are looked at again for each point; once for all:"
            " lmrun doctor --measure"
        )
    known = count - len(skipped) - num_todo
    if known:
        _log.info("%s known from an earlier run; %d to run", _are(known), num_todo)


def _is_measured(sweep: Sweep) -> bool:
    home = sweep.folder.parents[1]
    return load_ceilings(home, this_machine().identity) is not None


def _are(count: int) -> str:
    return f"{things(count, 'point')} {'is' if count == 1 else 'are'}"


def stopped(sweep: Sweep) -> None:
    """Say how to go on."""
    done = len(sweep.rows) - len(sweep.waiting)
    _log.warning(
        "sweep %s: stopped with %d of %s done. The same command goes on; lmrun sweep show %s shows"
        " what there is.",
        *(sweep.id, done, things(len(sweep.rows), "point"), sweep.id),
    )


@contextmanager
def rows_as_they_finish(sweep: Sweep, todo: Sequence[Row]) -> Iterator[None]:
    """Log each row when its file appears, whichever process wrote it."""
    watcher = Watcher(sweep, todo)
    thread = threading.Thread(target=watcher.watch, name="sweep-rows", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watcher.ended.set()
        thread.join()


class Watcher:
    """Says what becomes of rows. One that has not changed is not read: others are being timed."""

    def __init__(self, sweep: Sweep, todo: Sequence[Row]) -> None:
        self.ended = threading.Event()
        self._sweep = sweep
        self._waiting = {row.point.id: row for row in todo}
        self._seen: dict[str, Stamp] = {}
        self._built: set[str] = set()
        self._total = len(sweep.rows) - len(sweep.of_status(Status.skipped))
        self._began_s = time.monotonic()
        self._finished = 0
        """Since `_began_s`."""

    def watch(self) -> None:
        """Until `ended` is set, and once more."""
        is_last = False
        while not is_last:
            is_last = self.ended.wait(POLL_S)
            self.look()

    def look(self) -> None:
        """Log each row that was written since the last look."""
        for row in list(self._waiting.values()):
            written = row_stamp(self._sweep.folder, row.point)
            if written is None or written == self._seen.get(row.point.id):
                continue
            self._seen[row.point.id] = written
            found = read_row(self._sweep.folder, row.point)
            if found is not None and found.status is Status.waiting:
                self._say_built(found)
            elif found is not None:
                del self._waiting[row.point.id]
                self._finished += 1
                self._say(found)

    def _say_built(self, row: Row) -> None:
        """It is built and evaluated, and still to be timed."""
        if row.point.id not in self._built:
            self._built.add(row.point.id)
            self._began_s, self._finished = time.monotonic(), 0  # what is left takes other times
            _log.info("%s: built in %s", _name(row), show_seconds(row.seconds or 0.0))

    def _say(self, row: Row) -> None:
        done = self._total - len(self._waiting)
        head = f"{done}/{self._total} {_name(row)}"
        if row.status is Status.failed:
            _log.error("%s: failed: %s The log: %s", head, row.why, row.log)
        elif row.status is Status.gate_failed:
            _log.warning("%s: gate failed: %s", head, row.why)
        else:
            _log.info("%s: %s%s", head, figures_text(row), self._left())

    def _left(self) -> str:
        """From the pace at which rows of this run finish."""
        if not self._waiting or not self._finished:
            return ""
        seconds = (time.monotonic() - self._began_s) / self._finished * len(self._waiting)
        return f"; about {duration(seconds)} left"


def figures_text(row: Row) -> str:
    """`0.31 GiB memory, 1.012 perplexity ratio, 180 tokens/s`; what the row has of `SHOWN`."""
    by_name = {figure.name: figure for figure in figures_of([row])}
    values = {name: by_name[name].read(row) for name in SHOWN}
    if values["ppl_ratio"] is not None:
        values["ppl"] = None
    parts = []
    for name, value in values.items():
        if value is not None:
            figure = by_name[name]
            unit = f" {figure.unit}" if figure.unit and figure.unit != "1/s" else ""
            parts.append(f"{figure.title} {value:.{figure.places([value])}f}{unit}")
    return ", ".join(parts) or "done"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `1.5 h`."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _name(row: Row) -> str:
    return settings_text(row.point.keys) or "the point"
