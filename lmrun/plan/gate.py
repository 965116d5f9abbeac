"""The quality gate: figures of an evaluation against the bounds of `evaluate`. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmrun.config.schema import EvaluateConfig
from lmrun.config.suggest import did_you_mean, listed
from lmrun.errors import ConfigError

TASK = "task."
"""Begins the name of the accuracy of a task: `task.arc`."""
WORDS = {
    "ppl": "perplexity",
    "ppl_ratio": "perplexity ratio to the baseline",
    "kl": "KL divergence",
    "top1": "top-1 agreement",
    "tool_accuracy": "share of right tool calls",
}
"""Figure → what it is in words."""
_BOUNDS = (
    ("ppl", "max_ppl", True),
    ("ppl_ratio", "max_ppl_ratio", True),
    ("kl", "max_kl", True),
    ("top1", "min_top1", False),
    ("tool_accuracy", "min_tool_accuracy", False),
)
COMPARED = ("ppl_ratio", "kl", "top1")
"""Figures that need a baseline."""


@dataclass(frozen=True)
class Gate:
    """One bound, and the figure that is held against it."""

    name: str
    """The figure: `ppl`, `ppl_ratio`, `kl`, `top1`, `task.NAME` or `tool_accuracy`."""
    key: str
    """Dotted key of the bound."""
    bound: float
    is_upper: bool
    """The figure may be at most the bound; else at least."""
    value: float | None
    """None while it is not evaluated, or where the report has no such figure."""
    passed: bool | None
    """None while nothing is evaluated."""

    @property
    def limit(self) -> str:
        """`at most 1.02`."""
        return f"at {'most' if self.is_upper else 'least'} {self.bound:g}"

    @property
    def text(self) -> str:
        """The refusal of a figure that does not pass; it begins with key and value."""
        got = "no such figure" if self.value is None else f"{self.value:.6g}"
        article = "an" if self.name.startswith(TASK) else "a"
        return (
            f"{self.key}={self.bound:g}: expected {article} {words(self.name)} of {self.limit},"
            f" got {got}."
        )


def figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Name → value of the figures of a quality report (`lmrun.evals.report`), absent ones left out.

    `ppl`, `ppl_ratio`, `kl`, `top1`, `task.NAME` for each task, `tool_accuracy`.
    """
    found = {
        "ppl": document.get("perplexity"),
        "ppl_ratio": document.get("ppl_ratio"),
        "kl": document.get("kl"),
        "top1": document.get("top1"),
    }
    found |= {TASK + name: task["accuracy"] for name, task in document.get("tasks", {}).items()}
    tools = document.get("tools")
    found["tool_accuracy"] = tools["accuracy"] if tools else None
    return {name: value for name, value in found.items() if value is not None}


def bounds(evaluate: EvaluateConfig) -> tuple[Gate, ...]:
    """The bounds that are set, with nothing held against them yet."""
    return tuple(_bounds(evaluate))


def check(document: Mapping[str, Any] | None, evaluate: EvaluateConfig) -> tuple[Gate, ...]:
    """Every bound that is set, and whether the figures of a quality report keep it.

    Without a report none is decided. A figure that the report lacks does not pass.
    """
    if document is None:
        return bounds(evaluate)
    known = figures(document)
    return tuple(_held(gate, known.get(gate.name)) for gate in _bounds(evaluate))


def failed(gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """Those whose figure is known and not within the bound."""
    return tuple(gate for gate in gates if gate.passed is False)


def words(name: str) -> str:
    """What a figure is, for a message."""
    return f"accuracy of {name.removeprefix(TASK)}" if name.startswith(TASK) else WORDS[name]


def is_asked(evaluate: EvaluateConfig) -> bool:
    """Whether anything is to be evaluated."""
    return evaluate.data is not None or evaluate.tools is not None or bool(evaluate.tasks)


def check_asked(evaluate: EvaluateConfig) -> None:
    """`ConfigError` for a bound on a figure that nothing evaluates."""
    for gate in _bounds(evaluate):
        missing = _missing(gate, evaluate)
        if missing:
            raise ConfigError(f"{gate.key}={gate.bound:g}: {missing}")


def _missing(gate: Gate, evaluate: EvaluateConfig) -> str | None:
    """What the figure of a gate lacks, and what to do."""
    if gate.name.startswith(TASK):
        name = gate.name.removeprefix(TASK)
        if name in evaluate.tasks:
            return None
        near = did_you_mean(name, evaluate.tasks)
        there = listed(evaluate.tasks, "and") or "none"
        return (
            f"no task of this name is evaluated, evaluate.tasks has {there}.{near}"
            f" Write evaluate.tasks.{name}=FILE."
        )
    if gate.name == "tool_accuracy":
        if evaluate.tools is not None:
            return None
        return "no tool calls are evaluated. Write evaluate.tools=FILE, or evaluate=quick."
    if evaluate.data is None:
        return "no text is evaluated. Write evaluate.data=FILE, or evaluate=quick."
    if gate.name in ("kl", "top1") and evaluate.kl_tokens == 0:
        return "evaluate.kl_tokens=0 compares no distributions. Give it a number of tokens."
    return None


def _bounds(evaluate: EvaluateConfig) -> Iterator[Gate]:
    for name, leaf, is_upper in _BOUNDS:
        bound = getattr(evaluate, leaf)
        if bound is not None:
            yield Gate(name, f"evaluate.{leaf}", bound, is_upper, None, None)
    for task, bound in sorted(evaluate.min_task_accuracy.items()):
        key = f"evaluate.min_task_accuracy.{task}"
        yield Gate(TASK + task, key, bound, is_upper=False, value=None, passed=None)


def _held(gate: Gate, value: float | None) -> Gate:
    passed = value is not None and (value <= gate.bound if gate.is_upper else value >= gate.bound)
    return Gate(gate.name, gate.key, gate.bound, gate.is_upper, value, passed)
