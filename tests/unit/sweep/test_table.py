"""The conclusion in a terminal."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from lmrun.sweep.conclusion import conclude
from lmrun.sweep.rows import Row, Status
from lmrun.sweep.table import terminal_text, text
from unit.sweep.grid import bench, grid, measured, quality, row, sweep, with_status

BOLD = "\x1b[1m"


def small(folder: Path) -> list[Row]:
    """Three measured points and one of each other end."""
    settings = [(16, "none", 128), (8, "awq", 128), (8, "rtn", 128), (4, "awq", 128)]
    rows = [
        row(index, dict(zip(("kv.bits", "quant.method", "quant.group_size"), one, strict=True)))
        for index, one in enumerate([*settings, (4, "rtn", 128), (4, "rtn", 64), (4, "rtn", 32)])
    ]
    rows[3] = with_status(rows[3], Status.gate_failed, "evaluate.max_kl=0.02: got 0.031")
    failed = with_status(rows[4], Status.failed, "bench: the engine died")
    rows[4] = replace(failed, log=Path("/logs/000000000004.log"))
    rows[5] = with_status(rows[5], Status.skipped, "needs 9.1 GiB, device has 7.8 GiB.")
    rows[6] = with_status(rows[6], Status.waiting, "")
    return rows


def test_the_table_word_for_word(tmp_path: Path) -> None:
    shown = text(conclude(sweep(tmp_path / "0123456789ab", small(tmp_path))), width=80)
    assert (
        shown
        == """\
sweep 0123456789ab: 7 points; 3 ok, 1 gate failed, 1 failed, 1 skipped, 1 waiting

      kv.  quant.      quant.  memory  ppl change      KL  TTFT  tokens/s
     bits  method  group_size     GiB           %     nat    ms       1/s
1 *    16  none           128  0.1172       +0.00  0.0000  18.0     250.0
2 *     8  awq            128  0.0674       +2.64  0.0238  12.6     648.6
3       8  rtn            128  0.0674       +3.94  0.0355  12.6     648.6
4       4  awq            128  0.0635       +3.60  0.0324  12.7     827.6

* Pareto front: no other point is as good in memory_gib, ppl_ratio, ttft_ms and tokens_per_s, and\
 better in one.
ppl change: of the perplexity against the unquantized model (ppl_ratio − 1).
left out for the width: weights_gib, kv_gib, ppl, top1, tool_accuracy, itl_ms, requests_per_s.\
 --csv has all.
not on the front: 4, gate failed: evaluate.max_kl=0.02: got 0.031

failed:
  5  kv.bits=4 quant.method=rtn quant.group_size=128: bench: the engine died
     log: /logs/000000000004.log

skipped:
  6  kv.bits=4 quant.method=rtn quant.group_size=64: needs 9.1 GiB, device has 7.8 GiB.

not run yet:
  7  kv.bits=4 quant.method=rtn quant.group_size=32
"""
    )


def test_a_wide_table_has_every_figure_and_is_the_same_each_time(tmp_path: Path) -> None:
    found = conclude(grid(tmp_path))
    shown = text(found)
    head = shown.splitlines()[2]
    for title in (
        "memory",
        "weights",
        "KV cache",
        "perplexity",
        "top-1",
        "tool calls",
        "requests/s",
    ):
        assert title in head
    assert shown == text(conclude(grid(tmp_path)))
    assert "left out" not in shown


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_lines_fit_the_width_where_columns_can_be_left_out(tmp_path: Path, width: int) -> None:
    lines = text(conclude(grid(tmp_path)), width=width).splitlines()
    table = lines[2 : lines.index("", 2)]
    assert len({len(line) for line in table}) == 1
    assert len(table[0]) <= max(width, 60)
    assert all(name in lines[2] for name in ("memory", "ppl change", "tokens/s"))


def test_repetitions_show_mean_and_deviation(tmp_path: Path) -> None:
    rows = [
        measured(seed, {"kv.bits": 8, "bench.seed": seed}, quality(1.01), bench(10 + seed, 2, 500))
        for seed in range(3)
    ]
    shown = text(conclude(sweep(tmp_path, rows)))
    assert "11.0 ±1.0" in shown
    assert "+1.00 " in shown
    assert "±0.0 " not in shown
    assert (
        "± sample standard deviation over the seeds; the figure before it is their mean." in shown
    )
    assert "seeds" in shown.splitlines()[3]


def test_lines_of_the_front_are_bold_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    found = conclude(grid(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal_text(found, Terminal()).count(BOLD) == len(found.pareto)
    assert BOLD not in terminal_text(found, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert BOLD not in terminal_text(found, Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert BOLD not in terminal_text(found, Terminal())


def test_columns_of_the_environment_is_the_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = conclude(grid(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_text(found, io.StringIO()) == text(found)
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal_text(found, io.StringIO()) == text(found, width=80)
    monkeypatch.setenv("COLUMNS", "wide")
    assert terminal_text(found, io.StringIO()) == text(found)


def test_a_sweep_without_figures_lists_what_became_of_its_points(tmp_path: Path) -> None:
    rows = [with_status(one, Status.skipped, "too large") for one in grid(tmp_path).rows[:2]]
    assert (
        text(conclude(sweep(tmp_path / "0123456789ab", rows)))
        == """\
sweep 0123456789ab: 2 points; 2 skipped

skipped:
  1  kv.bits=16 quant.method=none quant.group_size=32: too large
  2  kv.bits=16 quant.method=none quant.group_size=64: too large
"""
    )


def test_missing_figures_are_dashes(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows[:2])
    rows[1] = replace(rows[1], bench=None)
    shown = text(conclude(sweep(tmp_path, rows)))
    assert shown.splitlines()[5].count("–") == 4
    assert "not on the front: 2, no ttft_ms, tokens_per_s" in shown


def test_one_figure_makes_no_front(tmp_path: Path) -> None:
    rows = [replace(one, quality=None, bench=None) for one in grid(tmp_path).rows]
    shown = text(conclude(sweep(tmp_path, rows)))
    assert "* best in memory_gib, the one figure that there is to compare." in shown
