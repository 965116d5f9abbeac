"""Expressions of one or two operations, the functions for them, and requests in signs and words."""

import random
from dataclasses import dataclass
from typing import Any

from lmrun.demo.generate import slots, variety
from lmrun.demo.generate.functions import Builder
from lmrun.demo.generate.lists import Lists, Operation
from lmrun.demo.generate.naming import style_name

Number = int | float


@dataclass(frozen=True)
class Step:
    """One call: the operation, its operands in the order they are passed, and what comes out."""

    operation: Operation
    left: Number
    right: Number
    value: Number

    @property
    def text(self) -> str:
        """As in 3+5."""
        return f"{self.left}{self.operation.sign}{self.right}"


@dataclass(frozen=True)
class Expression:
    """A request and the steps that answer it."""

    text: str
    steps: tuple[Step, ...]


def function(rng: random.Random, builder: Builder, operation: Operation) -> dict[str, Any]:
    """A function of two numbers for an operation."""
    lists = builder.lists
    names = rng.choice(lists.operand_names)
    name = slots.pick(rng, operation.names)
    described_as = slots.pick(rng, operation.descriptions)
    if builder.is_varied:
        vocabulary = builder.vocabulary
        if rng.random() < 0.65:
            while set(names := variety.operand_names(rng, vocabulary)) & set(builder.taken):
                pass
        if rng.random() < 0.75:
            described_as = variety.operation_description(rng, operation.sign, names)
        if rng.random() < 0.6:
            told = described_as if rng.random() < 0.7 else ""
            name = builder.free(lambda: style_name(rng, variety.name_parts(rng, told, vocabulary)))
        if rng.random() < 0.25:
            described_as = variety.description(rng, described_as, vocabulary)
    described = rng.choice(lists.operand_descriptions) if rng.random() < 0.7 else ("", "")
    kind = rng.choice(("integer", "number", "number"))
    properties: dict[str, Any] = {}
    for operand_name, text in zip(names, described, strict=True):
        properties[operand_name] = {"type": kind, **({"description": text} if text else {})}
    return {
        "name": name,
        "description": described_as,
        "parameters": {"type": "object", "properties": properties, "required": list(names)},
    }


def arguments(made: dict[str, Any], step: Step) -> dict[str, Number]:
    """The arguments of a step's call of a function made by `function`."""
    first, second = made["parameters"]["properties"]
    return {first: step.left, second: step.right}


def compute(sign: str, left: Number, right: Number) -> Number:
    """The value of an operation; whole where it is whole, else at most four decimals."""
    value: Number
    if sign == "+":
        value = left + right
    elif sign == "-":
        value = left - right
    elif sign == "*":
        value = left * right
    elif sign == "/":
        value = left / right
    elif sign == "**":
        value = left**right
    else:
        value = left % right
    value = round(value, 4)
    return int(value) if value == int(value) else value


def operand(rng: random.Random) -> Number:
    """A number of one to five digits, at times with decimals."""
    if rng.random() < 0.1:
        return round(rng.uniform(0.1, 10 ** rng.randint(1, 3)), rng.randint(1, 2)) or 1
    return int(rng.random() * 10 ** rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5))) + 1


def _right(rng: random.Random, sign: str) -> Number:
    if sign == "**":
        return rng.randint(2, 4)
    if sign == "%":
        return rng.randint(2, 60)
    return operand(rng)


def _step(rng: random.Random, operation: Operation) -> Step:
    left, right = operand(rng), _right(rng, operation.sign)
    if operation.sign in ("**", "%"):
        left = rng.randint(2, 99)
    return Step(operation, left, right, compute(operation.sign, left, right))


def _signs(rng: random.Random, sign: str) -> str:
    if sign == "**":
        return rng.choice(("^", "**"))
    if sign == "*":
        return rng.choice(("*", "*", "*", "x", "×"))
    if sign == "/":
        return rng.choice(("/", "/", "÷"))
    return sign


def _said(rng: random.Random, builder: Builder, operation: Operation) -> str:
    if builder.is_varied and rng.random() < 0.7:
        return variety.operation_phrase(rng, operation.sign) or slots.pick(rng, operation.phrases)
    return slots.pick(rng, operation.phrases)


def one_step(rng: random.Random, builder: Builder, operation: Operation) -> Expression:
    """A request of one operation."""
    step = _step(rng, operation)
    if rng.random() < 0.55:
        space = rng.choice(("", " "))
        text = f"{step.left}{space}{_signs(rng, operation.sign)}{space}{step.right}"
    else:
        text = _said(rng, builder, operation)
        text = text.replace("{0}", str(step.left)).replace("{1}", str(step.right))
    frame = builder.frame(rng, "expression")
    return Expression(frame.replace("{e}", text), (step,))


_SIMPLE = ("+", "-", "*", "/")


def two_steps(
    rng: random.Random, builder: Builder, first: Operation, second: Operation
) -> Expression:
    """A request of two nested operations, of the four simple ones."""
    assert first.sign in _SIMPLE and second.sign in _SIMPLE
    inner = _step(rng, first)
    other = operand(rng)
    inner_is_left = rng.random() < 0.6 or inner.value == 0  # nothing is divided by zero
    left, right = (inner.value, other) if inner_is_left else (other, inner.value)
    outer = Step(second, left, right, compute(second.sign, left, right))
    space = rng.choice(("", " ", " "))
    inner_text = f"{inner.left}{space}{_signs(rng, first.sign)}{space}{inner.right}"
    sign = _signs(rng, second.sign)
    draw = rng.random()
    if draw < 0.6:
        binds = first.sign in ("*", "/") and second.sign in ("+", "-") and rng.random() < 0.3
        if binds and inner_is_left:
            text = f"{inner_text}{space}{sign}{space}{other}"
        elif binds:
            text = f"{other}{space}{sign}{space}{inner_text}"
        elif inner_is_left:
            text = f"({inner_text}){space}{sign}{space}{other}"
        else:
            text = f"{other}{space}{sign}{space}({inner_text})"
    else:
        # without brackets only "the sum of 3 and 5" can stand for a number
        nouns = tuple(phrase for phrase in first.phrases if phrase.startswith("the "))
        if builder.is_varied:
            nouns += variety.noun_phrases(first.sign)
        in_brackets = draw < 0.7 or not nouns
        said = _said(rng, builder, first)
        if not in_brackets and draw <= 0.9:
            said = slots.pick(rng, nouns)
        said = said.replace("{0}", str(inner.left)).replace("{1}", str(inner.right))
        if draw > 0.9 and not in_brackets:
            text = f"{said}, and then "
            said = rng.choice(("that", "the result"))
        else:
            text = ""
        said = f"({said})" if in_brackets else said
        parts = (said, str(other)) if inner_is_left else (str(other), said)
        outer_text = _said(rng, builder, second)
        text += outer_text.replace("{0}", parts[0]).replace("{1}", parts[1])
    frame = builder.frame(rng, "expression")
    return Expression(frame.replace("{e}", text), (inner, outer))


def simple(lists: Lists) -> list[Operation]:
    """The operations that nest."""
    return [operation for operation in lists.operations if operation.sign in _SIMPLE]
