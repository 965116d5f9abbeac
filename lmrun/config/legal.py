"""Whether a value is legal for a key, by the rules of `schema.py`.

msgspec reads the same field metadata from which pydantic makes the JSON Schema: `plan` imports
msgspec anyway, and pydantic would cost it 0.1 s. A test holds both to the same answers.
"""

import math
from functools import cache
from typing import Annotated, Any

import msgspec

from lmrun.config.keys import Key, table
from lmrun.config.schema import RunConfig

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")


def is_legal(name: str, value: object) -> bool:
    """True for a resolved value of the right type, in range, in the list, fitting the pattern."""
    key = table()[name]
    if key.choices is not None and value not in key.choices:
        return False
    if isinstance(value, float) and (not math.isfinite(value) or key.kind is int):
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
    key = table()[name]
    kind: Any = list[str] if key.kind is list else key.kind
    rules = {rule: key.rules[rule] for rule in _BOUNDS if rule in key.rules}
    if "pattern" in key.rules:
        rules["pattern"] = _end_only(key)
    if rules:
        kind = Annotated[kind, msgspec.Meta(**rules)]
    return kind | None if key.is_optional else kind


def _end_only(key: Key) -> str:
    """The pattern with ``$`` as JSON Schema means it: Python's also matches before a newline."""
    pattern: str = key.rules["pattern"]
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
