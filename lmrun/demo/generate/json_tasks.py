# ruff: noqa: E501
"""Requests for JSON of a small schema, and the JSON."""

import json
import random
from typing import Any

from lmrun.demo.generate import slots, values, words
from lmrun.demo.generate.chat import Turn
from lmrun.demo.generate.naming import spoken, style_name
from lmrun.demo.generate.words import Vocabulary

_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("name", "string", "person"), ("age", "integer", "age"), ("city", "string", "city"),
    ("email", "string", "email"), ("country", "string", "country"), ("price", "number", "money"),
    ("color", "string", "color"), ("date", "string", "date"), ("year", "integer", "year"),
    ("title", "string", "title"), ("quantity", "integer", "count"), ("phone", "string", "phone"),
    ("food", "string", "food"), ("animal", "string", "animal"), ("language", "string", "language"),
    ("tags", "array", "tags"), ("scores", "array", "numbers"), ("friends", "array", "names"),
    ("weight", "number", "weight"), ("height", "number", "height"), ("id", "string", "code"),
    ("time", "string", "time"), ("level", "integer", "level"), ("url", "string", "url"),
)  # fmt: skip
_INTRODUCTIONS = (
    "Answer in JSON with the keys {keys}.", "Give me JSON with {keys}.", "Write it as JSON: {keys}.",
    "Return a JSON object with {keys}.", "Extract {keys} as JSON.", "Turn this into JSON with {keys}.",
    "Fill in {keys} as JSON.", "Make a JSON object of {keys}.", "I need {keys} in JSON.",
)  # fmt: skip
_SCHEMAS = (
    "Answer in JSON that fits this schema: {schema}", "Fill this JSON schema: {schema}",
    "Use the schema {schema}", "JSON schema: {schema}", "Reply with JSON for the schema {schema}",
)  # fmt: skip
_FACTS = ("{w} is {v}", "the {w} is {v}", "{w}: {v}", "{w} {v}", "{w} = {v}")


def _field(rng: random.Random, vocabulary: Vocabulary) -> tuple[str, dict[str, Any], Any, str]:
    """Name, schema, value, words of the request."""
    if rng.random() < 0.55:
        name, _, kind = rng.choice(_FIELDS)
        value, surface = slots.KINDS[kind].sample(rng, vocabulary)
        return name, dict(slots.KINDS[kind].schema), value, surface
    name = style_name(rng, vocabulary.noun(rng).split())
    draw = rng.random()
    if draw < 0.15:
        flag = rng.random() < 0.5
        return (
            name,
            {"type": "boolean"},
            flag,
            rng.choice(("yes", "true") if flag else ("no", "false")),
        )
    if draw < 0.3:
        choices = [vocabulary.word(rng) for _ in range(3)]
        value = rng.choice(choices)
        return name, {"type": "string", "enum": choices}, value, value
    schema, sample = rng.choice(
        (
            (slots.INTEGER, values.integer),
            (slots.NUMBER, values.number),
            (slots.STRING, values.word),
        )
    )
    value, surface = sample(rng, vocabulary)
    return name, dict(schema), value, surface


def turn(rng: random.Random, vocabulary: Vocabulary) -> Turn:
    """What the user asks and the JSON that answers."""
    fields: dict[str, tuple[dict[str, Any], Any, str]] = {}
    for _ in range(rng.randint(1, 5)):
        name, schema, value, surface = _field(rng, vocabulary)
        fields[name] = schema, value, surface
    names = list(fields)
    answer = json.dumps({name: fields[name][1] for name in names}, ensure_ascii=False)
    frame = rng.choice(_FACTS)
    facts = [
        frame.replace("{w}", spoken(name)).replace("{v}", fields[name][2])
        for name in rng.sample(names, len(names))
    ]
    said = ", ".join(facts) + rng.choice(("", "."))
    if len(facts) > 1 and rng.random() < 0.5:
        said = ", ".join(facts[:-1]) + " and " + facts[-1] + "."
    said = said[0].upper() + said[1:]
    if rng.random() < 0.5:
        keys = rng.choice((", ", ", ")).join(names)
        if len(names) > 1 and rng.random() < 0.6:
            keys = ", ".join(names[:-1]) + " and " + names[-1]
        if rng.random() < 0.35:
            keys = ", ".join(f"{name} ({fields[name][0]['type']})" for name in names)
        asked = rng.choice(_INTRODUCTIONS).replace("{keys}", keys)
    else:
        schema = {
            "type": "object",
            "properties": {name: fields[name][0] for name in names},
            "required": names,
        }
        asked = rng.choice(_SCHEMAS).replace("{schema}", json.dumps(schema))
    separator = rng.choice((" ", "\n"))
    if rng.random() < 0.5:
        return f"{asked}{separator}{said}", answer
    return f"{said}{separator}{asked}", answer


_SENTENCES = (
    "{name} is {age} years old and lives in {city}.", "{name} lives in {city} and is {age}.",
    "My friend {name} from {city} turned {age} today.", "{name}, {age}, comes from {city}.",
    "In {city} lives {name}, who is {age} years old.",
)  # fmt: skip


def person(rng: random.Random, vocabulary: Vocabulary) -> Turn:
    """Facts about a person in a sentence, asked for as JSON."""
    name = values.first_name(rng, vocabulary)[0]
    city, age = values.place(words.CITIES)(rng, vocabulary)[0], rng.randint(1, 99)
    fact: dict[str, Any] = {"name": name, "age": age, "city": city}
    keys = rng.sample(list(fact), rng.randint(1, 3))
    text = rng.choice(_SENTENCES).format(name=name, age=age, city=city)
    asked = rng.choice(_INTRODUCTIONS).replace("{keys}", ", ".join(keys))
    if rng.random() < 0.4:
        kinds = {"name": "string", "age": "integer", "city": "string"}
        properties = {key: {"type": kinds[key]} for key in keys}
        schema = {"type": "object", "properties": properties, "required": keys}
        asked = rng.choice(_SCHEMAS).replace("{schema}", json.dumps(schema))
    answer = json.dumps({key: fact[key] for key in keys}, ensure_ascii=False)
    return rng.choice((f"{asked} {text}", f"{text} {asked}", f"{asked}\n{text}")), answer
