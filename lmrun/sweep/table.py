"""The conclusion of a sweep as text: one line a point, and below it what has no figures and why."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from lmrun.config.suggest import listed
from lmrun.plan.sizes import things
from lmrun.sweep.conclusion import Conclusion, Entry, Value, ordered, settings_text, value_text
from lmrun.sweep.figures import Figure
from lmrun.sweep.rows import Row, Status

MARK = "*"
"""Before a point of the Pareto front."""
_GAP = "  "
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_MISSING = "–"
_ORDER = (Status.ok, Status.gate_failed, Status.failed, Status.skipped, Status.waiting)
_ENDS = (
    (Status.failed, "failed"),
    (Status.skipped, "skipped"),
    (Status.waiting, "not run yet"),
)


@dataclass(frozen=True)
class _Column:
    """Heads and cells of one column; ``rank`` 0 is never left out."""

    heads: tuple[str, str]
    cells: tuple[str, ...]
    name: str = ""
    """Of its figure."""
    rank: int = 0
    is_text: bool = False

    @property
    def width(self) -> int:
        return max(map(len, (*self.heads, *self.cells)))

    def lines(self) -> list[str]:
        """Heads and cells, all of one width."""
        pad, width = str.ljust if self.is_text else str.rjust, self.width
        return [pad(text, width) for text in (*self.heads, *self.cells)]


def text(conclusion: Conclusion, *, width: int | None = None, colors: bool = False) -> str:
    """The table and what belongs below it; ends with a newline.

    ``width`` in characters: less important columns are left out of a narrower table, and named.
    None: there is room for all. Lines of the front are bold with ``colors``.
    """
    return "\n".join(_lines(conclusion, width, colors)) + "\n"


def terminal_text(conclusion: Conclusion, stream: TextIO | None = None) -> str:
    """`text` for a stream (stdout): the width of its terminal or $COLUMNS, bold where it may be."""
    stream = stream or sys.stdout
    is_terminal = stream.isatty()
    colors = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return text(conclusion, width=_width_of(stream, is_terminal), colors=colors)


def _width_of(stream: TextIO, is_terminal: bool) -> int | None:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if not is_terminal:
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def _lines(conclusion: Conclusion, width: int | None, colors: bool) -> Iterator[str]:
    yield headline(conclusion)
    entries = conclusion.entries
    if entries:
        columns = _columns(conclusion)
        left_out = _too_many(columns, width)
        rows = zip(*(c.lines() for c in columns if c not in left_out), strict=True)
        yield ""
        for index, cells in enumerate(rows):
            line = _GAP.join(cells).rstrip()
            is_bold = colors and index >= 2 and entries[index - 2].is_pareto
            yield f"{_BOLD}{line}{_PLAIN}" if is_bold else line
        yield ""
        yield from _legend(conclusion, left_out)
    yield from _without_figures(conclusion.left_out)


def headline(conclusion: Conclusion) -> str:
    """``sweep 0123456789ab: 9 points, 5 ok, 1 gate failed, …``."""
    rows = conclusion.sweep.rows
    counts = {status: len(conclusion.sweep.of_status(status)) for status in _ORDER}
    told = [f"{n} {status.value.replace('_', ' ')}" for status, n in counts.items() if n]
    text = f"sweep {conclusion.sweep.id}: {things(len(rows), 'point')}; {', '.join(told)}"
    merged = conclusion.sweep.merged
    return f"{text}; {merged} more that mean the same as one of these" if merged else text


def _columns(conclusion: Conclusion) -> list[_Column]:
    entries = conclusion.entries
    digits = max(len(str(entry.number)) for entry in entries)
    numbers = (f"{e.number:>{digits}} {MARK if e.is_pareto else ' '}" for e in entries)
    columns = [_Column(("", ""), tuple(numbers))]
    for key in conclusion.keys:
        group, _, leaf = key.rpartition(".")
        cells = tuple(
            value_text(entry.settings[key]) if key in entry.settings else "" for entry in entries
        )
        heads = (f"{group}." if group else "", leaf)
        columns.append(_Column(heads, cells, is_text=not _are_numbers(entries, key)))
    if conclusion.has_repetitions:
        columns.append(_Column(("", "seeds"), tuple(str(len(entry.rows)) for entry in entries)))
    columns += [_figure_column(figure, entries) for figure in conclusion.figures]
    return columns


def _are_numbers(entries: Sequence[Entry], key: str) -> bool:
    values = [entry.settings.get(key) for entry in entries]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _figure_column(figure: Figure, entries: Sequence[Entry]) -> _Column:
    found = [entry.values.get(figure.name) for entry in entries]
    is_change = figure.name == "ppl_ratio"
    show = change if is_change else shower(figure, [value for value in found if value is not None])
    cells = tuple(_MISSING if value is None else show(value) for value in found)
    heads = ("ppl change", "%") if is_change else (figure.title, figure.unit)
    return _Column(heads, cells, figure.name, figure.rank)


def change(ratio: Value) -> str:
    """A ratio to the baseline as its change in percent: `+1.92`."""
    text = f"{(ratio.mean - 1) * 100:+.2f}"
    return text if not ratio.deviation else f"{text} ±{ratio.deviation * 100:.2f}"


def shower(figure: Figure, values: Iterable[Value]) -> Callable[[Value], str]:
    """How the values of a figure are shown in one column: with as many decimals each."""
    places = figure.places(value.mean for value in values)

    def show(value: Value) -> str:
        text = f"{value.mean:.{places}f}"
        return text if not value.deviation else f"{text} ±{value.deviation:.{places}f}"

    return show


def _too_many(columns: Sequence[_Column], width: int | None) -> list[_Column]:
    """Columns to leave out, so that the table is as narrow as it can be made."""
    left_out: list[_Column] = []
    spare = sorted((column for column in columns if column.rank), key=lambda c: -c.rank)
    while width is not None and spare:
        kept = [column for column in columns if column not in left_out]
        if sum(column.width for column in kept) + len(_GAP) * (len(kept) - 1) <= width:
            break
        left_out.append(spare.pop(0))
    return [column for column in columns if column in left_out]


def _legend(conclusion: Conclusion, left_out: Sequence[_Column]) -> Iterator[str]:
    front = listed([figure.name for figure in conclusion.front], "and")
    if len(conclusion.front) > 1:
        yield f"{MARK} Pareto front: no other point is as good in {front}, and better in one."
    elif front:
        yield f"{MARK} best in {front}, the one figure that there is to compare."
    if conclusion.has_repetitions:
        yield "± sample standard deviation over the seeds; the figure before it is their mean."
    if any(figure.name == "ppl_ratio" for figure in conclusion.figures):
        yield "ppl change: of the perplexity against the unquantized model (ppl_ratio − 1)."
    if left_out:
        names = ", ".join(column.name for column in left_out)
        yield f"left out for the width: {names}. --csv has all."
    for entry in conclusion.entries:
        if not entry.passed or (entry.off_front or "").startswith("no "):
            yield f"not on the front: {entry.number}, {entry.off_front}"
    yield from conclusion.notes


def _without_figures(rows: Sequence[Row]) -> Iterator[str]:
    for status, title in _ENDS:
        found = [row for row in rows if row.status is status]
        if not found:
            continue
        yield ""
        yield f"{title}:"
        for row in found:
            name = settings_text(ordered(row.point))
            why = f": {row.why}" if row.why else ""
            number = str(row.point.index + 1)
            yield f"  {number}  {name}{why}"
            if row.log is not None and status is Status.failed:
                yield f"  {' ' * len(number)}  log: {row.log}"
