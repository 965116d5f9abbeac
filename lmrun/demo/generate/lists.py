"""The lists that tool tasks are worded with. Training and test share nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmrun.demo.generate.slots import Wording
from lmrun.demo.generate.templates import Domain


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
    """What both training and test word their tasks with."""

    domains: tuple[Domain, ...]
    request_frames: tuple[str, ...]
    """With ``{c}`` or ``{C}`` for a clause such as "open the door"."""
    two_step_frames: tuple[str, ...]
    """With ``{c}``, ``{C}`` for the first clause and ``{d}`` for the second."""
    references: tuple[str, ...]
    """How a second clause points at what the first one found, with ``{a}``."""
    operations: tuple[Operation, ...]
    operand_names: tuple[tuple[str, str], ...]
    operand_descriptions: tuple[tuple[str, str], ...]
    expression_frames: tuple[str, ...]
    """With ``{e}``."""


@dataclass(frozen=True)
class TrainingLists(Lists):
    """What functions put together from words are worded with besides."""

    verb_groups: tuple[tuple[str, ...], ...]
    wordings: Mapping[str, Wording]
    flags: Wording
    enums: Mapping[str, tuple[str, ...]]
    description_frames: tuple[str, ...]
    """With ``{verb}``, ``{Verb}``, ``{verbs}``, ``{Verbs}``, ``{object}``, ``{the}``."""
    lookups: tuple[str, ...]
    """Attributes of a person or thing and their kind, ``some_attribute:kind``."""
    lookup_frames: tuple[str, ...]
    """Clauses that look an attribute up: ``{a}`` of ``{v}``."""
    lookup_descriptions: tuple[str, ...]
    """With ``{a}`` for the attribute and ``{o}`` for what it belongs to."""
    lookup_names: tuple[str, ...]
    generic_phrases: tuple[str, ...]
    """With ``{w}`` for the words of a parameter's name and ``{v}`` for its value."""
    generic_descriptions: tuple[str, ...]
    """With ``{w}`` or ``{W}``, and ``{o}`` for what the function works on."""
    enum_phrases: tuple[str, ...]
    flag_on: tuple[str, ...]
    flag_off: tuple[str, ...]


def operation(sign: str, names: str, descriptions: str, phrases: str) -> Operation:
    """An operation from lines with ``|`` between."""
    return Operation(
        sign, tuple(names.split()), tuple(descriptions.split("|")), tuple(phrases.split("|"))
    )
