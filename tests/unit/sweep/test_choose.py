"""`--choose`: its grammar, its refusals word for word, and the point it takes."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmrun.errors import ExitStatus, PlanError, UsageError
from lmrun.sweep.choose import Condition, Goal, check_expression, choose, parse
from lmrun.sweep.conclusion import Conclusion, conclude
from lmrun.sweep.figures import FIGURES
from lmrun.sweep.rows import Status
from unit.sweep.grid import bench, grid, measured, quality, sweep, with_status

LEGAL = [figure.name for figure in FIGURES]
FORM = "Write: max|min FIGURE [where FIGURE <|<=|>|>=|== NUMBER [and ...]]."
FIGURE_LIST = (
    "Figures: memory_gib, weights_gib, kv_gib, ppl, ppl_ratio, kl, top1, tool_accuracy, ttft_ms,"
    " itl_ms, tokens_per_s, requests_per_s."
)


@pytest.fixture
def conclusion(tmp_path: Path) -> Conclusion:
    """Of the worked example's shape."""
    return conclude(grid(tmp_path))


def test_an_expression_is_read() -> None:
    goal = parse("max tokens_per_s where ppl_ratio < 1.02 and memory_gib<=8", LEGAL)
    conditions = (Condition("ppl_ratio", "<", 1.02), Condition("memory_gib", "<=", 8.0))
    assert goal == Goal(True, "tokens_per_s", conditions)
    assert str(goal) == "max tokens_per_s where ppl_ratio < 1.02 and memory_gib <= 8"
    assert parse(" min  kl ", LEGAL) == Goal(False, "kl", ())
    assert parse("min kl where top1>=.9 and ttft_ms==1e2", LEGAL).conditions[1].bound == 100


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", f"choose: expected max or min, got the end. {FORM}"),
        ("best kl", f"choose: expected max or min, got 'best'. {FORM}"),
        ("max", f"choose: expected a figure, got the end. {FIGURE_LIST}"),
        (
            "max token_per_s",
            "choose: expected a figure, got 'token_per_s'. Did you mean tokens_per_s?"
            f" {FIGURE_LIST}",
        ),
        (
            "max kl if top1 > 1",
            f"choose: expected where, or the end, after kl, got 'if'. {FORM}",
        ),
        ("max kl where", f"choose: expected a figure, got the end. {FIGURE_LIST}"),
        (
            "max kl where ppl = 3",
            "choose: expected <, <=, >, >= or == after ppl, got '='.",
        ),
        ("max kl where ppl <", "choose: expected a number after ppl <, got the end."),
        ("max kl where ppl < nan", "choose: expected a number after ppl <, got 'nan'."),
        ("max kl where ppl < kl", "choose: expected a number after ppl <, got 'kl'."),
        (
            "max kl where memory_gib < 8 GiB",
            "choose: expected and, or the end, after memory_gib < 8, got 'GiB'. Numbers have no"
            f" unit. {FORM}",
        ),
        (
            "max kl where ppl < 3 or ppl > 4",
            "choose: expected and, or the end, after ppl < 3, got 'or'. There is no or: ask"
            f" twice. {FORM}",
        ),
        (
            "max kl where ppl < 3 < 4",
            f"choose: expected and, or the end, after ppl < 3, got '<'. {FORM}",
        ),
        ("max kl where ppl < 3 and", f"choose: expected a figure, got the end. {FIGURE_LIST}"),
        ("max kl, ppl", f"choose: expected a figure, got 'kl,'. Did you mean kl? {FIGURE_LIST}"),
    ],
)
def test_what_is_no_expression_is_refused_where_it_stops(expression: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(expression, LEGAL)
    assert str(caught.value) == message
    assert caught.value.status is ExitStatus.USAGE


@given(
    st.lists(
        st.sampled_from(
            ["max", "min", "where", "and", "or", "<", ">=", "=", "kl", "ppl", "1e9", "x"]
        )
    )
)
def test_any_words_are_an_expression_or_refused(words: list[str]) -> None:
    try:
        goal = parse(" ".join(words), LEGAL)
    except UsageError as error:
        assert str(error).startswith("choose: expected ")
    else:
        assert parse(str(goal), LEGAL) == goal


def test_the_best_point_within_the_bounds_is_taken(conclusion: Conclusion) -> None:
    chosen = choose(conclusion, "max tokens_per_s where ppl_ratio < 1.02 and memory_gib < 8")
    assert chosen.entry.settings == {
        "kv.bits": 8,
        "quant.method": "awq",
        "quant.group_size": 32,
    }
    allowed = [e for e in conclusion.entries if e.values["ppl_ratio"].mean < 1.02]
    assert chosen.candidates == len(allowed)
    fastest = max(e.values["tokens_per_s"].mean for e in allowed)
    assert chosen.entry.values["tokens_per_s"].mean == fastest
    assert chosen.why == (
        f"tokens_per_s 600 is the most of {len(allowed)} points with ppl_ratio < 1.02 and"
        " memory_gib < 8."
    )


def test_min_takes_the_least(conclusion: Conclusion) -> None:
    chosen = choose(conclusion, "min memory_gib")
    least = min(e.values["memory_gib"].mean for e in conclusion.entries)
    assert chosen.entry.values["memory_gib"].mean == least


def test_a_bound_is_strict_where_it_says_so(conclusion: Conclusion) -> None:
    bound = conclusion.entries[0].values["memory_gib"].mean
    most = choose(conclusion, f"max memory_gib where memory_gib <= {bound!r}")
    below = choose(conclusion, f"max memory_gib where memory_gib < {bound!r}")
    assert most.entry.values["memory_gib"].mean == bound
    assert below.entry.values["memory_gib"].mean < bound


def test_of_equal_points_that_of_fewer_bytes_is_taken_then_of_less_perplexity(
    tmp_path: Path,
) -> None:
    rows = list(grid(tmp_path).rows)
    alike = [replace(one, bench=bench(10, 2, 500)) for one in rows]
    chosen = choose(conclude(sweep(tmp_path, alike)), "max tokens_per_s")
    assert chosen.entry.settings == {
        "kv.bits": 4,
        "quant.method": "awq",
        "quant.group_size": 128,
    }
    assert len(chosen.ties) == 26
    assert chosen.why.startswith("tokens_per_s 500 is the most of 27 points; as good as 1, 2, ")
    assert chosen.why.endswith("and taken for fewer bytes, then less perplexity.")


def test_equal_in_everything_the_first_is_taken(tmp_path: Path) -> None:
    rows = [measured(n, {"kv.bits": n}, quality(1.0), bench(1, 1, 5)) for n in (0, 1)]
    assert choose(conclude(sweep(tmp_path, rows)), "min kl").entry.number == 1


def test_a_point_that_failed_its_gate_is_not_taken(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows)
    before = choose(conclude(sweep(tmp_path, rows)), "max tokens_per_s").entry.number
    rows[before - 1] = with_status(rows[before - 1], Status.gate_failed, "worse")
    assert choose(conclude(sweep(tmp_path, rows)), "max tokens_per_s").entry.number != before


def test_a_point_without_the_figure_is_passed_over(tmp_path: Path) -> None:
    rows = list(grid(tmp_path).rows)
    rows[:9] = [replace(one, quality=None) for one in rows[:9]]
    chosen = choose(conclude(sweep(tmp_path, rows)), "min ppl_ratio")
    assert chosen.entry.number > 9
    assert chosen.candidates == 18


def test_where_no_point_meets_it_the_nearest_is_named(conclusion: Conclusion) -> None:
    with pytest.raises(PlanError) as caught:
        choose(conclusion, "max tokens_per_s where ppl_ratio < 1.0 and memory_gib < 8")
    assert str(caught.value) == (
        "choose: no point of 27 has ppl_ratio < 1 and memory_gib < 8. Nearest: 1 (kv.bits=16"
        " quant.method=none quant.group_size=32) with ppl_ratio 1."
    )
    assert caught.value.status is ExitStatus.REFUSED


def test_a_figure_that_no_point_has_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    rows = [replace(one, bench=None) for one in grid(tmp_path).rows]
    with pytest.raises(PlanError) as caught:
        choose(conclude(sweep(tmp_path, rows)), "max tokens_per_s")
    assert str(caught.value) == (
        "choose: tokens_per_s: no point of this sweep has it. Figures here: memory_gib,"
        " weights_gib, kv_gib, ppl, ppl_ratio, kl, top1, tool_accuracy."
    )


def test_figures_that_no_one_point_has_together_are_refused(tmp_path: Path) -> None:
    rows = [
        measured(0, {"kv.bits": 8}, quality(1.0)),
        measured(1, {"kv.bits": 4}, None, bench(1, 1, 5)),
    ]
    with pytest.raises(PlanError) as caught:
        choose(conclude(sweep(tmp_path, rows)), "max tokens_per_s where ppl < 9")
    assert str(caught.value) == (
        "choose: no point that passed its gate has tokens_per_s and ppl. `lmrun sweep show` lists"
        " the points and what each lacks."
    )


def test_tasks_can_be_asked_for(tmp_path: Path) -> None:
    rows = [measured(n, {"kv.bits": n}, quality(1.0, tasks={"arc-easy": n / 10})) for n in range(4)]
    chosen = choose(conclude(sweep(tmp_path, rows)), "max task.arc-easy where task.arc-easy<0.25")
    assert chosen.entry.number == 3


def test_an_expression_can_be_checked_before_there_is_a_sweep() -> None:
    check_expression("max task.arc where task.gsm8k > 0.1 and ppl < 9")
    with pytest.raises(UsageError, match=r"expected a figure, got 'task\.'"):
        check_expression("max task.")
    with pytest.raises(UsageError, match="Did you mean tokens_per_s"):
        check_expression("max token_per_s")
