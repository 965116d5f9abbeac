# ruff: noqa: SIM905
"""Functions written by hand, one a line, and requests for them.

A line is ``names # descriptions # parameters # requests # result:kind`` (``-`` for no result).
Names are divided by ``/``, descriptions and requests by ``|`` and parameters by ``;``. A parameter
is ``names:kind=description``, with ``?`` behind the names where it is optional. Kinds are those of
the samplers (`kinds.SAMPLERS`), ``{a|b}`` for one of some texts, ``enum{a|b}`` likewise and named
in the schema, ``flag``, ``i5-90`` for a whole number and ``n1-9`` for one with decimals. In a
request ``{0}`` stands for the first parameter; what stands in ``[...]`` is said when the parameter
in it is given.
"""

import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lmrun.demo.generate.actions import Ask, Parameter, said_with
from lmrun.demo.generate.kinds import SAMPLERS
from lmrun.demo.generate.values import Sampled
from lmrun.demo.generate.words import Vocabulary

_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_PLACE = re.compile(r"\{(\d)\}")
_ARRAYS = {"numbers": "number", "names": "string", "tags": "string"}


@dataclass(frozen=True)
class Slot:
    """One parameter of a function."""

    names: tuple[str, ...]
    kind: str
    """A key of `kinds.SAMPLERS`, or ``choice``, ``enum``, ``flag``, ``integer``, ``number``."""
    description: str
    required: bool = True
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 0

    @property
    def sort(self) -> str:
        """Values of one sort may be taken for each other."""
        if self.kind in ("choice", "enum"):
            return "/".join(self.choices)
        return "number" if self.type in ("number", "integer") else self.kind

    @property
    def type(self) -> str:
        """The JSON type."""
        if self.kind in _ARRAYS:
            return "array"
        if self.kind == "flag":
            return "boolean"
        if self.kind in ("integer", "number"):
            return self.kind
        return SAMPLERS[self.kind].type if self.kind in SAMPLERS else "string"

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameter, without its description."""
        schema: dict[str, Any] = {"type": self.type}
        if self.kind in _ARRAYS:
            schema["items"] = {"type": _ARRAYS[self.kind]}
        if self.kind == "enum":
            schema["enum"] = list(self.choices)
        return schema

    def sample(self, rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        """A value and how the request says it."""
        if self.kind == "flag":
            return True, ""
        if self.kind == "integer":
            value = rng.randint(self.low, self.high)
            return value, str(value)
        if self.kind == "number":
            return _decimal(rng, self.low, self.high)
        if self.kind in ("choice", "enum"):
            text = self.choices[int(rng.random() * len(self.choices))]
            if self.kind == "choice" and not vocabulary.held_out and rng.random() < 0.6:
                text = vocabulary.phrase(rng, text[:1].isupper())
            return text, text
        return SAMPLERS[self.kind].sample(rng, vocabulary)


@dataclass(frozen=True)
class Domain:
    """A function as people write them."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    slots: tuple[Slot, ...]
    requests: tuple[str, ...]
    result: str
    """What it returns, as a noun; empty for an action that only happens."""
    result_kind: str


@dataclass(frozen=True)
class Worded:
    """A function of a domain, ready to be asked for."""

    function: dict[str, Any]
    domain: Domain
    names: tuple[str, ...]
    """Of the parameters, as the function has them."""
    extras: tuple[Parameter, ...] = ()
    """Parameters that no request of the domain knows of."""

    @property
    def result(self) -> str:
        """With its article; empty where nothing is returned."""
        return "the " + self.domain.result if self.domain.result else ""

    @property
    def result_kind(self) -> str:
        """Kind of the result."""
        return self.domain.result_kind

    def taking(self, kind: str) -> int | None:
        """Index of the required parameter of a kind."""
        for index, slot in enumerate(self.domain.slots):
            if slot.kind == kind and slot.required:
                return index
        return None

    def ask(
        self,
        rng: random.Random,
        vocabulary: Vocabulary,
        given: Mapping[int, Sampled] | None = None,
        requests: tuple[str, ...] = (),
    ) -> Ask:
        """A request with fresh values; ``given`` fixes those of some parameters by index."""
        given = given or {}
        request = rng.choice(requests or self.domain.requests)
        optional = {int(i) for part in _OPTIONAL.findall(request) for i in _PLACE.findall(part)}
        sampled: dict[int, Sampled] = {}
        for index, slot in enumerate(self.domain.slots):
            if slot.required or (index in optional and rng.random() < 0.5):
                sampled[index] = given.get(index) or slot.sample(rng, vocabulary)
        text = filled(request, {index: surface for index, (_, surface) in sampled.items()})
        arguments = {self.names[index]: value for index, (value, _) in sampled.items()}
        is_clause = starts_with_verb(request)
        for extra in self.extras:
            if extra.required or rng.random() < 0.4:
                value, surface = extra.sample(rng, vocabulary)
                arguments[extra.name] = value
                text = said_with(rng, text, extra, value, surface)
        if is_clause and not text[:2].isupper():
            text = text[0].lower() + text[1:]
        return Ask(text, not is_clause, arguments)


