"""Progress of something long: a bar for people, events for machines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lmrun import events, log

Advance = Callable[[int], None]
"""Told how many more units are done."""

_EVENT_S = 0.5


@contextmanager
def progress_bar(
    description: str, total: int | None, done: int = 0, *, unit: str = "steps"
) -> Iterator[Advance]:
    """A bar on stderr while the block runs, and `Progress` events.

    The bar is silent where stderr is no terminal, with ``-q`` and among JSON lines; the events go
    to the file of ``--events``. ``unit`` "bytes" is shown as sizes. A total of None is unknown.
    """
    report = _Events(description, total, done, unit)
    if not (sys.stderr.isatty() and log.is_chatty()):
        yield report.advance
        report.finish()
        return
    from rich import progress as rich_progress  # noqa: PLC0415 - 60 ms, on terminals alone
    from rich.console import Console  # noqa: PLC0415

    counted = (
        rich_progress.DownloadColumn(binary_units=True)
        if unit == "bytes"
        else rich_progress.MofNCompleteColumn()
    )
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        counted,
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(description, total=total, completed=done)

        def advance(units: int) -> None:
            bar.advance(task, units)
            report.advance(units)

        yield advance
    report.finish()


class _Events:
    """Events of one task, at most one each `_EVENT_S`, and one at its end."""

    def __init__(self, task: str, total: int | None, done: int, unit: str) -> None:
        self._task, self._total, self._done, self._unit = task, total, done, unit
        self._last_s = float("-inf")
        self._is_said = False

    def advance(self, units: int) -> None:
        self._done += units
        self._is_said = False
        if time.monotonic() - self._last_s >= _EVENT_S:
            self._say()

    def finish(self) -> None:
        if not self._is_said:
            self._say()

    def _say(self) -> None:
        self._last_s, self._is_said = time.monotonic(), True
        events.emit(events.Progress(self._task, self._done, self._total, self._unit))
