"""What a sweep found: repetitions together, the front, and what stands off it."""

import statistics
from dataclasses import replace
from pathlib import Path

from lmrun.sweep.conclusion import conclude, settings_text, value_text
from lmrun.sweep.rows import Row, Status, read_sweep, write_row, write_sweep
from unit.sweep.grid import bench, grid, measured, quality, row, sweep, with_status


def seeds(bits: int, key: str = "calibration.seed") -> list[Row]:
    """Three repetitions."""
    template = row(0, {"kv.bits": bits, "quant.method": "awq", "quant.group_size": 64})
    return [
        measured(
            bits * 10 + seed,
            {"kv.bits": bits, key: seed},
            quality(1.01 + seed / 1000),
            bench(10 + seed, 2, 500),
            template.memory,
        )
        for seed in range(3)
    ]


def test_a_point_that_is_best_in_one_figure_is_on_the_front(tmp_path: Path) -> None:
    found = conclude(grid(tmp_path))
    numbers = {entry.number for entry in found.pareto}
    for figure in found.front:
        best = figure.best(entry.values[figure.name].mean for entry in found.entries)
        holders = {e.number for e in found.entries if e.values[figure.name].mean == best}
        assert holders & numbers
    assert [figure.name for figure in found.front] == [
        "memory_gib",
        "ppl_ratio",
        "ttft_ms",
        "tokens_per_s",
    ]


def test_a_beaten_point_names_one_of_the_front_that_beats_it(tmp_path: Path) -> None:
    found = conclude(grid(tmp_path))
    by_number = {entry.number: entry for entry in found.entries}
    beaten = [entry for entry in found.entries if not entry.is_pareto]
    assert beaten
    for entry in beaten:
        assert entry.off_front is not None
        rival = by_number[int(entry.off_front.removeprefix("beaten by "))]
        assert rival.is_pareto
        for figure in found.front:
            one, other = rival.values[figure.name].mean, entry.values[figure.name].mean
            assert one == other or figure.is_better(one, other)


def test_points_that_differ_in_seeds_alone_are_one_entry(tmp_path: Path) -> None:
    rows = [*seeds(8), *seeds(4)]
    found = conclude(sweep(tmp_path, rows))
    assert [len(entry.rows) for entry in found.entries] == [3, 3]
    assert found.keys == ("kv.bits",)
    ratio = found.entries[0].values["ppl_ratio"]
    values = [1.01, 1.011, 1.012]
    assert (ratio.mean, ratio.count) == (sum(values) / 3, 3)
    assert ratio.deviation == statistics.stdev(values)
    assert found.entries[0].values["tokens_per_s"].deviation == 0


def test_any_key_named_seed_is_a_seed(tmp_path: Path) -> None:
    rows = seeds(8, "bench.seed")
    assert len(conclude(sweep(tmp_path, rows)).entries) == 1


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    found = conclude(sweep(tmp_path, seeds(8)[:1]))
    assert found.entries[0].values["ppl"].deviation is None
    assert not found.has_repetitions


def test_a_failed_repetition_does_not_lose_the_others(tmp_path: Path) -> None:
    rows = seeds(8)
    rows[1] = with_status(rows[1], Status.failed, "bench: the engine died")
    found = conclude(sweep(tmp_path, rows))
    assert [len(entry.rows) for entry in found.entries] == [2]
    assert [one.why for one in found.left_out] == ["bench: the engine died"]


def test_a_gate_that_failed_keeps_a_point_off_the_front(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows)
    best = min(rows, key=lambda one: one.memory.total_bytes if one.memory else 0)
    rows[best.point.index] = with_status(best, Status.gate_failed, "max_kl=0.01: got 0.02")
    found = conclude(sweep(tmp_path, rows))
    entry = next(e for e in found.entries if e.number == best.point.index + 1)
    assert entry.off_front == "gate failed: max_kl=0.01: got 0.02"
    assert all(e.off_front != f"beaten by {entry.number}" for e in found.entries)


