"""The plots of a report's page, as plotly figures in plain data: a layer along the axis in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmrun.reports.report import Report

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d")
"""Of Okabe and Ito, which people of any colour vision tell apart, and one more."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
INPUTS = {
    "q_proj": "input of q, k, v",
    "o_proj": "input of o",
    "gate_proj": "input of gate, up",
    "down_proj": "input of down",
}
"""The first linear of each input stands for the scales of its channels."""
STEPS = {"observe": "observe", "quantize": "choose codes", "pack": "pack"}
_DARK, _GREY = "#222222", "#999999"
_APART = 0.1
"""Of a layer: how far traces with bars stand from each other."""
_TICKS: Mapping[str, Any] = {
    "tickvals": [digit * 10.0**power for power in range(-9, 5) for digit in (1, 2, 3, 5, 7)],
    "ticktext": [f"{digit * 10.0**power:g}" for power in range(-9, 5) for digit in (1, 2, 3, 5, 7)],
}
"""Plain numbers along a logarithmic axis, near enough that a range within one decade has some."""
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Plot:
    """One plot of a page."""

    id: str
    title: str
    meaning: str
    """A sentence below the title."""
    figure: dict[str, Any]
    """`data` and `layout` of plotly."""


def plots(report: Report) -> list[Plot]:
    """Those that the report has figures for."""
    return [
        *_pruned(report),
        *_errors(report),
        *_scales(report),
        *_alphas(report),
        *_seconds(report),
        *_kv(report),
    ]


def _pruned(report: Report) -> Iterator[Plot]:
    if report.pruning is None:
        return
    traces = [
        _line(
            role.removesuffix("_proj"),
            [layer.pruned[role]["relative_error"] for layer in report.layers],
            number,
        )
        for number, role in enumerate(report.pruned_roles())
    ]
    yield Plot(
        "pruned",
        "What pruning took from each linear",
        f"Squared error of the {report.pruning.error_of}, over their energy.",
        {"data": traces, "layout": _layout("relative squared error", log=True)},
    )


def _errors(report: Report) -> Iterator[Plot]:
    if report.quantization is None:
        return
    has_text = report.quantization.tokens > 0
    name = "relative_output_error" if has_text else "relative_weight_error"
    traces = []
    for number, role in enumerate(report.roles()):
        values = [layer.linears.get(role, {}).get(name) for layer in report.layers]
        if any(value is not None for value in values):
            traces.append(_line(role.removesuffix("_proj"), values, number))
    if traces:
        what = "outputs on the calibration text" if has_text else "weights"
        yield Plot(
            "errors",
            "Error of each linear",
            f"Squared error of the {what}, over their energy.",
            {"data": traces, "layout": _layout("relative squared error", log=True)},
        )


def _scales(report: Report) -> Iterator[Plot]:
    traces = []
    for number, (role, title) in enumerate(INPUTS.items()):
        found = [(layer.linears.get(role) or {}).get("channel_scales") for layer in report.layers]
        if not any(found):
            continue
        trace = _line(title, [None if one is None else one["median"] for one in found], number)
        # beside each other, so that the bars can be told apart
        trace["x"] = [layer + (number - 1.5) * _APART for layer in trace["x"]]
        trace["hovertemplate"] = "%{y:.3g}<extra>" + title + "</extra>"
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [0 if one is None else one["max"] - one["median"] for one in found],
            "arrayminus": [0 if one is None else one["median"] - one["min"] for one in found],
            "color": COLORS[number],
            "thickness": 1,
            "width": 3,
        }
        traces.append(trace)
    if traces:
        yield Plot(
            "scales",
            "Scales of input channels",
            "Median of the channels of each input; bars from the least to the largest.",
            {"data": traces, "layout": _layout("scale", log=True)},
        )


def _alphas(report: Report) -> Iterator[Plot]:
    traces = []
    for number, (role, title) in enumerate(INPUTS.items()):
        values = [(layer.linears.get(role) or {}).get("alpha") for layer in report.layers]
        if any(value is not None for value in values):
            traces.append(_line(title, values, number))
    if traces:
        yield Plot(
            "alphas",
            "Alphas",
            "How much of the activations' range the weights take over.",
            {"data": traces, "layout": _layout("alpha")},
        )


def _seconds(report: Report) -> Iterator[Plot]:
    rows = [layer.seconds or {} for layer in report.layers]
    traces = [
        {
            "type": "bar",
            "name": title,
            "x": list(range(len(rows))),
            "y": [row.get(step) for row in rows],
            "marker": {"color": COLORS[number]},
            "hovertemplate": "layer %{x}: %{y:.2f} s<extra>" + title + "</extra>",
        }
        for number, (step, title) in enumerate(STEPS.items())
        if any(row.get(step) for row in rows)
    ]
    if traces:
        layout = {**_layout("seconds"), "barmode": "stack"}
        yield Plot("seconds", "Time of each layer", "", {"data": traces, "layout": layout})


def _kv(report: Report) -> Iterator[Plot]:
    if not report.has_kv():
        return
    traces = []
    shown = (("output", "attention", "solid"), ("key", "keys", "dot"), ("value", "values", "dash"))
    for number, bits in enumerate(("8", "4")):
        for part, title, dash in shown:
            values = [None if one.kv is None else one.kv[bits][part] for one in report.layers]
            trace = _line(f"{title}, {bits} bits", values, number)
            trace["line"] = {"color": COLORS[number], "dash": dash, "width": 2}
            traces.append(trace)
    yield Plot(
        "kv",
        "Expected error of the KV cache",
        "Squared error over energy: of keys and values, and of what attention adds to the layer's"
        " output. kv.keep keeps the layers with the largest of the last.",
        {"data": traces, "layout": _layout("relative squared error", log=True)},
    )


def _line(name: str, values: Sequence[float | None], number: int) -> dict[str, Any]:
    color = COLORS[number % len(COLORS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(range(len(values))),
        "y": list(values),
        "line": {"color": color, "width": 2},
        "marker": {"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7, "color": color},
        "hovertemplate": "layer %{x}: %{y:.3g}<extra>" + name + "</extra>",
    }


def _layout(title: str, log: bool = False) -> dict[str, Any]:
    axis = {
        "gridcolor": "#e6e6e6",
        "linecolor": _GREY,
        "ticks": "outside",
        "tickcolor": _GREY,
        "zeroline": False,
        "automargin": True,
    }
    up: Mapping[str, Any] = {"type": "log", **_TICKS} if log else {}
    return {
        "xaxis": {**axis, "title": {"text": "layer", "standoff": 8}, "tickformat": "d"},
        "yaxis": {
            **axis,
            **up,
            "title": {"text": title, "standoff": 10},
            "rangemode": "normal" if log else "tozero",
        },
        "font": {"family": _FONT, "size": 13, "color": _DARK},
        "margin": {"l": 70, "r": 20, "t": 16, "b": 56},
        "legend": {
            "orientation": "h",
            "y": -0.2,
            "yanchor": "top",
            "x": 0,
            "xanchor": "left",
        },
        "showlegend": True,
        "hovermode": "closest",
        "plot_bgcolor": "#ffffff",
        "paper_bgcolor": "#ffffff",
    }
