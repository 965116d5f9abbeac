"""The report of a sweep as text; `tests/e2e/test_sweep_report.py` opens it in a browser."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest

from lmrun.sweep.choose import choose
from lmrun.sweep.conclusion import Conclusion, conclude
from lmrun.sweep.html import html
from lmrun.sweep.html_plots import Plot, plots
from lmrun.sweep.rows import Point, Status
from unit.sweep.grid import bench, grid, measured, quality, sweep, with_status

EVIL = "</script><script>alert('&x')</script>"


@pytest.fixture
def conclusion(tmp_path: Path) -> Conclusion:
    """Of the worked example's shape."""
    return conclude(grid(tmp_path))


def points_of(plot: Plot) -> dict[str, Any]:
    """The trace that has a marker for each point."""
    return next(trace for trace in plot.figure["data"] if trace["name"] == "points")


def line_of(plot: Plot) -> dict[str, Any]:
    """The trace of the front."""
    return next(trace for trace in plot.figure["data"] if trace["mode"] == "lines")


def without_plotly(page: str) -> str:
    """The page without the library, of 5 MB."""
    start = page.index("<script>/**")
    return page[:start] + page[page.index("</script>", start) :]


def test_plotly_takes_each_figure(conclusion: Conclusion) -> None:
    for plot in plots(conclusion, conclusion.entries[0]):
        figure = plotly.graph_objects.Figure(plot.figure)  # refuses what it does not know
        assert len(figure.data) == len(plot.figure["data"])


def test_every_point_is_in_each_of_three_plots(conclusion: Conclusion) -> None:
    found = plots(conclusion)
    assert [plot.id for plot in found] == ["quality-memory", "quality-speed", "speed-memory"]
    axes = (
        ("memory_gib", "ppl_ratio"),
        ("tokens_per_s", "ppl_ratio"),
        ("memory_gib", "tokens_per_s"),
    )
    for plot, (across, up) in zip(found, axes, strict=True):
        trace = points_of(plot)
        assert trace["x"] == [e.values[across].mean for e in conclusion.entries]
        assert trace["y"] == [e.values[up].mean for e in conclusion.entries]
        assert "<br>quant.method=awq<br>" in trace["hovertext"][8]
        assert [bool(text) for text in trace["text"]] == [e.is_pareto for e in conclusion.entries]


def test_the_front_of_a_plot_goes_through_its_best_points(conclusion: Conclusion) -> None:
    for plot in plots(conclusion):
        line, trace = line_of(plot), points_of(plot)
        corners = list(zip(line["x"], line["y"], strict=True))
        assert corners == sorted(corners)
        assert set(corners) <= set(zip(trace["x"], trace["y"], strict=True))
        less_memory = "memory" in plot.figure["layout"]["xaxis"]["title"]["text"]
        assert line["line"]["shape"] == ("hv" if less_memory else "vh")
    speed = plots(conclusion)[1]
    assert max(points_of(speed)["x"]) in line_of(speed)["x"]
    assert min(points_of(speed)["y"]) in line_of(speed)["y"]


def test_colours_tell_words_apart_and_symbols_numbers(conclusion: Conclusion) -> None:
    trace = points_of(plots(conclusion)[0])
    by_method = {
        entry.settings["quant.method"]: color
        for entry, color in zip(conclusion.entries, trace["marker"]["color"], strict=True)
    }
    by_bits = {
        entry.settings["kv.bits"]: symbol
        for entry, symbol in zip(conclusion.entries, trace["marker"]["symbol"], strict=True)
    }
    assert len(set(by_method.values())) == 3
    assert len(set(by_bits.values())) == 3
    names = [trace["name"] for trace in plots(conclusion)[0].figure["data"]]
    assert names == [
        "Pareto front of these two",
        "points",
        "quant.method=none",
        "quant.method=rtn",
        "quant.method=awq",
        "kv.bits=16",
        "kv.bits=8",
        "kv.bits=4",
        "Pareto front of all figures",
    ]


