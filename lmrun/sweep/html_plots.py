"""The plots of a report, as plotly figures in plain data: quality, memory and speed, two by two."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmrun.sweep.conclusion import Conclusion, Entry, value_text
from lmrun.sweep.figures import Better, Figure
from lmrun.sweep.pareto import dominated_by
from lmrun.sweep.table import shower

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#555555")
"""Of Okabe and Ito, which people of any colour vision tell apart, and two more."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
_MEMORY, _SPEED = "memory_gib", "tokens_per_s"
_DARK, _GREY, _FRONT = "#222222", "#999999", "#888888"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_SIZE, _FRONT_SIZE, _RING = 9, 13, 22


@dataclass(frozen=True)
class Plot:
    """One plot of a page."""

    id: str
    title: str
    figure: dict[str, Any]
    """`data` and `layout` of plotly."""


@dataclass(frozen=True)
class _Looks:
    """Which swept keys are told by colour and by symbol; values as texts."""

    color_key: str | None
    colors: Mapping[str, str]
    symbol_key: str | None
    symbols: Mapping[str, str]

    def color(self, entry: Entry) -> str:
        return self.colors.get(_text(entry, self.color_key), COLORS[0])

    def symbol(self, entry: Entry) -> str:
        return self.symbols.get(_text(entry, self.symbol_key), SYMBOLS[0])


def plots(conclusion: Conclusion, chosen: Entry | None = None) -> list[Plot]:
    """Those whose two figures the sweep has; each point stands in every one where it has both."""
    by_name = {figure.name: figure for figure in conclusion.figures}
    quality = next(
        (f for f in conclusion.front if f.name != _MEMORY and not f.name.endswith(("_s", "_ms"))),
        None,
    )
    memory, speed = by_name.get(_MEMORY), by_name.get(_SPEED)
    wanted = (
        ("quality-memory", "Quality against memory", memory, quality),
        ("quality-speed", "Quality against speed", speed, quality),
        ("speed-memory", "Speed against memory", memory, speed),
    )
    looks = _looks(conclusion)
    return [
        Plot(name, title, _plot(conclusion, (across, up), looks, chosen))
        for name, title, across, up in wanted
        if across is not None and up is not None and _having(conclusion, (across, up))
    ]


def _plot(
    conclusion: Conclusion,
    axes: tuple[Figure, Figure],
    looks: _Looks,
    chosen: Entry | None,
) -> dict[str, Any]:
    entries = _having(conclusion, axes)
    traces = [_front_line(entries, axes)]
    if chosen is not None and chosen in entries:
        traces.append(_ring(chosen, axes))
    traces.append(_points(conclusion, entries, axes, looks))
    traces += _legend(looks)
    return {"data": traces, "layout": _layout(axes)}


def _having(conclusion: Conclusion, axes: Sequence[Figure]) -> list[Entry]:
    return [e for e in conclusion.entries if all(axis.name in e.values for axis in axes)]


def _points(
    conclusion: Conclusion,
    entries: Sequence[Entry],
    axes: tuple[Figure, Figure],
    looks: _Looks,
) -> dict[str, Any]:
    fronts = [entry.is_pareto for entry in entries]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers+text",
        "name": "points",
        "showlegend": False,
        "x": [entry.values[axes[0].name].mean for entry in entries],
        "y": [entry.values[axes[1].name].mean for entry in entries],
        "text": [str(entry.number) if entry.is_pareto else "" for entry in entries],
        "textposition": "top center",
        "textfont": {"size": 11, "color": _DARK},
        "hovertext": [hover_text(conclusion, entry) for entry in entries],
        "hoverinfo": "text",
        "marker": {
            "color": [looks.color(entry) for entry in entries],
            "symbol": [looks.symbol(entry) for entry in entries],
            "size": [_FRONT_SIZE if front else _SIZE for front in fronts],
            "opacity": [1.0 if front else 0.55 for front in fronts],
            "line": {"color": _DARK, "width": [1.8 if front else 0.0 for front in fronts]},
        },
        "cliponaxis": False,
    }
    for axis, name in zip(axes, ("error_x", "error_y"), strict=True):
        deviations = [entry.values[axis.name].deviation for entry in entries]
        if any(deviation is not None for deviation in deviations):
            trace[name] = {
                "type": "data",
                "array": [deviation or 0.0 for deviation in deviations],
                "color": _GREY,
                "thickness": 1.2,
                "width": 3,
            }
    return trace


def hover_text(conclusion: Conclusion, entry: Entry) -> str:
    """Settings and figures of a point, lines of plotly's few tags."""
    lines = [f"<b>{entry.number}</b>" + (" · Pareto front" if entry.is_pareto else "")]
    lines += [f"{key}={value_text(value)}" for key, value in entry.settings.items()]
    lines.append("")
    for figure in conclusion.figures:
        value = entry.values.get(figure.name)
        if value is not None:
            lines.append(
                f"{figure.title} {shower(figure, [value])(value)} {_unit(figure)}".rstrip()
            )
    if len(entry.rows) > 1:
        lines.append(f"mean ± deviation of {len(entry.rows)} seeds")
    if entry.off_front is not None:
        lines.append(entry.off_front)
    first, *rest = lines
    return "<br>".join([first, *(html.escape(line, quote=False) for line in rest)])


