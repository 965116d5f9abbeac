"""Tools in a chat: the functions a body offers, as a chat template and the caller expect them."""

import re
from collections.abc import Mapping
from typing import Any

import jsonschema
import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

from lmrun import log
from lmrun.models.tool_schemas import renamed
from lmrun.server.errors import invalid

_log = log.get(__name__)

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_PARAMETERS = {"type": "object", "properties": {}}


class Function(BaseModel):
    """A function the model may call. ``parameters`` is the JSON Schema of its arguments."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(None, description="true is not built yet")

    @field_validator("name")
    @classmethod
    def _has_a_legal_name(cls, name: str) -> str:
        if _NAME.fullmatch(name) is None:
            raise ValueError("expected 1 to 64 letters, digits, `_`, `-` or `.`")
        return name

    @field_validator("strict")
    @classmethod
    def _is_not_strict(cls, strict: bool | None) -> bool | None:
        if strict:
            raise ValueError("not built yet. Leave it out, or send false")
        return strict


class Tool(BaseModel):
    """An entry of `tools`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: str = "function"
    function: Function

    @field_validator("type")
    @classmethod
    def _is_a_function(cls, kind: str) -> str:
        if kind != "function":
            raise ValueError(f"{kind!r} is not built yet; use 'function'")
        return kind


def for_template(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """The tools as templates expect them: JSON Schema with its own names of types.

    Raises `ApiError` 400 where `parameters` is no JSON Schema of an object.
    """
    aliases: list[str] = []
    found = []
    for index, tool in enumerate(tools):
        function = tool.function
        given = function.parameters or _NO_PARAMETERS
        where = f"tools[{index}].function.parameters"
        try:
            parameters = renamed(given, function.name, aliases)
            _check(parameters, where)
        except RecursionError:
            raise invalid(where, "expected fewer levels of nesting.") from None
        entry: dict[str, Any] = {"name": function.name}
        if function.description is not None:
            entry["description"] = function.description
        found.append({"type": "function", "function": {**entry, "parameters": parameters}})
    if aliases:
        more = f" and {len(aliases) - 1} more" if len(aliases) > 1 else ""
        _log.info("tools: %s%s", aliases[0], more)
    return found


def call_for_template(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an earlier turn; its arguments as an object where they are one."""
    function = dict(call["function"])
    try:
        arguments = msgspec.json.decode(function["arguments"])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        arguments = None
    if isinstance(arguments, dict):
        function["arguments"] = arguments
    return {**call, "function": function}


def _check(parameters: dict[str, Any], where: str) -> None:
    if parameters.get("type") != "object":
        raise invalid(where, f'expected type "object", got {parameters.get("type")!r}.')
    try:
        jsonschema.Draft202012Validator.check_schema(parameters)
    except jsonschema.SchemaError as error:
        path = "".join(f"[{part!r}]" for part in error.absolute_path)
        raise invalid(
            where, f"expected a JSON Schema{f'; at {path}' if path else ''}: {error.message[:200]}."
        ) from error
