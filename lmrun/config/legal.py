"""Whether a value is legal for a key, by the rules of `schema.py`.

msgspec reads the same field metadata from which pydantic makes the JSON Schema: `plan` imports
msgspec anyway, and pydantic would cost it 0.1 s. A test holds both to the same answers.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

import msgspec

from lmrun.config.keys import find
from lmrun.config.schema import ENTRY_NAME, RunConfig

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")


def is_legal(name: str, value: object) -> bool:
    """True for a resolved value of the right type, in range, in the list, fitting the pattern."""
    key = find(name)
    assert key is not None  # its name was checked
    if key.choices is not None and value not in key.choices:
        return False
    if any(_is_no_number(item, key.item or key.kind) for item in _items(value)):
        return False
    try:
        msgspec.convert(value, _type(name), strict=True)
    except msgspec.ValidationError:
        return False
    return True


def run_config(values: dict[str, Any]) -> RunConfig:
    """The dataclasses of a complete document whose values are all legal."""
    return msgspec.convert(values, RunConfig, strict=True)


@cache
def _type(name: str) -> Any:  # noqa: ANN401 - a type expression
    key = find(name)
    assert key is not None  # its name was checked
    kind = _ruled(key.kind, key.rules)
    if key.kind is list:
        kind = _of(list, _ruled(key.item, key.item_rules))
    elif key.kind is dict:
        kind = _of(dict, (_ruled(str, {"pattern": ENTRY_NAME}), _ruled(key.item, key.item_rules)))
    return kind | None if key.is_optional else kind


def _of(outer: Any, inner: Any) -> Any:  # noqa: ANN401 - type expressions
    return outer[inner]


def _ruled(kind: Any, rules: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a type expression
    kept = {rule: rules[rule] for rule in _BOUNDS if rule in rules}
    if "pattern" in rules:
        kept["pattern"] = _end_only(rules["pattern"])
    return Annotated[kind, msgspec.Meta(**kept)] if kept else kind


def _end_only(pattern: str) -> str:
    """With ``$`` as JSON Schema means it: Python's also matches before a newline."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern


def _items(value: object) -> list[Any]:
    """The value, or what stands in it."""
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else [value]


def _is_no_number(value: object, kind: type) -> bool:
    """True for a number that JSON has not, and for 1.0 where a whole number is expected."""
    return isinstance(value, float) and (not math.isfinite(value) or kind is int)
