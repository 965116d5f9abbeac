"""A report as one HTML file that needs nothing else, no network either."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from lmrun import __version__
from lmrun.reports.html_plots import plots
from lmrun.reports.report import Layer, Report
from lmrun.reports.text import facts

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def html(report: Report) -> str:
    """The page; about 5 MB, since plotly is in it."""
    from plotly.offline import (  # type: ignore[import-untyped]  # noqa: PLC0415 - here alone
        get_plotlyjs,
    )

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    drawn = plots(report)
    rows = list(_rows(report))
    used = [number for number in range(len(HEADS)) if any(cells[number] for *_, cells in rows)]
    return template.render(
        report=report,
        facts=list(facts(report)),
        plots=drawn,
        plots_json=_script_json({plot.id: plot.figure for plot in drawn}),
        plotly=get_plotlyjs(),
        heads=[HEADS[number] for number in used],
        rows=[(layer, role, [cells[number] for number in used]) for layer, role, cells in rows],
        pruned_rows=list(_pruned_rows(report)),
        kv_rows=list(_kv_rows(report)),
        versions=f"lmrun {__version__}",
    )


HEADS = (
    ("output error", "relative squared error of the outputs on the calibration text"),
    ("weight error", "relative squared error of the weights"),
    ("clipped", "share of the weights more than half a step outside the range of their codes"),
    ("scales", "of the input's channels: least / median / largest"),
    ("alpha", "how much of the activations' range the weights take over"),
    ("outliers", "input channels over six times the median magnitude"),
)
"""Columns of the table of linears, and what each means."""


def _rows(report: Report) -> Iterator[tuple[int, str, list[str]]]:
    """Layer, linear, and the cells of `HEADS`."""
    roles = report.roles()
    for index, layer in enumerate(report.layers):
        for role in roles:
            if role in layer.linears:
                yield index, role, _cells(layer, role)


def _cells(layer: Layer, role: str) -> list[str]:
    row = layer.linears[role]
    scales = row.get("channel_scales")
    outliers = row.get("outlier_inputs")
    return [
        _number(row.get("relative_output_error")),
        _number(row.get("relative_weight_error")),
        f"{100 * row['clipped_share']:.2f}%",
        ""
        if scales is None
        else f"{scales['min']:.3g} / {scales['median']:.3g} / {scales['max']:.3g}",
        "" if row.get("alpha") is None else f"{row['alpha']:g}",
        "" if outliers is None else str(outliers),
    ]


def _pruned_rows(report: Report) -> Iterator[tuple[int, str, list[str]]]:
    """Layer, linear, share of zeros and relative error."""
    for index, layer in enumerate(report.layers):
        for role in report.pruned_roles():
            row = layer.pruned[role]
            yield index, role, [f"{100 * row['zeros']:.1f}%", _number(row["relative_error"])]


def _kv_rows(report: Report) -> Iterator[tuple[int, list[str], bool]]:
    """Layer, errors of keys, values and attention at 8 and at 4 bits, and whether it is kept."""
    for index, layer in enumerate(report.layers):
        if layer.kv is not None:
            cells = [
                _number(layer.kv[bits][part])
                for bits in ("8", "4")
                for part in ("key", "value", "output")
            ]
            yield index, cells, index in report.kept_kv_layers


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _script_json(document: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON that may stand between script tags."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
