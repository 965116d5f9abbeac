# ruff: noqa: E501, SIM905
"""Functions with several parameters of one sort, each value told by a word, a unit or a preposition.

The word stands before the value or behind it, in another form than in the schema at times, and
request and schema have the parameters in orders of their own.
"""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmrun.demo.generate import kinds, variety
from lmrun.demo.generate.actions import Action, Parameter
from lmrun.demo.generate.naming import style_name
from lmrun.demo.generate.templates import stem
from lmrun.demo.generate.values import Sampled, Sampler, same
from lmrun.demo.generate.words import NOUNS, Vocabulary

if TYPE_CHECKING:
    from lmrun.demo.generate.functions import Builder

_UNITS = tuple(
    (unit, short)
    for unit, _, short in (
        pair.partition(":")
        for pair in """percent:% dollars:$ euros:€ years: months: weeks: days: hours:h minutes:min
seconds:s meters:m kilometers:km centimeters:cm millimeters:mm miles:mi feet:ft inches:in
kilograms:kg grams:g pounds:lb liters:l milliliters:ml degrees: watts:W volts:V amperes:A ohms:
hertz:Hz pixels:px pages: people: pieces: cups: boxes: rooms: steps: points: rows: tons:
kelvin:K joules:J newtons:N bytes: cents: nights: guests: lines: shares: tickets: units:""".split()
    )
)
_ROLES = """price cost speed rate weight height width depth length size age rent wage debt tax fee
distance radius volume pressure power load limit goal budget share interest discount amount balance
income target maximum minimum start end total base margin deposit humidity altitude density area
thickness temperature duration salary score bill loan loss gain growth dose tip stock demand""".split()
_TEXT_ROLES = """owner sender receiver author reader boss guest host winner loser buyer seller teacher
pupil source target name label folder title subject topic origin goal driver product brand model place
room street station airport team club group member leader witness driver editor caller task note
account device server branch file copy backup template color style language currency""".split()
_PAIRS = tuple(
    tuple(pair.split("/"))
    for pair in """from/to from/into from/onto with/by before/after over/under to/by for/by with/for
from/for to/about for/about until/since between/and off/onto to/with in/from at/for near/for
against/by after/until behind/before above/below like/as with/into of/into for/in""".split()
)
_TEXT_KINDS = (
    "person", "person", "city", "country", "noun", "title", "date", "time", "code", "path", "email",
    "language", "company", "server", "branch", "pdf", "picture", "word", "message", "phone", "domain",
    "food", "animal", "color", "phrase", "phrase", "phrase", "phrase",
)  # fmt: skip
_OPEN = (
    "{Verb} the {thing} {with_} {all}", "{Verb} {a} {thing} {with_} {all}", "What is the {thing} {with_} {all}?",
    "{all}: {verb} the {thing}", "I have {all}, what {thing} is that?", "For {all}, {verb} the {thing}",
    "How much {thing} is {all}?", "{all}, please {verb} the {thing}", "{first}, so {verb} the {thing} {with_} {rest}",
    "{Verb} {first} of the {thing}, {rest}", "My {thing} has {all}, {verb} it", "With {all}, what is the {thing}?",
    "What {thing} do I get {with_} {all}?", "There is {first} and {rest}, can you {verb} the {thing}?",
    "{Verb} {first} {with_} {rest}, the {thing} I mean", "Can you {verb} the {thing}? It has {all}",
    "{thing} {verb}: {all}", "I {verb} {first}, {rest}, which {thing} is it?", "{all}, how is the {thing}?",
    "{first} and {rest}, what {thing} does that {verb}?", "The {thing} of {first} {with_} {rest}, {verb} it",
)  # fmt: skip
_WITH = (
    "with",
    "with",
    "for",
    "at",
    "of",
    "given",
    "using",
    "on",
    "over",
    "from",
    "that has",
    "by",
    "and",
)
_NUMBER_BEFORE = (
    "{a} {k} of {v}", "{a} {k} of {v}", "the {k} {v}", "{k} {v}", "{k} of {v}", "the {k} is {v}", "{k}: {v}",
    "my {k} of {v}", "the {k} being {v}", "{k} = {v}", "its {k} is {v}", "at {a} {k} of {v}", "{k} is {v}",
)  # fmt: skip
_NUMBER_BEHIND = (
    "{v} {k}", "{v} {k}", "{v} of {k}", "{v} as the {k}", "{v} for the {k}", "{v} {k} each", "{v} in {k}",
    "{v} is the {k}", "{v} {k} now", "{v} {k} in all", "{v} ({k})", "{v} {k} a month",
)  # fmt: skip
_TEXT_BEFORE = (
    "the {k} {v}", "{k} {v}", "the {k} is {v}", "{k}: {v}", "my {k} {v}", "our {k} is {v}", "a {k} called {v}",
    "the {k} named {v}", "as {k} {v}", "its {k} is {v}", "{v} as {k}", "the {k} of {v}",
)  # fmt: skip
_TEXT_BEHIND = (
    "{v} as the {k}", "{v} is the {k}", "the {v} {k}", "{v}, the {k}", "{v} for the {k}", "{v} {k}",
    "{v} being the {k}", "{v}, our {k}", "{v} is my {k}", "{v} in the {k}",
)  # fmt: skip
_DESCRIBED = (
    "{K} of the {t}", "The {k}", "{K}", "{K} to use", "{K} that is given", "What {k} it has", "{K} of a {t}",
    "The {k} of the {t}", "{K} in question", "{K}, as text", "{K} wanted", "Its {k}",
)  # fmt: skip
_ENDINGS = ("s", "s", "ed", "ing", "er", "ly", "ion", "y")


