# ruff: noqa: E501
"""The lists that tool tasks are made of. Training and test have one each, with nothing in common."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmrun.demo.generate.slots import Wording


@dataclass(frozen=True)
class Domain:
    """A function as people write them: wordings of its name, its description and of a request.

    ``parameters`` are (names, kind); ``{0}`` in a request is the value of the first. A request
    that ends in ``?`` or ``.`` is a sentence of its own, others complete "please …".
    """

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[tuple[str, ...], str], ...]
    requests: tuple[str, ...]
    result: str
    """What it returns, as a noun with its article; empty for an action that only happens."""
    result_kind: str


@dataclass(frozen=True)
class Operation:
    """An arithmetic function of two numbers."""

    sign: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    phrases: tuple[str, ...]
    """A request in words, with ``{0}`` and ``{1}``; as noun phrases."""


@dataclass(frozen=True)
class Lists:
    """Everything that wording is drawn from."""

    verb_groups: tuple[tuple[str, ...], ...]
    wordings: Mapping[str, Wording]
    flags: Wording
    enums: Mapping[str, tuple[str, ...]]
    description_frames: tuple[str, ...]
    """With ``{verb}``, ``{Verb}``, ``{verbs}``, ``{Verbs}``, ``{object}``, ``{the}``."""
    request_frames: tuple[str, ...]
    """With ``{c}`` or ``{C}`` for a clause such as "open the door"."""
    two_step_frames: tuple[str, ...]
    """With ``{c}``, ``{C}`` for the first clause and ``{d}`` for the second."""
    domains: tuple[Domain, ...]
    operations: tuple[Operation, ...]
    operand_names: tuple[tuple[str, str], ...]
    operand_descriptions: tuple[tuple[str, str], ...]
    expression_frames: tuple[str, ...]
    """With ``{e}``."""
    lookups: tuple[str, ...]
    """Attributes of a person or thing and their kind, ``some_attribute:kind``."""
    lookup_frames: tuple[str, ...]
    """Clauses that look an attribute up: ``{a}`` of ``{v}``."""
    lookup_descriptions: tuple[str, ...]
    """With ``{a}`` for the attribute and ``{o}`` for what it belongs to."""
    lookup_names: tuple[str, ...]
    references: tuple[str, ...]
    """How a second clause points at what the first one found, with ``{a}``."""
    generic_phrases: tuple[str, ...]
    """With ``{w}`` for the words of a parameter's name and ``{v}`` for its value."""
    generic_descriptions: tuple[str, ...]
    """With ``{w}`` or ``{W}``, and ``{o}`` for what the function works on."""
    enum_phrases: tuple[str, ...]
    flag_on: tuple[str, ...]
    flag_off: tuple[str, ...]


def domains(text: str) -> tuple[Domain, ...]:
    """Read ``names # descriptions # parameters # requests # result:kind``, one domain a line."""
    found = []
    for line in text.strip().splitlines():
        names, descriptions, parameters, requests, result = (
            part.strip() for part in line.split(" # ")
        )
        parsed = []
        for item in parameters.split():
            parameter, kind = item.split(":")
            parsed.append((tuple(parameter.split("/")), kind))
        noun, _, result_kind = result.partition(":")
        found.append(
            Domain(
                tuple(names.split("|")),
                tuple(descriptions.split("|")),
                tuple(parsed),
                tuple(requests.split("|")),
                noun.strip("-"),
                result_kind,
            )
        )
    return tuple(found)


def operation(sign: str, names: str, descriptions: str, phrases: str) -> Operation:
    """An operation from lines with ``|`` between."""
    return Operation(
        sign, tuple(names.split()), tuple(descriptions.split("|")), tuple(phrases.split("|"))
    )
