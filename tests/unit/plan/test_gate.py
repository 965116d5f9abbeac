"""The quality gate: which figures are held against which bounds, and what is said of them."""

from typing import Any

import pytest

from lmrun.config.schema import EvaluateConfig
from lmrun.errors import ConfigError
from lmrun.plan import gate

TASK = {"accuracy": 0.25, "accuracy_standard_error": 0.1, "items": 20}
REPORT: dict[str, Any] = {
    "perplexity": 5.0,
    "ppl_ratio": 1.03,
    "kl": 0.02,
    "top1": 0.9,
    "tasks": {"arc": TASK},
    "tools": {"accuracy": 0.75},
}
EVERYTHING = EvaluateConfig(
    data="builtin:stories",
    tasks={"arc": "arc.jsonl"},
    tools="builtin:tools",
    max_ppl=6.0,
    max_ppl_ratio=1.02,
    max_kl=0.02,
    min_top1=0.95,
    min_task_accuracy={"arc": 0.25},
    min_tool_accuracy=0.8,
)


def test_every_bound_is_held_against_its_figure_and_the_bound_itself_passes() -> None:
    held = {one.name: (one.value, one.passed) for one in gate.check(REPORT, EVERYTHING)}
    assert held == {
        "ppl": (5.0, True),
        "ppl_ratio": (1.03, False),
        "kl": (0.02, True),
        "top1": (0.9, False),
        "tool_accuracy": (0.75, False),
        "task.arc": (0.25, True),
    }


def test_without_a_report_nothing_is_decided() -> None:
    gates = gate.check(None, EVERYTHING)
    assert {(one.value, one.passed) for one in gates} == {(None, None)}
    assert gate.failed(gates) == ()


def test_a_bound_whose_figure_the_report_lacks_does_not_pass() -> None:
    (one,) = gate.check({**REPORT, "kl": None}, EvaluateConfig(data="x", max_kl=1.0))
    assert one.passed is False
    assert one.text == (
        "evaluate.max_kl=1: expected a KL divergence of at most 1, got no such figure."
    )


def test_a_figure_that_is_no_number_does_not_pass() -> None:
    (one,) = gate.check({**REPORT, "perplexity": float("nan")}, EvaluateConfig(data="x", max_ppl=9))
    assert one.passed is False


def test_only_what_is_set_is_a_bound() -> None:
    assert gate.check(REPORT, EvaluateConfig(data="builtin:stories")) == ()


def test_the_refusal_names_key_bound_and_figure() -> None:
    texts = [one.text for one in gate.failed(gate.check(REPORT, EVERYTHING))]
    assert texts == [
        "evaluate.max_ppl_ratio=1.02: expected a perplexity ratio to the baseline of at most 1.02,"
        " got 1.03.",
        "evaluate.min_top1=0.95: expected a top-1 agreement of at least 0.95, got 0.9.",
        "evaluate.min_tool_accuracy=0.8: expected a share of right tool calls of at least 0.8,"
        " got 0.75.",
    ]


MISSING = {
    "evaluate.max_ppl=9: no text is evaluated. Write evaluate.data=FILE, or evaluate=quick.": (
        EvaluateConfig(max_ppl=9)
    ),
    "evaluate.max_kl=0.1: evaluate.kl_tokens=0 compares no distributions. Give it a number of"
    " tokens.": EvaluateConfig(data="x.txt", kl_tokens=0, max_kl=0.1),
    "evaluate.min_tool_accuracy=0.5: no tool calls are evaluated. Write evaluate.tools=FILE, or"
    " evaluate=quick.": EvaluateConfig(data="x.txt", min_tool_accuracy=0.5),
    "evaluate.min_task_accuracy.ark=0.3: no task of this name is evaluated, evaluate.tasks has arc."
    " Did you mean arc? Write evaluate.tasks.ark=FILE.": EvaluateConfig(
        tasks={"arc": "a.jsonl"}, min_task_accuracy={"ark": 0.3}
    ),
    "evaluate.min_task_accuracy.arc=0.3: no task of this name is evaluated, evaluate.tasks has"
    " none. Write evaluate.tasks.arc=FILE.": EvaluateConfig(min_task_accuracy={"arc": 0.3}),
}


@pytest.mark.parametrize("message", MISSING)
def test_a_bound_on_what_is_not_evaluated_is_refused(message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gate.check_asked(MISSING[message])
    assert str(caught.value) == message


def test_bounds_on_what_is_evaluated_are_legal() -> None:
    gate.check_asked(EVERYTHING)
    gate.check_asked(EvaluateConfig(data="x.txt", kl_tokens=0, max_ppl_ratio=1.1))
