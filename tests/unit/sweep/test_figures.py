"""The table of figures, read from the documents that other rooms write."""

import dataclasses
from pathlib import Path

import pytest

from lmrun.bench.report import Figures
from lmrun.cli import help as texts
from lmrun.sweep.figures import FIGURES, Better, figures_of
from lmrun.sweep.rows import Memory
from unit.sweep.grid import bench, grid, measured, quality

GIB = 1 << 30
ROW = measured(
    0,
    {"kv.bits": 8},
    quality(1.02, tasks={"arc": 0.4}, tools=0.75),
    bench(12.5, 3.25, 456.0),
    Memory(weights_bytes=GIB // 2, kv_bytes=GIB // 4, total_bytes=GIB),
)


def test_each_figure_is_read_from_its_document() -> None:
    found = {figure.name: figure.read(ROW) for figure in figures_of([ROW])}
    assert found == {
        "memory_gib": 1.0,
        "weights_gib": 0.5,
        "kv_gib": 0.25,
        "ppl": pytest.approx(6.4 * 1.02),
        "ppl_ratio": 1.02,
        "kl": pytest.approx(0.018),
        "top1": pytest.approx(0.96),
        "tool_accuracy": 0.75,
        "task.arc": 0.4,
        "ttft_ms": 12.5,
        "itl_ms": 3.25,
        "tokens_per_s": 456.0,
        "requests_per_s": 456.0 / 32,
    }


def test_the_figures_of_speed_are_those_that_the_bench_compares_by() -> None:
    names = {field.name for field in dataclasses.fields(Figures)}
    assert names <= {figure.name for figure in FIGURES}


def test_what_was_not_measured_is_none() -> None:
    bare = measured(0, {})
    assert {figure.read(bare) for figure in figures_of([bare])} == {None}
    without = measured(0, {}, {**ROW.quality, "ppl_ratio": None, "tools": None}, {"figures": None})
    found = {figure.name: figure.read(without) for figure in FIGURES}
    assert found["ppl"] is not None
    assert (found["ppl_ratio"], found["tool_accuracy"], found["ttft_ms"]) == (None, None, None)


def test_a_figure_that_is_not_a_finite_number_is_none() -> None:
    broken = measured(0, {}, {"perplexity": float("inf"), "kl": float("nan"), "top1": True})
    assert {figure.read(broken) for figure in FIGURES} == {None}


def test_heads_of_csv_have_units() -> None:
    heads = {figure.name: figure.header for figure in figures_of([ROW])}
    assert heads["memory_gib"] == "memory [GiB]"
    assert heads["kl"] == "kl [nat]"
    assert heads["ppl_ratio"] == "ppl_ratio"
    assert heads["ttft_ms"] == "ttft [ms]"
    assert heads["tokens_per_s"] == "tokens [1/s]"
    assert heads["task.arc"] == "task.arc"
    assert len(set(heads.values())) == len(heads)


def test_less_is_better_but_for_shares_and_rates() -> None:
    higher = {figure.name for figure in figures_of([ROW]) if figure.better is Better.high}
    assert higher == {"top1", "tool_accuracy", "task.arc", "tokens_per_s", "requests_per_s"}


def test_the_least_value_of_a_column_keeps_its_digits() -> None:
    memory = FIGURES[0]
    assert memory.places([0.0312, 12.5]) == 4
    assert memory.places([12.5, 125.0]) == 1
    assert memory.places([0.0]) == 2
    assert memory.places([]) == 2
    assert memory.places([1e-12]) == 6


def test_the_help_names_every_figure(tmp_path: Path) -> None:
    listed = texts.VERBS["sweep"].partition("figures: ")[2].replace(",", " ").split()
    assert [name for name in listed if name != "task.NAME"] == [figure.name for figure in FIGURES]
    assert grid(tmp_path).rows
