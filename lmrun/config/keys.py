"""The keys of `schema.py` as a table of dotted names, and what each expects in words."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from lmrun.config.schema import ENTRY_NAME, RunConfig
from lmrun.config.suggest import listed

API_KEYS = "frontend.api_keys"
HUB_TOKEN = "model.hub_token"
SECRETS = (API_KEYS, HUB_TOKEN)
"""Keys that hold references to secrets, resolved at the moment of use."""


@dataclass(frozen=True)
class Key:
    """One leaf of the run config, or an entry of a mapping such as `evaluate.tasks.NAME`."""

    name: str
    """Dotted."""
    kind: type
    """`bool`, `int`, `float`, `str`, `list`, `dict`, or a `str` enum."""
    is_optional: bool
    """`null` is legal."""
    rules: Mapping[str, Any]
    """The field's metadata."""
    item: type | None = None
    """Of a list or a mapping, what stands in it: `str`, `int` or `float`."""

    @property
    def item_rules(self) -> Mapping[str, Any]:
        """The rules of what stands in a list or a mapping."""
        rules: Mapping[str, Any] = self.rules.get("item", {})
        return rules

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
            return f"a list of {_many(self.item, self.item_rules)}"
        if self.kind is dict:
            return f"a mapping of names to {_many(self.item, self.item_rules)}"
        if self.kind is str:
            return "a text"
        return ("a whole number" if self.kind is int else "a number") + _range(self.rules)


def _many(item: type | None, rules: Mapping[str, Any]) -> str:
    words = {str: "texts", int: "whole numbers", float: "numbers"}
    return (words[item] if item is not None else "values") + _range(rules)


def _range(rules: Mapping[str, Any]) -> str:
    low = f"{rules['ge']}" if "ge" in rules else None
    high = f"{rules['le']}" if "le" in rules else None
    text = ""
    if low is not None and high is not None:
        text = f" from {low} to {high}"
    elif low is not None:
        text = f" of at least {low}"
    elif "gt" in rules:
        text = f" above {rules['gt']}"
        if high is not None:
            text += f" and at most {high}"
    if "multiple_of" in rules:
        text += f", a multiple of {rules['multiple_of']}"
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
            kind, is_optional, item = _unwrap(hints[field.name])
            name = f"{group}.{field.name}"
            found[name] = Key(name, kind, is_optional, field.metadata, item)
    return found


@cache
def mappings() -> tuple[str, ...]:
    """Names of the keys that hold a mapping, whose entries are set one by one or together."""
    return tuple(name for name, key in table().items() if key.kind is dict)


def mapping_of(name: str) -> str | None:
    """The key that `name` is an entry of: ``evaluate.tasks`` for ``evaluate.tasks.arc``."""
    above, _, entry = name.rpartition(".")
    is_entry = above in mappings() and re.fullmatch(ENTRY_NAME, entry)
    return above if is_entry else None


def find(name: str) -> Key | None:
    """The key of a dotted name, or the entry of a mapping; None where there is none."""
    key = table().get(name)
    if key is not None:
        return key
    above = mapping_of(name)
    if above is None:
        return None
    key = table()[above]
    assert key.item is not None  # it is a mapping
    rules = {"description": f"of {above}: {key.rules['description']}", **key.item_rules}
    return Key(name, key.item, False, rules)


def unknown(name: str) -> str:
    """Why `name` is no key: ``no such key.``, a suggestion, and the keys that there are."""
    above, _, entry = name.rpartition(".")
    if above in mappings():
        return (
            f"{entry!r} is no name of an entry. A name has letters, digits, _ and -, and begins"
            " with a letter or a digit."
        )
    group, _, leaf = name.partition(".")
    near_mapping = get_close_matches(above, mappings(), 1, 0.8) if "." in above else []
    if near_mapping:
        return f"no such key. Did you mean {near_mapping[0]}.{entry}?"
    if group in groups() and leaf:
        near = get_close_matches(leaf, groups()[group], 1)
        suggestion = f" Did you mean {group}.{near[0]}?" if near else _elsewhere(leaf)
        return f"no such key.{suggestion} Keys of {group}: {', '.join(groups()[group])}."
    near = get_close_matches(name, table(), 1) if "." in name else []
    near = near or get_close_matches(group, groups(), 1) or get_close_matches(name, table(), 1)
    suggestion = _elsewhere(leaf or name) or (f" Did you mean {near[0]}?" if near else "")
    return f"no such key.{suggestion} Groups: {', '.join(groups())}."


def _elsewhere(leaf: str) -> str:
    homes = [name for name in table() if name.rpartition(".")[2] == leaf.rpartition(".")[2]]
    return f" Did you mean {listed(homes)}?" if homes else ""


def _unwrap(hint: Any) -> tuple[type, bool, type | None]:  # noqa: ANN401 - a type expression
    """Kind, whether null is legal, and what stands in a list or a mapping."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    outer = get_origin(hint)
    if outer in (list, dict):
        return outer, False, parts[-1]
    if parts:
        return parts[0], True, None
    return hint, False, None
