"""Functions with a schema, and requests that one call of them answers."""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lmrun.demo.generate import slots, values, variety, words
from lmrun.demo.generate.actions import Action, Parameter
from lmrun.demo.generate.bindings import binding
from lmrun.demo.generate.disguise import disguised
from lmrun.demo.generate.formulas import formula
from lmrun.demo.generate.lists import TrainingLists
from lmrun.demo.generate.naming import article, function_name, spoken, style_name, third_person
from lmrun.demo.generate.templates import Domain, Worded
from lmrun.demo.generate.values import Sampled, Sampler
from lmrun.demo.generate.wording import Wording
from lmrun.demo.generate.words import Vocabulary

_EXCLUSIVE = (
    {"city", "origin", "goal", "country"},
    {"whole", "word", "number", "small", "code", "noun", "path", "symbol"},
    {"whole", "money", "number", "small", "numbers", "year", "count"},
    {"person", "names"},
    {"topic", "language"},
    {"city", "goal", "email", "phone", "language"},
    {"word", "tags", "noun", "animal", "food"},
    {"degrees", "level"},
    {"minutes", "hours", "days"},
    {"language", "currency", "color"},
    {"url", "path", "city"},
)
"""Kinds that a listener could take for one another."""


_GENERIC: tuple[tuple[Mapping[str, Any], Sampler], ...] = (
    (slots.INTEGER, values.integer),
    (slots.INTEGER, values.small(0, 999)),
    (slots.NUMBER, values.number),
    (slots.STRING, values.word),
    (slots.STRING, values.title),
    (slots.STRING, values.code),
    (slots.STRING, values.first_name),
    (slots.STRING, values.noun),
)
_FLAG_PREFIXES = ("", "", "with", "use", "include", "enable", "allow", "is", "keep")


