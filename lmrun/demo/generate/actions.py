"""A function with its schema, and requests for one call of it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmrun.demo.generate import slots
from lmrun.demo.generate.values import Sampled, Sampler
from lmrun.demo.generate.words import Vocabulary


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function and how a user gives it."""

    name: str
    kind: str
    """A key of `slots.KINDS`; empty for one that stands for nothing else."""
    sample: Sampler
    phrases: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True)
class Ask:
    """A request for one call."""

    text: str
    """A clause such as "open the door", or a sentence."""
    is_sentence: bool
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Action:
    """A function, its parameters, and the way to ask for it."""

    function: dict[str, Any]
    parameters: tuple[Parameter, ...]
    opening: str
    """What a procedural request begins with, "open the door"; else empty."""
    requests: tuple[str, ...] = ()
    result: str = ""
    result_kind: str = ""
    by_noun: bool = False
    """Whether the request's verb says nothing: no other function may share the noun."""

    def taking(self, kind: str) -> int | None:
        """Index of the required parameter of a kind."""
        for index, parameter in enumerate(self.parameters):
            if parameter.kind == kind and parameter.required:
                return index
        return None

    def ask(
        self,
        rng: random.Random,
        vocabulary: Vocabulary,
        given: Mapping[int, Sampled] | None = None,
    ) -> Ask:
        """A request with fresh values; ``given`` fixes those of some parameters by index."""
        given = given or {}
        arguments: dict[str, Any] = {}
        surfaces: list[str] = []
        mentioned: list[int] = []
        for index, parameter in enumerate(self.parameters):
            if not parameter.required and index not in given and rng.random() < 0.5:
                surfaces.append("")
                continue
            value, surface = given.get(index) or parameter.sample(rng, vocabulary)
            arguments[parameter.name] = value
            surfaces.append(surface)
            mentioned.append(index)
        text = self.opening
        num_placed = 0
        is_sentence = False
        if self.requests:
            text = slots.pick(rng, self.requests)
            is_sentence = text[-1] in "?." or text[0].isupper()
            num_placed = sum(f"{{{index}}}" in text for index in range(len(self.parameters)))
            text = _fill(text, surfaces)
        extra = [index for index in mentioned if index >= num_placed]
        if len(extra) > 1 and rng.random() < 0.8:
            rng.shuffle(extra)
        joint = ", " if rng.random() < 0.15 else " "
        for index in extra:
            parameter = self.parameters[index]
            value = arguments[parameter.name]
            text = said_with(rng, text, parameter, value, surfaces[index], joint)
        return Ask(text, is_sentence, arguments)


def said_with(
    rng: random.Random,
    text: str,
    parameter: Parameter,
    value: Any,  # noqa: ANN401 - any JSON value
    surface: str,
    joint: str = " ",
) -> str:
    """A request with one more parameter at its end, before its last sign."""
    end = text[-1] if text[-1] in "?." else ""
    phrase = slots.pick(rng, _phrases(parameter, value))
    return text.rstrip("?.") + joint + phrase.replace("{0}", surface) + end


def _phrases(parameter: Parameter, value: Any) -> tuple[str, ...]:  # noqa: ANN401 - any JSON value
    """The phrases of a parameter; those of a flag depend on its value."""
    if parameter.kind != "flag":
        return parameter.phrases
    half = len(parameter.phrases) // 2
    return parameter.phrases[:half] if value else parameter.phrases[half:]


def _fill(text: str, surfaces: Sequence[str]) -> str:
    for index, surface in enumerate(surfaces):
        text = text.replace(f"{{{index}}}", surface)
    return text
