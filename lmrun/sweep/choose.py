"""`--choose 'max tokens_per_s where ppl_ratio < 1.02 and memory_gib < 8'`: one point of a sweep.

    (max | min) FIGURE [where FIGURE OP NUMBER {and FIGURE OP NUMBER}]      OP: < <= > >= ==

A point without one of the figures, or that failed its gate, is not chosen. Of equal points the one
of fewer bytes is taken, then the one of less perplexity (`ppl_ratio`, then `ppl`), then the first.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from lmrun.config.suggest import did_you_mean, listed
from lmrun.errors import PlanError, UsageError
from lmrun.sweep.conclusion import Conclusion, Entry
from lmrun.sweep.figures import FIGURES, TASK

GOALS = ("max", "min")
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
TIES = ("memory_gib", "ppl_ratio", "ppl")
"""Of equal points the one with the least is taken, figure by figure."""
_FORM = "Write: max|min FIGURE [where FIGURE <|<=|>|>=|== NUMBER [and ...]]."
_TOKEN = re.compile(r"\s*(<=|>=|==|[<>]|[^\s<>=]+|=)")


@dataclass(frozen=True)
class Condition:
    """A bound on a figure."""

    figure: str
    operator: str
    bound: float

    def holds(self, entry: Entry) -> bool:
        """Of a point that has the figure."""
        return OPERATORS[self.operator](entry.values[self.figure].mean, self.bound)

    def __str__(self) -> str:
        return f"{self.figure} {self.operator} {self.bound:.12g}"


@dataclass(frozen=True)
class Goal:
    """A parsed expression."""

    is_max: bool
    figure: str
    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        where = " and ".join(map(str, self.conditions))
        return f"{GOALS[not self.is_max]} {self.figure}{' where ' if where else ''}{where}"


@dataclass(frozen=True)
class Chosen:
    """A point, and why it was taken."""

    entry: Entry
    goal: Goal
    candidates: int
    """Points that met every condition."""
    ties: tuple[Entry, ...]
    """Others that are as good in the goal's figure."""

    @property
    def why(self) -> str:
        """One sentence."""
        value = self.entry.values[self.goal.figure].mean
        least = "most" if self.goal.is_max else "least"
        text = (
            f"{self.goal.figure} {value:.4g} is the {least} of {self.candidates}"
            f" {'point' if self.candidates == 1 else 'points'}"
        )
        if self.goal.conditions:
            text += f" with {' and '.join(map(str, self.goal.conditions))}"
        if self.ties:
            numbers = listed([entry.number for entry in self.ties], "and")
            text += f"; as good as {numbers}, and taken for fewer bytes, then less perplexity"
        return f"{text}."


def choose(conclusion: Conclusion, expression: str) -> Chosen:
    """The point that an expression picks; figures of repetitions are their means.

    Raises `UsageError` for an expression that cannot be read, `PlanError` where no point meets it,
    with the one that misses least.
    """
    goal = parse(expression, [figure.name for figure in conclusion.legal])
    names = list(dict.fromkeys([goal.figure, *(one.figure for one in goal.conditions)]))
    _check_are_known(names, conclusion)
    complete = [
        entry
        for entry in conclusion.entries
        if entry.passed and all(name in entry.values for name in names)
    ]
    if not complete:
        raise PlanError(
            f"choose: no point that passed its gate has {listed(names, 'and')}. `lmrun sweep show`"
            " lists the points and what each lacks."
        )
    fitting = [entry for entry in complete if all(c.holds(entry) for c in goal.conditions)]
    if not fitting:
        raise PlanError(_nearest_miss(goal, complete))
    best = (max if goal.is_max else min)(entry.values[goal.figure].mean for entry in fitting)
    equal = [entry for entry in fitting if entry.values[goal.figure].mean == best]
    chosen = min(equal, key=_tie_order)
    ties = tuple(entry for entry in equal if entry is not chosen)
    return Chosen(chosen, goal, len(fitting), ties)