def _flag(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    return rng.random() < 0.6, ""


def _chosen(choices: Sequence[str]) -> Sampler:
    def sample(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        del vocabulary
        return values.same(choices[int(rng.random() * len(choices))])

    return sample


class Builder(Wording):
    """Builds training's functions. Draws no name of ``taken``."""

    lists: TrainingLists

    def __init__(
        self,
        lists: TrainingLists,
        vocabulary: Vocabulary,
        taken: Collection[str] = frozenset(),
    ) -> None:
        super().__init__(lists, vocabulary, taken, is_varied=True)
        self.lists = lists
        self._kinds = tuple(lists.wordings)
        self._taking: dict[str, list[Domain]] = {}
        for domain in lists.domains:
            for kind in {slot.kind for slot in domain.slots if slot.required}:
                self._taking.setdefault(kind, []).append(domain)

    def _from_kind(
        self, rng: random.Random, kind: str, *, required: bool = True
    ) -> tuple[Parameter, dict[str, Any]]:
        schema = dict(slots.KINDS[kind].schema)
        wording = self.lists.wordings[kind]
        is_described = rng.random() < 0.75
        text = slots.pick(rng, wording.descriptions)
        if is_described:
            schema["description"] = _cased(rng, text)
        listed = wording.phrases
        name = slots.pick(rng, wording.names)
        if rng.random() < 0.4 or name in self.taken:
            told = text if rng.random() < 0.4 else ""
            name = self.free(
                lambda: style_name(rng, variety.name_parts(rng, told, self.vocabulary))
            )
        draw = rng.random()
        if draw < 0.3:
            listed = (variety.named_phrase(rng).replace("{w}", spoken(name)),)
        elif draw < 0.4 and kind not in ("origin", "goal"):
            listed = (variety.loose_phrase(rng),)
        phrases = tuple(phrase.replace("{v}", "{0}") for phrase in listed)
        sample = slots.KINDS[kind].sample
        return Parameter(name, kind, sample, phrases, required), schema

    def _generic(
        self, rng: random.Random, noun: str, required: bool
    ) -> tuple[Parameter, dict[str, Any]]:
        """A parameter whose name the request repeats in words."""
        draw = rng.random()
        lists = self.lists
        if draw < 0.2:
            stem = self.vocabulary.word(rng)
            prefix = slots.pick(rng, _FLAG_PREFIXES)
            listed = rng.random() < 0.3
            if listed:
                name = slots.pick(rng, lists.flags.names)
                stem = name.removeprefix("is_").removeprefix("with_").replace("_", " ")
            else:
                name = style_name(rng, [prefix, stem] if prefix else [stem])
            schema: dict[str, Any] = {"type": "boolean"}
            if rng.random() < 0.6:
                schema["description"] = slots.pick(rng, lists.flags.descriptions)
            on, off = lists.flag_on, lists.flag_off
            if rng.random() < 0.7:
                on, off = variety.flag_phrases(rng)
            phrases = tuple(phrase.replace("{w}", stem) for phrase in (*on, *off))
            return Parameter(name, "flag", _flag, phrases, required), schema
        if draw < 0.4:
            if rng.random() < 0.5:
                name = rng.choice(tuple(lists.enums))
                choices = list(lists.enums[name])
            else:
                name = self.free(lambda: style_name(rng, self.vocabulary.noun(rng).split()))
                choices = [self.vocabulary.word(rng) for _ in range(rng.randint(2, 4))]
            schema = {"type": "string", "enum": choices}
            framed = lists.enum_phrases
            sample = _chosen(choices)
        else:
            parts = 2 if rng.random() < 0.35 else 1
            name = self.free(
                lambda: style_name(rng, [self.vocabulary.word(rng) for _ in range(parts)])
            )
            fixed, sample = rng.choice(_GENERIC)
            schema = dict(fixed)
            framed = lists.generic_phrases
        if rng.random() < 0.6:
            framed = tuple(variety.named_phrase(rng) for _ in range(3))
        stem = spoken(name)
        if rng.random() < 0.7:
            text = slots.pick(rng, lists.generic_descriptions)
            schema["description"] = (
                text.replace("{w}", stem).replace("{W}", stem.capitalize()).replace("{o}", noun)
            )
        phrases = tuple(phrase.replace("{w}", stem).replace("{v}", "{0}") for phrase in framed)
        return Parameter(name, "", sample, phrases, required), schema

    def _extras(
        self,
        rng: random.Random,
        noun: str,
        count: int,
        optional: float,
        used: Collection[str] = (),
    ) -> list[tuple[Parameter, dict[str, Any]]]:
        kinds = set(used)
        made: list[tuple[Parameter, dict[str, Any]]] = []
        names: set[str] = set()
        while len(made) < count:
            required = rng.random() >= optional
            if rng.random() < 0.58:
                kind = self._kinds[int(rng.random() * len(self._kinds))]
                if kind in kinds or any(kind in group and kinds & group for group in _EXCLUSIVE):
                    continue
                pair = self._from_kind(rng, kind, required=required)
                kinds.add(kind)
            else:
                pair = self._generic(rng, noun, required)
            if pair[0].name in names or pair[0].name in self.taken:
                continue
            names.add(pair[0].name)
            made.append(pair)
        return made

    def _action(
        self,
        rng: random.Random,
        name: str,
        description: str,
        pairs: Sequence[tuple[Parameter, dict[str, Any]]],
        **rest: Any,  # noqa: ANN401 - the other fields of Action
    ) -> Action:
        function: dict[str, Any] = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = {
            "type": "object",
            "properties": {parameter.name: schema for parameter, schema in pairs},
            "required": [parameter.name for parameter, _ in pairs if parameter.required],
        }
        return Action(function, tuple(parameter for parameter, _ in pairs), **rest)

    def procedural(
        self,
        rng: random.Random,
        *,
        verbs: Sequence[str] | None = None,
        noun: str = "",
        kind: str = "",
    ) -> Action:
        """A function of a verb and a noun; ``kind`` asks for a parameter of that kind."""
        lists = self.lists
        by_noun = False
        if verbs is None and rng.random() < 0.4:
            # verbs that nobody knows: their letters tell, or, of several, only the noun does
            by_noun = rng.random() < 0.4
            verbs = [
                words.made_up(rng, 1, 3) if rng.random() < 0.4 else self.vocabulary.word(rng)
                for _ in range(3 if by_noun else 1)
            ]
        verbs = verbs or rng.choice(lists.verb_groups)
        noun = noun or self.vocabulary.noun(rng)
        count = rng.choices((0, 1, 2, 3, 4), (5, 33, 34, 19, 9))[0]
        pairs: list[tuple[Parameter, dict[str, Any]]] = []
        if kind:
            pairs.append(self._from_kind(rng, kind))
            count = max(count - 1, 0)
        pairs += self._extras(rng, noun, count, 0.3, {kind} if kind else ())
        if len({parameter.name for parameter, _ in pairs}) < len(pairs):
            pairs = pairs[:1]
        rng.shuffle(pairs)
        single = [verb for verb in verbs if " " not in verb] or list(verbs)
        name_verb = rng.choice(verbs[:2])
        name = function_name(rng, name_verb, noun)
        if name in self.taken:
            name = self.free(lambda: words.made_up(rng, 2, 3))
        is_opaque = name_verb.replace(" ", "") not in name.lower().replace("_", "")
        description = ""
        if is_opaque or rng.random() < 0.85:
            verb = name_verb if rng.random() < 0.6 else rng.choice(single)
            the = rng.choice(
                (article(noun), "the", "the", "a new" if rng.random() < 0.3 else "the")
            )
            frame = slots.pick(rng, lists.description_frames)
            many = third_person(verb)
            description = (
                frame.replace("{verb}", verb)
                .replace("{Verb}", verb.capitalize())
                .replace("{verbs}", many)
                .replace("{Verbs}", many.capitalize())
                .replace("{the}", the)
                .replace("{object}", noun)
            )
        said = rng.choice(verbs)
        how = rng.choice(("the", "the", "the", article(noun), "my", "our", "this"))
        result, result_kind = "", ""
        if rng.random() < 0.5:
            result, result_kind = "the result", rng.choice(_RESULT_KINDS)
        return self._action(
            rng, name, description, pairs, opening=f"{said} {how} {noun}", result=result,
            result_kind=result_kind, by_noun=by_noun,
        )  # fmt: skip

    def domain(self, rng: random.Random, domain: Domain) -> Worded:
        """A function of a domain, more often than not with other words in it."""
        if rng.random() < 0.5:
            domain = disguised(rng, domain, self.vocabulary)
        name, description = self._named(rng, domain)
        names, properties = self._properties(rng, domain)
        required = [key for key, slot in zip(names, domain.slots, strict=True) if slot.required]
        extras: list[Parameter] = []
        if rng.random() < 0.25:
            found = self._extras(rng, domain.result or "it", rng.randint(1, 2), 0.9)
            for parameter, schema in found:
                if parameter.name not in properties:
                    extras.append(parameter)
                    properties[parameter.name] = schema
                    required += [parameter.name] if parameter.required else []
        if rng.random() < 0.45:
            order = sorted(properties, key=lambda _: rng.random())
            properties = {key: properties[key] for key in order}
        function: dict[str, Any] = {"name": name}
        if description:
            function["description"] = description
        function["parameters"] = {
            "type": "object", "properties": properties, "required": required,
        }  # fmt: skip
        return Worded(function, domain, tuple(names), tuple(extras))

    def _named(self, rng: random.Random, domain: Domain) -> tuple[str, str]:
        """Name and description of a domain's function."""
        description = slots.pick(rng, domain.descriptions) if domain.descriptions else ""
        name = slots.pick(rng, domain.names)
        draw = rng.random()
        if draw < 0.25 and description:
            told = description
            name = self.free(
                lambda: style_name(rng, variety.name_parts(rng, told, self.vocabulary))
            )
        elif draw < 0.6:
            parts = spoken(name).split()
            if len(parts) == 1 or rng.random() < 0.12:
                parts.insert(0, self.vocabulary.word(rng))
            name = self.free(lambda: style_name(rng, parts))
        if description and rng.random() < 0.6:
            description = variety.description(rng, description, self.vocabulary)
        if rng.random() < 0.06 and draw >= 0.25:
            description = ""
        if name in self.taken:
            name = self.free(lambda: words.made_up(rng, 2, 3))
        return name, description

    def _properties(
        self, rng: random.Random, domain: Domain
    ) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Names of a domain's parameters, and their schemas by name."""
        names: list[str] = []
        properties: dict[str, dict[str, Any]] = {}
        for slot in domain.slots:
            schema = slot.schema()
            text = slot.description
            if not text and slot.kind in slots.KINDS:
                text = slots.pick(rng, self.lists.wordings[slot.kind].descriptions)
            if rng.random() < 0.8 and text:
                shown = _cased(rng, text)
                if not slot.required and rng.random() < 0.25:
                    shown += variety.default(rng, self.vocabulary)
                schema["description"] = variety.other_than_the_tests(shown, rng, self.vocabulary)
            chosen = self._parameter_name(rng, slot.names, text)
            while chosen in properties or chosen in self.taken:
                chosen = self.vocabulary.word(rng) + str(len(names))
            names.append(chosen)
            properties[chosen] = schema
        return names, properties

    def _parameter_name(self, rng: random.Random, names: Sequence[str], text: str) -> str:
        name = slots.pick(rng, tuple(names))
        draw = rng.random()
        if draw < 0.2:
            return style_name(rng, spoken(name).split())
        if draw < 0.35 and text:
            return style_name(rng, variety.name_parts(rng, text, self.vocabulary))
        if draw < 0.4:
            return style_name(rng, [self.vocabulary.word(rng) for _ in range(rng.randint(1, 2))])
        return name

    def lookup(self, rng: random.Random, attribute: str) -> Action:
        """A function that finds an attribute, ``some_attribute:kind``, of a person or thing."""
        lists = self.lists
        underscored, _, kind = attribute.partition(":")
        if rng.random() < 0.5:
            underscored = self.vocabulary.noun(rng).replace(" ", "_")
        spoken_attribute = underscored.replace("_", " ")
        source = rng.choice(("person", "person", "code"))
        owner = "person" if source == "person" else self.vocabulary.noun(rng).replace(" ", "_")
        pair = self._from_kind(rng, source)
        frame = slots.pick(rng, lists.lookup_names)
        filled = frame.replace("{a}", underscored).replace("{o}", owner)
        name = style_name(rng, filled.split("_"))
        description = slots.pick(rng, lists.lookup_descriptions)
        description = description.replace("{a}", spoken_attribute)
        description = description.replace("{o}", owner.replace("_", " "))
        if rng.random() < 0.3:
            name = self.free(lambda: style_name(rng, variety.name_parts(rng, "", self.vocabulary)))
            filled = ""
        requests = []
        lines = list(lists.lookup_frames)
        lines += [variety.lookup_request(rng, self.vocabulary) for _ in range(12)]
        for line in lines:
            value = "{0}" if source == "person" else owner.replace("_", " ") + " {0}"
            requests.append(line.replace("{a}", spoken_attribute).replace("{v}", value))
        return self._action(
            rng, name, description if not filled or rng.random() < 0.9 else "", [pair], opening="",
            requests=tuple(requests), result=f"the {spoken_attribute}", result_kind=kind,
        )  # fmt: skip

    def any_action(self, rng: random.Random) -> Action | Worded:
        """An action of whatever sort."""
        draw = rng.random()
        if draw < 0.17:
            return self.procedural(rng)
        if draw < 0.23:
            return formula(rng, self)
        if draw < 0.33:
            return binding(rng, self)
        if draw < 0.94:
            return self.domain(rng, rng.choice(self.lists.domains))
        return self.lookup(rng, rng.choice(self.lists.lookups))

    def taking(self, rng: random.Random, kind: str) -> tuple[Action | Worded, int]:
        """An action with a required parameter of a kind, and that parameter's index."""
        fitting = self._taking.get(kind, ())
        action: Action | Worded
        if kind not in self.lists.wordings or (fitting and rng.random() < 0.6):
            action = self.domain(rng, rng.choice(fitting))
        else:
            action = self.procedural(rng, kind=kind)
        index = action.taking(kind)
        assert index is not None
        return action, index


_RESULT_KINDS = ("word", "whole", "number", "code", "person", "date", "city", "money", "time")


def _cased(rng: random.Random, text: str) -> str:
    draw = rng.random()
    if draw < 0.35:
        text = text[0].upper() + text[1:]
        return text + "." if draw < 0.15 else text
    return text
