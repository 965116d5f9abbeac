"""The report of a sweep: one HTML file that needs nothing else, no network either."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from lmrun import __version__
from lmrun.plan.sizes import things
from lmrun.sweep.choose import Chosen
from lmrun.sweep.conclusion import Conclusion, Entry, ordered, settings_text, value_text
from lmrun.sweep.figures import Better, Figure
from lmrun.sweep.html_plots import plots
from lmrun.sweep.listing import command_text
from lmrun.sweep.machines import machine_text, versions_text
from lmrun.sweep.rows import Row, Status
from lmrun.sweep.table import headline, shower

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class _Cell:
    """Of the table: what is shown, and what it is sorted by."""

    text: str
    sort: str
    is_number: bool


@dataclass(frozen=True)
class _Line:
    """A point in the table."""

    entry: Entry
    cells: tuple[_Cell, ...]
    command: str


def html(conclusion: Conclusion, chosen: Chosen | None = None) -> str:
    """The page; about 5 MB, since plotly is in it."""
    from plotly.offline import (  # type: ignore[import-untyped]  # noqa: PLC0415 - here alone
        get_plotlyjs,
    )

    sweep = conclusion.sweep
    rows = [row for entry in conclusion.entries for row in entry.rows]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    drawn = plots(conclusion, None if chosen is None else chosen.entry)
    return template.render(
        sweep=sweep,
        headline=headline(conclusion).partition(": ")[2],
        command=command_text(sweep),
        conclusion=conclusion,
        chosen=chosen,
        plots=drawn,
        plots_json=_script_json({plot.id: plot.figure for plot in drawn}),
        plotly=get_plotlyjs(),
        heads=list(_heads(conclusion)),
        lines=list(_lines(conclusion)),
        left_out=[(title, found) for title, found in _left_out(conclusion) if found],
        settings_text=settings_text,
        ordered=ordered,
        facts=list(_facts(rows)),
        versions=f"lmrun {__version__}",
    )


def _script_json(document: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON that may stand between script tags."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _heads(conclusion: Conclusion) -> Iterator[tuple[str, str, bool, str]]:
    """Title, unit, whether it is a column of numbers, and what the title means."""
    for key in conclusion.keys:
        yield key, "", _is_numeric(conclusion, key), "swept key"
    if conclusion.has_repetitions:
        yield "seeds", "", True, "points that differ in seeds alone"
    for figure in conclusion.figures:
        yield figure.title, figure.unit, True, f"{figure.name}: {_meaning(figure)}"


def _meaning(figure: Figure) -> str:
    better = "less" if figure.better is Better.low else "more"
    return f"{figure.description}; {better} is better"


def _is_numeric(conclusion: Conclusion, key: str) -> bool:
    values = [entry.settings.get(key) for entry in conclusion.entries]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _lines(conclusion: Conclusion) -> Iterator[_Line]:
    shows = {
        figure.name: shower(
            figure,
            [e.values[figure.name] for e in conclusion.entries if figure.name in e.values],
        )
        for figure in conclusion.figures
    }
    numeric = {key: _is_numeric(conclusion, key) for key in conclusion.keys}
    for entry in conclusion.entries:
        cells = []
        for key, is_number in numeric.items():
            text = value_text(entry.settings[key]) if key in entry.settings else ""
            cells.append(_Cell(text, text, is_number))
        if conclusion.has_repetitions:
            count = str(len(entry.rows))
            cells.append(_Cell(count, count, True))
        for name, show in shows.items():
            value = entry.values.get(name)
            missing = _Cell("–", "", True)
            cells.append(missing if value is None else _Cell(show(value), repr(value.mean), True))
        command = f"lmrun {shlex.join(entry.rows[0].point.overrides)}"
        yield _Line(entry, tuple(cells), command)


def _left_out(conclusion: Conclusion) -> Iterator[tuple[str, list[Row]]]:
    titles = (
        (Status.failed, "Failed"),
        (Status.skipped, "Skipped"),
        (Status.waiting, "Not run yet"),
    )
    for status, title in titles:
        yield title, [row for row in conclusion.left_out if row.status is status]


def _facts(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """What the figures were measured on and with, each with its name."""
    if machine := machine_text(rows):
        yield "machine", machine
    if versions := versions_text(rows):
        yield "measured by", versions
    protocols = [row.quality.get("protocol") for row in rows if row.quality]
    yield from _distinct("quality", [_protocol(found) for found in protocols])
    yield from _distinct("load", [_load(row.bench.get("asked")) for row in rows if row.bench])


def _distinct(name: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for text in dict.fromkeys(text for text in texts if text):
        yield name, text


def _protocol(found: Any) -> str:  # noqa: ANN401 - a document of another room
    if not isinstance(found, dict):
        return ""
    return (
        f"{found.get('text')}, {found.get('tokens')} predicted tokens in windows of"
        f" {found.get('window')}; KL over {found.get('kl_tokens')}"
    )


def _load(asked: Any) -> str:  # noqa: ANN401 - a document of another room
    if not isinstance(asked, dict):
        return ""
    if asked.get("trace"):
        return f"trace {asked['trace']}"
    levels = ", ".join(map(str, asked.get("concurrency") or ()))
    return (
        f"{asked.get('prompt_tokens')} prompt and {asked.get('output_tokens')} completion tokens;"
        f" concurrency {levels}; {things(asked.get('requests') or 0, 'request')} a level in"
        f" {things(asked.get('rounds') or 0, 'round')}"
    )