def test_a_point_without_a_figure_of_the_front_is_off_it(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows)
    rows[0] = replace(rows[0], bench=None)
    found = conclude(sweep(tmp_path, rows))
    assert found.entries[0].off_front == "no ttft_ms, tokens_per_s"


def test_the_front_is_over_the_figures_at_hand(tmp_path: Path) -> None:
    built = [replace(one, quality=None, bench=None) for one in grid(tmp_path).rows]
    found = conclude(sweep(tmp_path, built))
    assert [figure.name for figure in found.front] == ["memory_gib"]
    least = min(one.memory.total_bytes for one in built if one.memory)
    assert all(e.rows[0].memory and e.rows[0].memory.total_bytes == least for e in found.pareto)


def test_without_a_baseline_perplexity_is_the_quality(tmp_path: Path) -> None:
    rows = [
        replace(one, quality={**one.quality, "ppl_ratio": None, "kl": None, "top1": None})
        for one in grid(tmp_path).rows
        if one.quality
    ]
    names = [figure.name for figure in conclude(sweep(tmp_path, rows)).front]
    assert names == ["memory_gib", "ppl", "ttft_ms", "tokens_per_s"]


def test_tasks_are_the_quality_where_there_is_nothing_else(tmp_path: Path) -> None:
    tasks = quality(1.0, tasks={"arc": 0.4, "gsm8k": 0.1})["tasks"]
    rows = [measured(0, {"kv.bits": 8}, {"tasks": tasks}), measured(1, {"kv.bits": 4})]
    found = conclude(sweep(tmp_path, rows))
    assert [figure.name for figure in found.front] == ["task.arc", "task.gsm8k"]
    assert found.entries[1].off_front == "no task.arc, task.gsm8k"


def test_a_sweep_that_measured_nothing_yet_has_no_entries(tmp_path: Path) -> None:
    rows = [with_status(one, Status.waiting, "") for one in grid(tmp_path).rows]
    found = conclude(sweep(tmp_path, rows))
    assert (found.entries, found.figures, found.front, found.pareto) == ((), (), (), ())
    assert len(found.left_out) == 27


def test_keys_keep_the_order_of_the_command_line_through_a_file(tmp_path: Path) -> None:
    made = grid(tmp_path / "0123456789ab")
    write_sweep(made)
    for one in made.rows:
        write_row(made, one)
    read = conclude(read_sweep(made.folder))
    assert read.keys == ("kv.bits", "quant.method", "quant.group_size")
    assert read.entries[0].name == "kv.bits=16 quant.method=none quant.group_size=32"
    assert [e.values for e in read.entries] == [e.values for e in conclude(made).entries]


def test_figures_of_other_tokens_loads_and_machines_are_told_apart(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows)
    assert conclude(sweep(tmp_path, rows)).notes == ()
    first, speed = rows[0].quality, rows[0].bench
    assert first is not None
    assert speed is not None
    rows[0] = replace(
        rows[0],
        quality={**first, "protocol": {**first["protocol"], "window": 128}},
        bench={
            **speed,
            "asked": {**speed["asked"], "requests": 9},
            "machine": None,
            "complete": False,
        },
    )
    assert conclude(sweep(tmp_path, rows)).notes == (
        "The points were not evaluated on the same tokens, so that their perplexities cannot be"
        " compared.",
        "The points were not measured under the same load (bench.*).",
        "The points were not measured on the same machine.",
        "Some measurements of speed ended early; the points' logs say why.",
    )
    other = {**first, "baseline": {**first["baseline"], "perplexity": 7.0}}
    rows[0] = replace(grid(tmp_path).rows[0], quality=other)
    assert conclude(sweep(tmp_path, rows)).notes == (
        "The points have different baselines: ppl_ratio and kl compare each with its own model.",
    )


def test_values_are_written_as_on_a_command_line() -> None:
    settings = {"a": None, "b": True, "c": [1, "x"], "d": {"k": 0.5}, "e": "none"}
    assert settings_text(settings) == "a=null b=true c=[1,x] d={k:0.5} e=none"
    assert value_text(0.7) == "0.7"