def inflected(rng: random.Random, word: str) -> str:
    """A word, at times in another form."""
    draw = rng.random()
    if draw < 0.7 or len(word) < 3:
        return word
    ending = "s" if draw < 0.85 else rng.choice(_ENDINGS)
    if ending[0] in "eiy" and word[-1] in "ey":
        word = word[:-1]
    return word + ending


def phrase(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A value of one to four words, at times in quotes."""
    text = vocabulary.phrase(rng)
    draw = rng.random()
    if draw < 0.12:
        return text, f'"{text}"'
    return text, f"'{text}'" if draw < 0.18 and "'" not in text else text


def _amount(rng: random.Random, *, is_whole: bool) -> Sampler:
    top = rng.choice((9, 30, 100, 400, 2000, 50000))

    def sample(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        del vocabulary
        if is_whole or rng.random() < 0.4:
            return same(rng.randint(1, top))
        value = round(rng.uniform(0.1, top), rng.choice((1, 1, 2)))
        value = int(value) if value == int(value) else value
        return value, str(value)

    return sample


@dataclass(frozen=True)
class _Bound:
    """A parameter and the words of a request that give its value, with ``{v}``."""

    parameter: Parameter
    schema: dict[str, Any]
    said: str


class _Drawn:
    """Draws the parameters of one function."""

    def __init__(self, rng: random.Random, builder: "Builder") -> None:
        self.rng, self.builder, self.vocabulary = rng, builder, builder.vocabulary
        self.thing = self.word(NOUNS)
        self._stems: set[str] = set()
        self._names: set[str] = set()

    def word(self, listed: list[str]) -> str:
        """A word of a list, or any."""
        draw = self.rng.random()
        if draw < 0.5:
            return self.rng.choice(listed)
        return self.vocabulary.word(self.rng) if draw < 0.9 else self.rng.choice(NOUNS)

    def key(self, listed: list[str]) -> str:
        """A word whose family no other parameter has."""
        while stem(found := self.word(listed)) in self._stems or not found.isalpha():
            pass
        self._stems.add(stem(found))
        return found

    def name(self, parts: list[str]) -> str | None:
        """A parameter's name of some words; None where it is taken."""
        name = style_name(self.rng, parts)
        if name in self._names or name in self.builder.taken:
            return None
        self._names.add(name)
        return name

    def schema(self, kind: str, text: str) -> dict[str, Any]:
        """The schema, described."""
        if self.rng.random() < 0.3:
            text = text[:1].upper() + text[1:]
        text = variety.other_than_the_tests(text, self.rng, self.vocabulary)
        return {"type": kind, "description": text + self.rng.choice(("", "", "", "."))}

    def described(self, key: str) -> str:
        text = self.rng.choice(_DESCRIBED)
        return text.replace("{k}", key).replace("{K}", key.capitalize()).replace("{t}", self.thing)

    def number(self, units: list[tuple[str, str]]) -> _Bound | None:
        """A number, told by its word or its unit."""
        rng, key = self.rng, self.key(_ROLES)
        unit, short = units.pop() if rng.random() < 0.65 else ("", "")
        is_whole = rng.random() < 0.6
        sample, draw = _amount(rng, is_whole=is_whole), rng.random()
        surface = "{v}"
        if unit:
            surface = "{v} " + unit
            if short and rng.random() < 0.45:
                surface = (
                    "{v} " + short if short.isalpha() and rng.random() < 0.5 else "{v}" + short
                )
            if short in "$€" and short and rng.random() < 0.7:
                surface = short + "{v}"
            if rng.random() < 0.2 and " " in surface:
                surface += rng.choice(
                    (" each", " a month", " per piece", " a day", " in all", " of it")
                )
        is_by_unit = bool(unit) and draw < 0.45
        if is_by_unit:
            said = surface
            parts = rng.choice(([key, unit], [unit], [unit, key], [key, "in", unit], [key]))
            text = rng.choice(
                (f"{key} in {unit}", f"{unit} of {key}", f"number of {unit}", f"{unit} of the {self.thing}",
                 f"how many {unit}", f"{key} of the {self.thing} in {unit}")
            )  # fmt: skip
            if unit not in text and unit not in parts:
                text = f"{key} in {unit}"
        else:
            is_before = rng.random() < 0.6 or bool(unit)
            frame = rng.choice(_NUMBER_BEFORE if is_before else _NUMBER_BEHIND)
            said = frame.replace("{k}", inflected(rng, key) if not is_before else key)
            said = said.replace("{v}", surface).replace("{a}", _article(key))
            parts = rng.choice(
                ([key], [key], [self.thing, key], [key, "value"], [inflected(rng, key)])
            )
            text = self.described(inflected(rng, key)) + (
                f" in {unit}" if unit and rng.random() < 0.7 else ""
            )
        name = self.name(parts)
        if name is None:
            return None
        schema = self.schema("integer" if is_whole and rng.random() < 0.6 else "number", text)
        if not is_by_unit and parts != [key] and rng.random() < 0.1:
            del schema["description"]
        return _Bound(Parameter(name, "", sample, ("{0}",)), schema, said)

    def texts(self, count: int) -> list[_Bound] | None:
        """Texts of one kind, told by words or by prepositions."""
        rng = self.rng
        kind = rng.choice(_TEXT_KINDS)
        sample = phrase if kind == "phrase" else kinds.SAMPLERS[kind].training
        found: list[_Bound] = []
        noun = self.key(_TEXT_ROLES)
        pair = rng.choice(_PAIRS) if count == 2 and rng.random() < 0.4 else ()
        is_numbered = not pair and rng.random() < 0.2
        for index in range(count):
            if pair:
                word = pair[index]
                said = f"{word} {{v}}" if rng.random() < 0.8 else f"{word} the {noun} {{v}}"
                parts = rng.choice(([word, noun], [noun, word], [word, noun]))
                text = rng.choice(
                    (
                        f"{noun} to {{}} {word}",
                        f"{word} which {noun}",
                        f"the {noun} {word} which it is",
                    )
                )
                text = text.replace("{}", self.vocabulary.word(rng))
            elif is_numbered:
                word = ("first", "second", "third")[index]
                said = rng.choice((f"the {word} {noun} {{v}}", f"{{v}} as the {word} {noun}", f"the {word} one, {{v}}",
                                   f"{{v}} is the {word}", f"{word} {{v}}", f"{{v}} {word}"))  # fmt: skip
                parts = [noun, word] if rng.random() < 0.3 else [word, noun]
                text = rng.choice(
                    (f"{word} {noun}", f"the {word} {noun} to use", f"{noun} that comes {word}")
                )
            else:
                key = noun if index == 0 else self.key(_TEXT_ROLES)
                said = rng.choice(_TEXT_BEFORE if rng.random() < 0.65 else _TEXT_BEHIND).replace(
                    "{k}", key
                )
                parts = rng.choice(
                    ([key], [key], [self.thing, key], [key, "text"], [inflected(rng, key)])
                )
                text = self.described(inflected(rng, key))
            name = self.name(parts)
            if name is None:
                return None
            schema = self.schema("string", text)
            found.append(_Bound(Parameter(name, "", sample, ("{0}",)), schema, said))
        return found

    def other(self) -> _Bound | None:
        """A parameter of another sort, told by what it looks like."""
        kind = self.rng.choice(_TEXT_KINDS[:24])
        key = self.key(_TEXT_ROLES)
        wording = self.builder.lists.wordings.get(kind)
        text = self.rng.choice(wording.descriptions) if wording else f"{kind} of the {self.thing}"
        said = self.rng.choice(("for {v}", "{v}", "with {v}", "to {v}", "by {v}", "on {v}"))
        if self.rng.random() < 0.4:
            text, said = self.described(key), f"the {key} {{v}}"
        name = self.name([key] if self.rng.random() < 0.6 else [kind, key])
        if name is None:
            return None
        return _Bound(
            Parameter(name, "", kinds.SAMPLERS[kind].training, ("{0}",)), self.schema("string", text), said
        )  # fmt: skip


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _all(rng: random.Random, texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    last = rng.choice((" and ", " and ", ", ", " with ", ", and ", " at ", " on "))
    return rng.choice((", ", ", ", " and ", " ")).join(texts[:-1]) + last + texts[-1]


def binding(rng: random.Random, builder: "Builder") -> Action:
    """A function with two or three parameters of one sort, and perhaps one of another."""
    while True:
        drawn = _Drawn(rng, builder)
        count = rng.choices((2, 3), (70, 30))[0]
        bounds: list[_Bound | None]
        if rng.random() < 0.6:
            units = rng.sample(_UNITS, count)
            bounds = [drawn.number(units) for _ in range(count)]
        else:
            bounds = [*(drawn.texts(count) or (None,))]
        if rng.random() < 0.35:
            bounds.append(drawn.other())
        found = [bound for bound in bounds if bound is not None]
        if len(found) == len(bounds):
            return _made(rng, builder, drawn, found)


def _made(rng: random.Random, builder: "Builder", drawn: _Drawn, bounds: list[_Bound]) -> Action:
    vocabulary, thing = builder.vocabulary, drawn.thing
    verb = rng.choice(rng.choice(builder.lists.verb_groups)).split()[0]
    if rng.random() < 0.4:
        verb = vocabulary.word(rng)
    requests = []
    for _ in range(2):
        pieces = [bound.said.replace("{v}", f"{{{index}}}") for index, bound in enumerate(bounds)]
        rng.shuffle(pieces)
        text = rng.choice(_OPEN).replace("{with_}", rng.choice(_WITH))
        text = text.replace("{all}", _all(rng, pieces)).replace("{first}", pieces[0])
        text = text.replace("{rest}", _all(rng, pieces[1:])).replace("{a}", _article(thing))
        text = text.replace("{Verb}", verb.capitalize()).replace("{verb}", verb)
        text = text.replace("{thing}", inflected(rng, thing))
        is_question = text.endswith("?")
        if rng.random() < 0.7:
            text = text[0].upper() + text[1:]
        requests.append(text if is_question else text + rng.choice(("", ".", "", "!")))
    order = rng.sample(bounds, len(bounds))
    properties = {bound.parameter.name: bound.schema for bound in order}
    required = list(properties)
    if rng.random() < 0.25:
        name = builder.free(lambda: style_name(rng, [drawn.key(_ROLES)]))
        if name not in properties:
            unused = {"type": rng.choice(("string", "number", "integer", "boolean"))}
            unused["description"] = name.capitalize() + variety.default(rng, vocabulary)
            properties[name] = unused
    described = rng.choice(
        (f"{verb.capitalize()} the {thing}", f"{verb.capitalize()} a {thing}", f"{inflected(rng, verb)} of a {thing}",
         f"Finds the {inflected(rng, thing)} to {verb}", f"{inflected(rng, thing)} that {verb}s something",
         f"Tells the {thing} to {verb}", f"{verb.capitalize()} {thing}s of the user")
    )  # fmt: skip
    parts = rng.choice(
        ([verb, thing], [thing, verb], [thing], [verb, vocabulary.word(rng)], ["get", thing])
    )
    function = {
        "name": builder.free(lambda: style_name(rng, parts) + _number(rng)),
        "description": variety.free(lambda: described + _number(rng)),
        "parameters": {"type": "object", "properties": properties, "required": required},
    }
    return Action(
        function, tuple(bound.parameter for bound in bounds), "", tuple(requests), f"the {thing}",
        rng.choice(("number", "whole", "word", "code", "money")),
    )  # fmt: skip


def _number(rng: random.Random) -> str:
    return "" if rng.random() < 0.95 else f" {rng.randrange(10)}".strip()
