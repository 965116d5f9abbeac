"""JSON Schemas of tools, whose names of types are often Python's."""

from collections.abc import Mapping
from typing import Any

TYPE_ALIASES: Mapping[str, str] = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
    "dict": "object",
}
"""Python's names of types, which many programs write, and what JSON Schema calls them."""

_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains")


def renamed(schema: Any, where: str, aliases: list[str]) -> Any:  # noqa: ANN401 - any JSON
    """A copy of a schema with Python's names of types replaced, `any` by no type; each is told to
    ``aliases``, naming ``where``. `RecursionError` for one that is nested too deeply."""
    if not isinstance(schema, dict):
        return schema
    copy = dict(schema)
    kind = schema.get("type")
    if isinstance(kind, str) and kind in TYPE_ALIASES:
        copy["type"] = TYPE_ALIASES[kind]
        aliases.append(f"type {kind!r} of {where} is read as {copy['type']!r}")
    elif kind == "any":
        del copy["type"]
        aliases.append(f"type 'any' of {where} is read as no type")
    elif isinstance(kind, list):
        copy["type"] = [TYPE_ALIASES.get(one, one) if isinstance(one, str) else one for one in kind]
    for key, inner in schema.items():
        if key in _SCHEMA_MAPS and isinstance(inner, dict):
            copy[key] = {n: renamed(one, f"{where}.{n}", aliases) for n, one in inner.items()}
        elif key in _SCHEMA_LISTS and isinstance(inner, list):
            copy[key] = [renamed(one, f"{where}.{i}", aliases) for i, one in enumerate(inner)]
        elif key in _SCHEMAS:
            copy[key] = renamed(inner, f"{where}.{key}", aliases)
    return copy
