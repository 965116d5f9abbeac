"""The keys of `schema.py` as a table of dotted names, and what each expects in words."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from lmrun.config.schema import RunConfig
from lmrun.config.suggest import listed

API_KEYS = "frontend.api_keys"
HUB_TOKEN = "model.hub_token"
SECRETS = (API_KEYS, HUB_TOKEN)
"""Keys that hold references to secrets, resolved at the moment of use."""


@dataclass(frozen=True)
class Key:
    """One leaf of the run config."""

    name: str
    """Dotted."""
    kind: type
    """`bool`, `int`, `float`, `str`, `list`, or a `str` enum."""
    is_optional: bool
    """`null` is legal."""
    rules: Mapping[str, Any]
    """The field's metadata."""

    @property
    def choices(self) -> list[Any] | None:
        """The closed list of legal values, or None."""
        if issubclass(self.kind, Enum):
            return [member.value for member in self.kind]
        extra: dict[str, Any] = self.rules.get("json_schema_extra", {})
        return extra.get("enum")

    @property
    def expectation(self) -> str:
        """What a value must be: the type with its range, list or examples."""
        text = self._expectation()
        return f"{text}, or null" if self.is_optional else text

    def _expectation(self) -> str:
        if self.choices is not None:
            return f"one of {listed(self.choices)}"
        if "examples" in self.rules:
            return f"a value such as {listed(self.rules['examples'])}"
        if self.kind is bool:
            return "true or false"
        if self.kind is list:
            return "a list of texts"
        if self.kind is str:
            return "a text"
        return ("a whole number" if self.kind is int else "a number") + self._range()

    def _range(self) -> str:
        low = f"{self.rules['ge']}" if "ge" in self.rules else None
        high = f"{self.rules['le']}" if "le" in self.rules else None
        text = ""
        if low is not None and high is not None:
            text = f" from {low} to {high}"
        elif low is not None:
            text = f" of at least {low}"
        elif "gt" in self.rules:
            text = f" above {self.rules['gt']}"
            if high is not None:
                text += f" and at most {high}"
        if "multiple_of" in self.rules:
            text += f", a multiple of {self.rules['multiple_of']}"
        return text


@cache
def groups() -> Mapping[str, tuple[str, ...]]:
    """Group → its keys, undotted, in the order of the schema."""
    hints = get_type_hints(RunConfig)
    return {
        field.name: tuple(inner.name for inner in dataclasses.fields(hints[field.name]))
        for field in dataclasses.fields(RunConfig)
    }


@cache
def table() -> Mapping[str, Key]:
    """Dotted name → `Key`, in the order of the schema."""
    found: dict[str, Key] = {}
    for group, group_class in get_type_hints(RunConfig).items():
        hints = get_type_hints(group_class)
        for field in dataclasses.fields(group_class):
            kind, is_optional = _unwrap(hints[field.name])
            name = f"{group}.{field.name}"
            found[name] = Key(name, kind, is_optional, field.metadata)
    return found


def unknown(name: str) -> str:
    """Why `name` is no key: ``no such key.``, a suggestion, and the keys that there are."""
    group, _, leaf = name.partition(".")
    if group in groups() and leaf:
        near = get_close_matches(leaf, groups()[group], 1)
        suggestion = f" Did you mean {group}.{near[0]}?" if near else _elsewhere(leaf)
        return f"no such key.{suggestion} Keys of {group}: {', '.join(groups()[group])}."
    near = get_close_matches(name, table(), 1) or get_close_matches(group, groups(), 1)
    suggestion = _elsewhere(leaf or name) or (f" Did you mean {near[0]}?" if near else "")
    return f"no such key.{suggestion} Groups: {', '.join(groups())}."


def _elsewhere(leaf: str) -> str:
    homes = [name for name in table() if name.rpartition(".")[2] == leaf.rpartition(".")[2]]
    return f" Did you mean {listed(homes)}?" if homes else ""


def _unwrap(hint: Any) -> tuple[type, bool]:  # noqa: ANN401 - a type expression
    parts = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is list:
        return list, False
    if parts:
        return parts[0], True
    return hint, False
