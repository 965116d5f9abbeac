# ruff: noqa: E501, SIM905
"""Sums and the like in words, put together for training as `variety` does."""

import random

from lmrun.demo.generate import variety
from lmrun.demo.generate.variety import free
from lmrun.demo.generate.words import Vocabulary

_PAIRS = (
    "two values", "both inputs", "its two arguments", "the given figures", "a pair of figures",
    "two figures", "both operands", "the two inputs", "the operands", "two given values", "{p} and {q}",
    "its inputs", "one value and another", "two integers", "two amounts", "the first and second value",
    "two real numbers", "two whole numbers", "both numbers", "numbers", "any two numbers", "two items",
)  # fmt: skip
_GIVES = (
    "Returns", "Gives", "Finds", "Works out", "Yields", "Provides", "Calculates", "Computes", "Get",
    "Find", "Return", "Outputs", "Determines", "Evaluate", "Work out", "Tells", "Shows",
)  # fmt: skip
_ARITHMETIC: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "+": (
        ("sum", "total", "addition", "sum total", "plus"),
        ("Adds", "Sums", "Totals", "Adds up", "Sums up", "Adding", "Summing", "Add", "Sum", "Add up"),
        ("{p} + {q}", "{p} plus {q}", "Adds {q} to {p}", "plus operation", "Increases {p} by {q}"),
    ),
    "-": (
        ("difference", "subtraction", "remainder after taking away", "minus"),
        ("Subtracts", "Takes the difference of", "Subtracting", "Subtract", "Deducts", "Takes away"),
        ("{p} - {q}", "{p} minus {q}", "Subtracts {q} from {p}", "minus operation", "Takes {q} away"
         " from {p}", "Reduces {p} by {q}", "Deducts {q} from {p}"),
    ),
    "*": (
        ("product", "multiplication", "multiple", "times"),
        ("Multiplies", "Multiplying", "Multiply", "Takes the product of", "Forms the product of"),
        ("{p} * {q}", "{p} times {q}", "Multiplies {p} by {q}", "times operation", "Scales {p} by {q}",
         "{p} multiplied by {q}"),
    ),
    "/": (
        ("quotient", "division", "ratio", "fraction"),
        ("Divides", "Dividing", "Divide", "Takes the ratio of", "Forms the quotient of"),
        ("{p} / {q}", "{p} over {q}", "Divides {p} by {q}", "division operation", "{p} divided by {q}",
         "Splits {p} into {q} parts", "Ratio of {p} to {q}"),
    ),
    "**": (
        ("power", "exponentiation"),
        ("Exponentiates", "Raises to a power:"),
        ("{p} ** {q}", "{p} to the power of {q}", "Raises {p} to {q}", "Power with base {p}"),
    ),
    "%": (
        ("remainder of dividing", "modulo", "rest of a division of"),
        ("Takes the remainder of", "Takes modulo of"),
        ("{p} % {q}", "{p} modulo {q}", "Remainder of {p} divided by {q}", "Rest of {p} over {q}"),
    ),
}  # fmt: skip
_SAID: dict[str, tuple[str, ...]] = {
    "+": (
        "the sum of {0} and {1}", "{0} plus {1}", "the total of {0} and {1}", "{0} and {1} together",
        "{0} increased by {1}", "adding {0} and {1}", "the outcome of adding {0} and {1}",
        "the number you get by adding {0} to {1}", "the value of adding {0} and {1}", "{0} and {1} summed", "what {0} and {1} add up"
        " to", "the addition of {0} and {1}", "{0} added to {1}", "{0} with {1} added",
    ),
    "-": (
        "the difference of {0} and {1}", "{0} minus {1}", "{0} less {1}", "{1} taken from {0}",
        "{0} reduced by {1}", "subtracting {1} from {0}", "the outcome of subtracting {1}"
        " from {0}", "the value of subtracting {1} from {0}", "{1} subtracted from {0}", "what is left when"
        " {1} is taken from {0}", "{0} without {1}", "the outcome of taking {1} from {0}",
    ),
    "*": (
        "the product of {0} and {1}", "{0} times {1}", "{0} multiplied by {1}", "{0} lots of {1}",
        "multiplying {0} and {1}", "multiplying {0} by {1}", "{0} and {1} multiplied", "the outcome of"
        " multiplying {0} by {1}", "the multiplication of {0} and {1}", "the value of"
        " multiplying {0} and {1}", "the outcome of multiplying {0} and {1}",
    ),
    "/": (
        "the quotient of {0} and {1}", "{0} divided by {1}", "{0} over {1}", "the ratio of {0} to {1}",
        "dividing {0} by {1}", "the outcome of dividing {0} by {1}", "{0} split into {1} parts",
        "the division of {0} by {1}", "the value of dividing"
        " {0} by {1}", "the outcome of dividing {0} by {1}", "{0} shared among {1}",
    ),
}  # fmt: skip
_LETTERS = "cdefghijklmnopqrstuvwxyz"