def filled(request: str, surfaces: Mapping[int, str]) -> str:
    """A request with its values; optional parts stay where all of their values are there."""

    def part(found: re.Match[str]) -> str:
        is_given = all(int(i) in surfaces for i in _PLACE.findall(found[1]))
        return found[1] if is_given else ""

    text = _OPTIONAL.sub(part, request)
    return _PLACE.sub(lambda found: surfaces[int(found[1])], text).strip()


_NO_VERBS = frozenset(
    """what what's i i'd how the which my is we when where can who could do a an it are does has
    did were in will am any should there of area crossword dew disk distance commit future loan
    loudness metronome miles postcard product projector server spring square time typing let's
    please tip dice on at for from with our each everybody somebody""".split()
)


def starts_with_verb(request: str) -> bool:
    """Whether "please" may stand before it."""
    first = request.split(maxsplit=1)[0].lower().partition("[")[0]
    return not request.endswith("?") and first[0] != "{" and first not in _NO_VERBS


def _decimal(rng: random.Random, low: int, high: int) -> Sampled:
    if rng.random() < 0.35 and high > low + 1:
        value: int | float = rng.randint(low + 1, high)
    else:
        value = max(round(rng.uniform(low, high), rng.choice((1, 1, 2))), 0.1)
    if value == int(value):
        value = int(value)
    return value, str(value)


def _slot(text: str) -> Slot:
    head, _, description = text.strip().partition("=")
    names, _, kind = head.partition(":")
    required = not names.endswith("?")
    chosen = tuple(names.rstrip("?").split("/"))
    if kind.endswith("}"):
        sort, _, listed = kind[:-1].partition("{")
        return Slot(chosen, sort or "choice", description, required, tuple(listed.split("|")))
    if found := re.fullmatch(r"([in])(\d+)-(\d+)", kind):
        sort = "integer" if found[1] == "i" else "number"
        return Slot(chosen, sort, description, required, (), int(found[2]), int(found[3]))
    assert kind == "flag" or kind in SAMPLERS, text
    return Slot(chosen, kind, description, required)


def read(text: str) -> tuple[Domain, ...]:
    """Read domains, one a line."""
    found = []
    for line in text.strip().splitlines():
        names, descriptions, parameters, requests, result = (
            part.strip() for part in line.split(" # ")
        )
        noun, _, kind = result.partition(":")
        found.append(
            Domain(
                tuple(names.split("/")),
                tuple(part.strip() for part in descriptions.split("|")),
                tuple(_slot(part) for part in parameters.split("; ")),
                tuple(part.strip() for part in _alternatives(requests)),
                noun.strip("-"),
                kind,
            )
        )
    return tuple(found)


def _alternatives(text: str) -> list[str]:
    return [part for part in text.split("|") if part.strip()]


STOP_WORDS = frozenset(
    """a about all also am an and any are as ask at be been before but by can check could create
    did do does down each every find for from get give go good had has have he help her hello hi
    his how i if in into is it its just know let like list long look made make many may me more
    much must my name need new no not now number of on one only or our out over please put run
    said say set she should show so some somebody start take tell than thanks that the their
    them then there these they this those to too two up us use user using value want was we were
    what when where whether which who why will with work would you your""".split()
)
"""Words that say nothing about which function is meant."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """What words of one family share: plant, plants, planted, planting."""
    word = word.lower()
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:6]


def stems(text: str, stop_words: Collection[str] = STOP_WORDS) -> set[str]:
    """The stems of a text's words, names in snake_case and camelCase cut."""
    return {
        stem(word)
        for word in _WORD.findall(text)
        if len(word) > 1 and word.lower() not in stop_words
    }


def told(function: Mapping[str, Any]) -> set[str]:
    """The stems of a function's name and description."""
    return stems(function["name"] + " " + function.get("description", ""))
