"""Tools and the calls of them, as chat templates expect both.

What the HTTP server and `LLM.chat` render is the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lmrun import log
from lmrun.errors import RequestError
from lmrun.models.tool_schemas import renamed

_log = log.get(__name__)

_NO_PARAMETERS = {"type": "object", "properties": {}}


class ToolError(RequestError):
    """A tool that cannot be offered. ``where`` is the field, ``what`` the rest of the message."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


def tools_for_template(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools `{"type": "function", "function": {"name", "description", "parameters"}}` in the order
    of fields that templates were trained on, their JSON Schemas with its own names of types.

    Without ``parameters`` a function takes none. `ToolError` where one has no name, or parameters
    that are no JSON Schema of an object.
    """
    aliases: list[str] = []
    found = []
    for index, tool in enumerate(tools):
        function = tool.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ToolError(f"tools[{index}].function", "expected an object with a name.")
        given = function.get("parameters") or _NO_PARAMETERS
        where = f"tools[{index}].function.parameters"
        try:
            parameters = renamed(given, function["name"], aliases)
            _check(parameters, where)
        except RecursionError:
            raise ToolError(where, "expected fewer levels of nesting.") from None
        entry: dict[str, Any] = {"name": function["name"]}
        if function.get("description") is not None:
            entry["description"] = function["description"]
        found.append({"type": "function", "function": {**entry, "parameters": parameters}})
    if aliases:
        more = f" and {len(aliases) - 1} more" if len(aliases) > 1 else ""
        _log.info("tools: %s%s", aliases[0], more)
    return found


def turn_for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: a developer is the system, and calls of earlier turns have
    their arguments as an object where they are one. Fields that are None are left out."""
    turn = {name: value for name, value in message.items() if value is not None}
    if turn.get("role") == "developer":
        turn["role"] = "system"
    if turn.get("tool_calls"):
        turn["tool_calls"] = [_call_for_template(call) for call in turn["tool_calls"]]
    return turn


def _call_for_template(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    try:
        arguments = msgspec.json.decode(function["arguments"])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError, TypeError):
        arguments = None  # no JSON, or an object already
    if isinstance(arguments, dict):
        function["arguments"] = arguments
    return {**call, "function": function}


def _check(parameters: Any, where: str) -> None:  # noqa: ANN401 - any JSON
    kind = parameters.get("type") if isinstance(parameters, dict) else parameters
    if kind != "object":
        raise ToolError(where, f'expected type "object", got {kind!r}.')
    import jsonschema  # noqa: PLC0415 - 0.1 s, and few requests bring tools

    try:
        jsonschema.Draft202012Validator.check_schema(parameters)
    except jsonschema.SchemaError as error:
        path = "".join(f"[{part!r}]" for part in error.absolute_path)
        at = f"; at {path}" if path else ""
        raise ToolError(where, f"expected a JSON Schema{at}: {error.message[:200]}.") from error