def _unit(figure: Figure) -> str:
    return "" if figure.unit == "1/s" else figure.unit


def _front_line(entries: Sequence[Entry], axes: tuple[Figure, Figure]) -> dict[str, Any]:
    """Where two figures alone count: from here on, less of one is paid for with the other."""
    passed = [entry for entry in entries if entry.passed]
    means = [{axis.name: entry.values[axis.name].mean for axis in axes} for entry in passed]
    rivals = dominated_by(means, axes)
    corners = sorted(
        {
            (point[axes[0].name], point[axes[1].name])
            for point, rival in zip(means, rivals, strict=True)
            if rival is None
        }
    )
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front of these two",
        "x": [across for across, _ in corners],
        "y": [up for _, up in corners],
        "line": {
            "shape": "hv" if axes[0].better is Better.low else "vh",
            "color": _FRONT,
            "width": 1.5,
            "dash": "dot",
        },
        "hoverinfo": "skip",
    }


def _ring(chosen: Entry, axes: tuple[Figure, Figure]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"chosen: {chosen.number}",
        "x": [chosen.values[axes[0].name].mean],
        "y": [chosen.values[axes[1].name].mean],
        "hoverinfo": "skip",
        "marker": {
            "symbol": "circle-open",
            "size": _RING,
            "color": "#c00000",
            "line": {"color": "#c00000", "width": 2.5},
        },
    }


def _legend(looks: _Looks) -> Iterator[dict[str, Any]]:
    """Entries without points: what the colours, the symbols and the dark edges mean."""
    for text, color in looks.colors.items():
        yield _key(f"{looks.color_key}={text}", {"color": color, "symbol": "circle"})
    for text, symbol in looks.symbols.items():
        yield _key(f"{looks.symbol_key}={text}", {"color": _GREY, "symbol": symbol})
    edge = {"color": _DARK, "width": 1.8}
    yield _key(
        "Pareto front of all figures", {"color": "#ffffff", "symbol": "circle", "line": edge}
    )


def _key(name: str, marker: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(name, quote=False),
        "x": [None],
        "y": [None],
        "hoverinfo": "skip",
        "marker": {"size": 10, **marker},
    }


def _layout(axes: tuple[Figure, Figure]) -> dict[str, Any]:
    across, up = axes
    return {
        "xaxis": _axis(across),
        "yaxis": _axis(up),
        "font": {"family": _FONT, "size": 13, "color": _DARK},
        "margin": {"l": 70, "r": 20, "t": 16, "b": 56},
        "legend": {
            "orientation": "h",
            "y": -0.2,
            "yanchor": "top",
            "x": 0,
            "xanchor": "left",
            "itemclick": False,
            "itemdoubleclick": False,
        },
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "font": {"size": 12}},
        "plot_bgcolor": "#ffffff",
        "paper_bgcolor": "#ffffff",
    }


def _axis(figure: Figure) -> dict[str, Any]:
    unit = f" [{figure.unit}]" if figure.unit and figure.unit != "1/s" else ""
    better = "less" if figure.better is Better.low else "more"
    return {
        "title": {"text": f"{figure.title}{unit}, {better} is better", "standoff": 10},
        "gridcolor": "#e6e6e6",
        "linecolor": _GREY,
        "ticks": "outside",
        "tickcolor": _GREY,
        "zeroline": False,
        "automargin": True,
    }


def _looks(conclusion: Conclusion) -> _Looks:
    """Words before numbers, since colours have no order; then in the order of the command line."""
    found = {key: _values(conclusion, key) for key in conclusion.keys}
    few = [key for key, values in found.items() if 2 <= len(values) <= len(COLORS)]
    few.sort(key=lambda key: all(_is_number(value) for value in found[key]))
    first, second = [*few, None, None][:2]
    return _Looks(
        first,
        dict(zip(_sorted_texts(found, first), COLORS, strict=False)),
        second,
        dict(zip(_sorted_texts(found, second), SYMBOLS, strict=False)),
    )


def _values(conclusion: Conclusion, key: str) -> list[Any]:
    found = {
        value_text(e.settings[key]): e.settings[key]
        for e in conclusion.entries
        if key in e.settings
    }
    return list(found.values())


def _sorted_texts(found: Mapping[str, Sequence[Any]], key: str | None) -> list[str]:
    values = [] if key is None else found[key]
    if all(_is_number(value) for value in values):
        values = sorted(values, reverse=True)
    return [value_text(value) for value in values]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(entry: Entry, key: str | None) -> str:
    return "" if key is None or key not in entry.settings else value_text(entry.settings[key])