def check_expression(expression: str) -> None:
    """Raise `UsageError` for what no sweep could read; the names of tasks are taken on trust."""
    tasks = [word for word in _TOKEN.findall(expression) if word.startswith(TASK) and word != TASK]
    parse(expression, [*(figure.name for figure in FIGURES), *tasks])


def parse(expression: str, legal: Sequence[str]) -> Goal:
    """Read an expression; `UsageError` says where it stops being one, and what is legal there."""
    words = _Words(_TOKEN.findall(expression))
    goal = words.take()
    if goal not in GOALS:
        raise UsageError(f"choose: expected max or min, got {_shown(goal)}. {_FORM}")
    figure = _figure(words.take(), legal)
    conditions: list[Condition] = []
    joint = words.take()
    if joint is not None and joint != "where":
        raise UsageError(
            f"choose: expected where, or the end, after {figure}, got {joint!r}. {_FORM}"
        )
    while joint is not None:
        conditions.append(_condition(words, legal))
        joint = words.take()
        if joint not in (None, "and"):
            advice = " Numbers have no unit." if joint[:1].isalpha() else ""
            if joint == "or":
                advice = " There is no or: ask twice."
            raise UsageError(
                f"choose: expected and, or the end, after {conditions[-1]}, got"
                f" {joint!r}.{advice} {_FORM}"
            )
    return Goal(goal == "max", figure, tuple(conditions))


@dataclass
class _Words:
    left: list[str]

    def take(self) -> str | None:
        """The next word; None at the end."""
        return self.left.pop(0) if self.left else None


def _condition(words: _Words, legal: Sequence[str]) -> Condition:
    figure = _figure(words.take(), legal)
    sign = words.take()
    if sign is None or sign not in OPERATORS:
        raise UsageError(
            f"choose: expected {listed(OPERATORS)} after {figure}, got {_shown(sign)}."
        )
    number = words.take()
    try:
        bound = float(number or "")
        if isnan(bound):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"choose: expected a number after {figure} {sign}, got {_shown(number)}."
        ) from None
    return Condition(figure, sign, bound)


def _figure(word: str | None, legal: Sequence[str]) -> str:
    if word is not None and word in legal:
        return word
    near = did_you_mean(word, legal) if word is not None else ""
    raise UsageError(
        f"choose: expected a figure, got {_shown(word)}.{near} Figures: {', '.join(legal)}."
    )


def _shown(word: str | None) -> str:
    return "the end" if word is None else repr(word)


def _check_are_known(names: Sequence[str], conclusion: Conclusion) -> None:
    here = [figure.name for figure in conclusion.figures]
    for name in names:
        if name not in here:
            advice = f" Figures here: {', '.join(here)}." if here else ""
            raise PlanError(f"choose: {name}: no point of this sweep has it.{advice}")


def _tie_order(entry: Entry) -> tuple[float, ...]:
    found = (entry.mean(name) for name in TIES)
    return (*(float("inf") if value is None else value for value in found), entry.number)


def _nearest_miss(goal: Goal, entries: Sequence[Entry]) -> str:
    nearest = min(entries, key=lambda entry: (_miss(goal, entry), entry.number))
    missed = [condition for condition in goal.conditions if not condition.holds(nearest)]
    values = listed([f"{c.figure} {nearest.values[c.figure].mean:.5g}" for c in missed], "and")
    return (
        f"choose: no point of {len(entries)} has {' and '.join(map(str, goal.conditions))}."
        f" Nearest: {nearest.number} ({nearest.name}) with {values}."
    )


def _miss(goal: Goal, entry: Entry) -> float:
    """How far it is from meeting every condition: the sum of what is missing, as shares of the
    bounds."""
    return sum(
        abs(entry.values[one.figure].mean - one.bound) / (abs(one.bound) or 1.0)
        for one in goal.conditions
        if not one.holds(entry)
    )
