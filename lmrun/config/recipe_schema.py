"""The JSON Schema of a recipe, from which editors complete and check.

It is made from `schema.py`: every key optional, since a recipe is a partial document; ``${…}`` and
``???`` legal wherever a value may stand; and a ``defaults`` list that knows the options of each
group and the recipes there are. It lies beside the recipes, and each recipe names it in its
`MODELINE`, so that the same line is right in every folder.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmrun.config import keys
from lmrun.config.names import recipe_names
from lmrun.config.places import Places
from lmrun.config.schema import ENTRY_NAME, RunConfig
from lmrun.config.secrets import REFERENCE
from lmrun.json_schema import DRAFT

FILE_NAME = "recipe.schema.json"
MODELINE = f"# yaml-language-server: $schema={FILE_NAME}"
"""A comment line of a recipe, below the line that says what the recipe is."""
RECIPE_NAME = r"^[^./\\]+$"
_RULES = {"ge": "minimum", "le": "maximum", "examples": "examples"}
_DEFERRED = {"$ref": "#/$defs/Deferred"}
_DEFERRED_BODY = {
    "$comment": "an interpolation such as ${kv.bits}, or ??? for a value that must be given",
    "type": "string",
    "pattern": r"^(.*\$\{.*\}.*|\?\?\?)$",
}


def schema(cwd: Path) -> dict[str, Any]:
    """The schema of the recipes that are found from `cwd`; costs pydantic (0.1 s)."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - for this alone

    document = TypeAdapter(RunConfig).json_schema()
    groups = document.pop("properties")
    _rule_items(document["$defs"], groups)
    definitions = {name: _loosened(body) for name, body in document.pop("$defs").items()}
    for group in definitions.values():
        if group.get("type") == "object":
            group["additionalProperties"] = False
    _refuse_literal_secrets(definitions)
    return {
        "$schema": DRAFT,
        "description": "A recipe of lmrun: the options it picks, and the keys it sets over them.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "defaults": _defaults(Places.at(cwd)),
            **{name: _described(body, definitions) for name, body in groups.items()},
        },
        "$defs": {**definitions, "Deferred": _DEFERRED_BODY},
    }


def text(cwd: Path) -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema(cwd), indent=1, ensure_ascii=False) + "\n"


def _defaults(places: Places) -> dict[str, Any]:
    """Items: a recipe to start from, ``_self_``, or ``override /GROUP: OPTION``."""
    overrides = {
        f"override /{group}": {
            "description": f"a file of configs/{group}",
            "enum": list(places.options(group)),
        }
        for group in keys.groups()
        if places.options(group)
    }
    return {
        "type": "array",
        "description": "recipes to start from, then the options of groups; later beats earlier",
        "items": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": overrides,
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
                {"enum": [*recipe_names(places.recipe_folders), "_self_"]},
                {"type": "string", "pattern": RECIPE_NAME, "description": "another recipe"},
            ]
        },
    }


def _described(body: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A group with the description of its class, which editors show."""
    name = str(body["$ref"]).rpartition("/")[2]
    return {"$ref": body["$ref"], "description": definitions[name].get("description", "")}


def _rule_items(definitions: dict[str, Any], groups: Mapping[str, Any]) -> None:
    """What may stand in a list or a mapping, of which pydantic knows the type alone."""
    for name, key in keys.table().items():
        group, _, leaf = name.partition(".")
        if key.kind not in (list, dict):
            continue
        body = definitions[str(groups[group]["$ref"]).rpartition("/")[2]]["properties"][leaf]
        item = body["items" if key.kind is list else "additionalProperties"]
        item |= {
            word: key.item_rules[rule] for rule, word in _RULES.items() if rule in key.item_rules
        }
        if key.kind is dict:
            body["propertyNames"] = {"pattern": ENTRY_NAME}


def _refuse_literal_secrets(definitions: dict[str, Any]) -> None:
    """A secret stands in a recipe as a reference only."""
    reference = {"type": "string", "pattern": f"^{REFERENCE.pattern}$"}
    for group in definitions.values():
        found = group.get("properties", {})
        for name in keys.SECRETS:
            leaf = name.partition(".")[2]
            if leaf not in found:
                continue
            outside = {"description": found[leaf]["description"]}
            if keys.table()[name].kind is list:
                found[leaf] = {**outside, "type": "array", "items": reference}
            else:
                found[leaf] = {**outside, "anyOf": [reference, {"type": "null"}]}


def _loosened(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return [_loosened(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: {name: _property(body) for name, body in value.items()}
        if key == "properties"
        else _loosened(value)
        for key, value in node.items()
        if key not in ("required", "title")
    }
    return kept


def _property(body: dict[str, Any]) -> dict[str, Any]:
    """A key's schema, and beside it a value that is only known later."""
    outside: dict[str, Any] = {key: body[key] for key in ("description", "default") if key in body}
    legal = {key: value for key, value in body.items() if key not in (*outside, "title", "anyOf")}
    branches = body.get("anyOf") or [legal]
    if "additionalProperties" in legal:  # a mapping: each entry may be known later, not the whole
        entry = _property(legal["additionalProperties"])
        return {**outside, **legal, "additionalProperties": entry}
    if {"type": "string"} not in branches:
        branches = [*branches, _DEFERRED]
    return {**outside, **branches[0]} if len(branches) == 1 else {**outside, "anyOf": branches}
