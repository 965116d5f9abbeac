"""Expressions of one or two operations, the functions for them, and requests in signs and words."""

import random
from dataclasses import dataclass
from typing import Any

from lmrun.demo.generate import slots, sums, variety
from lmrun.demo.generate.lists import Operation
from lmrun.demo.generate.naming import style_name
from lmrun.demo.generate.wording import Wording

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


def function(rng: random.Random, builder: Wording, operation: Operation) -> dict[str, Any]:
    """A function of two numbers for an operation."""
    lists = builder.lists
    names = rng.choice(lists.operand_names)
    name = slots.pick(rng, operation.names)
    described_as = slots.pick(rng, operation.descriptions)
    if builder.is_varied:
        vocabulary = builder.vocabulary
        if rng.random() < 0.65:
            while set(names := sums.operand_names(rng, vocabulary)) & set(builder.taken):
                pass
        if rng.random() < 0.75:
            described_as = sums.operation_description(rng, operation.sign, names)
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


def _said(
    rng: random.Random, builder: Wording, operation: Operation, *, as_number: bool = False
) -> str:
    if builder.is_varied and rng.random() < 0.7:
        said = sums.operation_phrase(rng, operation.sign, as_number=as_number)
        return said or slots.pick(rng, operation.phrases)
    phrases = operation.phrases
    if as_number:
        phrases = tuple(phrase for phrase in phrases if phrase.startswith("the "))
    return slots.pick(rng, phrases)


def one_step(rng: random.Random, builder: Wording, operation: Operation) -> Expression:
    """A request of one operation."""
    step = _step(rng, operation)
    if rng.random() < 0.55:
        space = rng.choice(("", " "))
        text = f"{step.left}{space}{_signs(rng, operation.sign)}{space}{step.right}"
    else:
        text = _said(rng, builder, operation)
        text = text.replace("{0}", str(step.left)).replace("{1}", str(step.right))
    if builder.is_varied and operation.sign in SIMPLE and rng.random() < 0.12:
        text = _put(sums.command(rng, operation.sign), step.left, step.right)
        return Expression(_as_sentence(rng, text), (step,))
    return Expression(_framed(rng, builder, text), (step,))


SIMPLE = ("+", "-", "*", "/")


def two_steps(
    rng: random.Random, builder: Wording, first: Operation, second: Operation
) -> Expression:
    """A request of two nested operations, of the four simple ones."""
    assert first.sign in SIMPLE and second.sign in SIMPLE
    inner = _step(rng, first)
    other = operand(rng)
    inner_is_left = rng.random() < 0.6 or inner.value == 0  # nothing is divided by zero
    left, right = (inner.value, other) if inner_is_left else (other, inner.value)
    outer = Step(second, left, right, compute(second.sign, left, right))
    steps = (inner, outer)
    draw = rng.random()
    if draw < 0.5:
        return Expression(_framed(rng, builder, _in_signs(rng, steps, inner_is_left)), steps)
    if builder.is_varied and draw < 0.6 and inner_is_left:
        first_text = sums.command(rng, first.sign)
        second_text = sums.command(rng, second.sign).replace("{0}", sums.before(rng))
        text = _put(first_text, inner.left, inner.right) + sums.then(rng)
        return Expression(_as_sentence(rng, text + _put(second_text, "", other)), steps)
    # without brackets only "the sum of 3 and 5" can stand for a number
    nouns = tuple(phrase for phrase in first.phrases if phrase.startswith("the "))
    in_brackets = draw < 0.65 or not nouns
    is_before = draw > 0.93 and not in_brackets
    said = _said(rng, builder, first, as_number=not in_brackets and not is_before)
    said = _put(said, inner.left, inner.right)
    text = f"{said}, and then " if is_before else ""
    if is_before:
        said = rng.choice(("that", "the result"))
    said = f"({said})" if in_brackets else said
    parts = (said, other) if inner_is_left else (other, said)
    if builder.is_varied and rng.random() < 0.25 and not is_before:
        return Expression(_as_sentence(rng, _put(sums.command(rng, second.sign), *parts)), steps)
    return Expression(
        _framed(rng, builder, text + _put(_said(rng, builder, second), *parts)), steps
    )


def _put(phrase: str, left: Number | str, right: Number | str) -> str:
    return phrase.replace("{0}", str(left)).replace("{1}", str(right))


def _framed(rng: random.Random, builder: Wording, text: str) -> str:
    return builder.frame(rng, "expression").replace("{e}", text)


def _as_sentence(rng: random.Random, text: str) -> str:
    draw = rng.random()
    if draw < 0.3:
        text = rng.choice(("please ", "can you ", "now ", "I want to ", "could you ")) + text
    return (text[0].upper() + text[1:] if draw < 0.85 else text) + rng.choice((".", ".", "", "!"))


def _in_signs(rng: random.Random, steps: tuple[Step, Step], inner_is_left: bool) -> str:
    """As in ``(3 + 5) * 2``, without brackets where they may be left out."""
    inner, outer = steps
    space = rng.choice(("", " ", " "))
    sign = _signs(rng, outer.operation.sign)
    other = outer.right if inner_is_left else outer.left
    text = f"{inner.left}{space}{_signs(rng, inner.operation.sign)}{space}{inner.right}"
    binds = inner.operation.sign in ("*", "/") and outer.operation.sign in ("+", "-")
    if not (binds and rng.random() < 0.3):
        text = f"({text})"
    if inner_is_left:
        return f"{text}{space}{sign}{space}{other}"
    return f"{other}{space}{sign}{space}{text}"


def expression(rng: random.Random, builder: Wording, steps: int) -> Expression:
    """A request of one or two operations."""
    operations = builder.lists.operations
    if steps == 1:
        return one_step(rng, builder, rng.choice(operations))
    simple = [operation for operation in operations if operation.sign in SIMPLE]
    first = rng.choice(simple)
    second = rng.choice([item for item in simple if item != first or rng.random() < 0.3])
    return two_steps(rng, builder, first, second)


def functions(
    rng: random.Random, builder: Wording, asked: Expression
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Functions for a request, by sign, and some of them among others."""
    needed = {step.operation.sign: step.operation for step in asked.steps}
    made = {sign: function(rng, builder, operation) for sign, operation in needed.items()}
    tools = list(made.values())
    others = [item for item in builder.lists.operations if item.sign not in needed]
    for other in rng.sample(others, min(len(others), rng.choice((0, 0, 1, 1, 2, 3)))):
        tool = function(rng, builder, other)
        if all(tool["name"] != known["name"] for known in tools):
            tools.append(tool)
    return made, tools
