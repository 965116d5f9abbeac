"""Schemas of tools in Python's names of types."""

from lmrun.models.tool_schemas import renamed


def test_names_of_types_are_replaced_wherever_a_schema_stands() -> None:
    schema = {
        "type": "dict",
        "properties": {
            "type": {"type": "str", "default": "dict"},
            "many": {"type": "list", "items": {"type": "float"}},
            "either": {"anyOf": [{"type": "int"}, {"type": ["bool", "null"]}]},
        },
    }
    aliases: list[str] = []
    assert renamed(schema, "f", aliases) == {
        "type": "object",
        "properties": {
            "type": {"type": "string", "default": "dict"},
            "many": {"type": "array", "items": {"type": "number"}},
            "either": {"anyOf": [{"type": "integer"}, {"type": ["boolean", "null"]}]},
        },
    }
    assert aliases[0] == "type 'dict' of f is read as 'object'"
    assert schema["type"] == "dict"


def test_any_is_no_type() -> None:
    aliases: list[str] = []
    assert renamed({"type": "any", "description": "d"}, "f", aliases) == {"description": "d"}
    assert aliases == ["type 'any' of f is read as no type"]