def operation_description(rng: random.Random, sign: str, names: tuple[str, str]) -> str:
    """What an arithmetic function does."""

    def draw() -> str:
        nouns, verbs, fixed = _ARITHMETIC[sign]
        pair = rng.choice(_PAIRS).replace("{p}", names[0]).replace("{q}", names[1])
        kind = rng.random()
        if kind < 0.4:
            return f"{rng.choice(_GIVES)} the {rng.choice(nouns)} of {pair}"
        if kind < 0.7:
            return f"{rng.choice(verbs)} {pair}"
        if kind < 0.8:
            return f"{rng.choice(nouns)} of {pair}".capitalize()
        return rng.choice(fixed).replace("{p}", names[0]).replace("{q}", names[1])

    return free(draw)


def noun_phrases(sign: str) -> tuple[str, ...]:
    """Those phrases of an operation that stand for a number: "the sum of …"."""
    return tuple(phrase for phrase in _SAID.get(sign, ()) if phrase.startswith("the "))


def operation_phrase(rng: random.Random, sign: str, *, as_number: bool = False) -> str:
    """An operation in words, with ``{0}`` and ``{1}``; empty where there are no more.

    ``as_number``: only what can stand inside another one, as in "the sum of {0} and {1}".
    """
    if sign not in _SAID:
        return ""
    phrases = noun_phrases(sign) if as_number else _SAID[sign]

    def draw() -> str:
        phrase = rng.choice(phrases)
        for noun in ("the outcome of", "the value of"):
            if phrase.startswith(noun) and rng.random() < 0.7:
                phrase = phrase.replace(noun, f"the {rng.choice(_OUTCOMES)} of", 1)
        return phrase

    return free(draw)


_OUTCOMES = """outcome value result answer figure amount number total quantity end product solution
yield return figure sum difference score count""".split()
_COMMANDS: dict[str, tuple[str, ...]] = {
    "+": ("add {1} to {0}", "add {0} and {1}", "sum {0} and {1}", "increase {0} by {1}", "put {0} and {1} together",
          "take {0} plus {1}", "total {0} and {1}"),
    "-": ("subtract {1} from {0}", "take {1} from {0}", "reduce {0} by {1}", "deduct {1} from {0}",
          "take {0} minus {1}", "take {1} away from {0}", "lower {0} by {1}"),
    "*": ("multiply {0} by {1}", "multiply {0} and {1}", "take {0} times {1}", "multiply {0} with {1}",
          "scale {0} by {1}"),
    "/": ("divide {0} by {1}", "split {0} into {1} parts", "take {0} over {1}", "share {0} among {1}",
          "divide {0} through {1}"),
}  # fmt: skip
"""Operations as commands; the first number of a pair may be what came out before."""


def command(rng: random.Random, sign: str) -> str:
    """An operation as a command, with ``{0}`` and ``{1}``."""
    return rng.choice(_COMMANDS[sign])


def before(rng: random.Random) -> str:
    """How a command points at what came out of the one before."""
    nouns = ("it", "that", "the result", "this", "what comes out", "the outcome", "the answer",
             "that number", "what you get", "the new value", "the result of that")  # fmt: skip
    return rng.choice(nouns)


def then(rng: random.Random) -> str:
    """What stands between two commands."""
    return rng.choice(variety.CONNECTORS[:16])


def operand_names(rng: random.Random, vocabulary: Vocabulary) -> tuple[str, str]:
    """Names of two numbers."""
    draw = rng.random()
    if draw < 0.3:
        one, other = rng.sample(_LETTERS, 2)
        return one, other
    if draw < 0.5:
        stem = vocabulary.word(rng)
        joint = rng.choice(("", "_"))
        ends = rng.choice(
            (("1", "2"), ("_one", "_two"), ("x", "y"), ("0", "1"), ("_left", "_right"))
        )
        return stem + joint + ends[0], stem + joint + ends[1]
    return f"{vocabulary.word(rng)}", f"{vocabulary.word(rng)}_{rng.choice(_LETTERS)}"
