"""What the JSON Schemas of lmrun's documents are put together from."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
"""SHA-256 in hex."""


def record(optional: Mapping[str, Schema] | None = None, /, **properties: Schema) -> Schema:
    """An object that has these properties, and ``optional`` ones, and no other."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": {**properties, **(optional or {})},
    }


def records(**properties: Schema) -> Schema:
    """A list of such objects."""
    return {"type": "array", "items": record(**properties)}


def mapping(values: Schema) -> Schema:
    """An object of any names, all with such values."""
    return {"type": "object", "additionalProperties": values}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def document(
    title: str, version: int, optional: Mapping[str, Schema] | None = None, /, **properties: Schema
) -> Schema:
    """A whole document: `record` with a title and the version that a reader checks."""
    head: Schema = {"schema_version": {"const": version}}
    return {"$schema": DRAFT, "title": title, **record(optional, **head, **properties)}


def closed(schema: Schema) -> Schema:
    """A schema made from types, in which no object may have other properties than it names."""
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return schema