def test_the_spread_of_seeds_is_a_bar(tmp_path: Path) -> None:
    rows = [
        replace(
            grid(tmp_path).rows[index],
            point=Point(index, (), {"kv.bits": 8, "bench.seed": index}, str(index)),
            bench=bench(10, 2, 500 + index),
        )
        for index in range(3)
    ]
    first = plots(conclude(sweep(tmp_path, rows)))[1]
    assert points_of(first)["error_x"]["array"] == [1.0]
    assert "mean ± deviation of 3 seeds" in points_of(first)["hovertext"][0]


def test_a_point_that_failed_its_gate_is_shown_and_not_on_the_front(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows)
    least = min(rows, key=lambda row: row.memory.total_bytes if row.memory else 0).point.index
    rows[least] = with_status(rows[least], Status.gate_failed, "worse")
    first = plots(conclude(sweep(tmp_path, rows)))[0]
    assert len(points_of(first)["x"]) == 27
    trace, line = points_of(first), line_of(first)
    corners = set(zip(line["x"], line["y"], strict=True))
    assert (trace["x"][least], trace["y"][least]) not in corners


def test_the_page_has_all_and_asks_for_nothing(conclusion: Conclusion) -> None:
    chosen = choose(conclusion, "max tokens_per_s where ppl_ratio < 1.02")
    page = html(conclusion, chosen)
    own = without_plotly(page)
    assert not re.findall(r"""(?:src|href)\s*=|url\(|@import|https?://""", own)
    assert "default-src 'none'" in own
    assert f"<b>Chosen: {chosen.entry.number}</b>" in own
    assert "lmrun -m model=demo backend.threads=1 kv.bits=16,8,4" in own
    assert "Example CPU (avx512, 2 cores, 24 GiB)" in own
    assert "<dd>lmrun 0.1.0, engine build 7e7e7e7e7e7e</dd>" in own
    assert "builtin:stories, 8192 predicted tokens in windows of 256; KL over 4096" in own
    assert "64 prompt and 32 completion tokens; concurrency 1, 4;" in own
    assert "8 requests a level in 2 rounds" in own
    assert own.count('<tr class="pareto') == len(conclusion.pareto)
    for entry in conclusion.pareto:
        assert f"quant.group_size={entry.settings['quant.group_size']}  # {entry.number}" in own


def test_texts_of_others_stay_texts(tmp_path: Path) -> None:
    rows = [
        measured(0, {"model.path": EVIL}, quality(1.0), bench(1, 1, 5)),
        measured(1, {"model.path": "b"}, quality(1.1), bench(1, 1, 6)),
        with_status(measured(2, {"model.path": "c"}), Status.failed, EVIL),
    ]
    rows[:2] = [replace(one, memory=grid(tmp_path).rows[0].memory) for one in rows[:2]]
    page = html(conclude(sweep(tmp_path, rows)))
    assert "<script>alert" not in page
    assert without_plotly(page).count("</script>") == 3
    hover = points_of(plots(conclude(sweep(tmp_path, rows)))[0])["hovertext"][0]
    assert "model.path=&lt;/script&gt;" in hover


def test_without_two_figures_there_are_no_plots_and_no_library(tmp_path: Path) -> None:
    rows = [replace(one, quality=None, bench=None) for one in grid(tmp_path).rows]
    page = html(conclude(sweep(tmp_path, rows)))
    assert "No plots: they need two of memory, quality and speed, and no point has them." in page
    assert "Plotly" not in page


def test_a_sweep_that_has_measured_nothing_is_a_page_too(tmp_path: Path) -> None:
    rows = [with_status(one, Status.waiting, "") for one in grid(tmp_path).rows]
    page = html(conclude(sweep(tmp_path, rows)))
    assert "<h2>Not run yet</h2>" in page
    assert page.count("<li>") == 27
