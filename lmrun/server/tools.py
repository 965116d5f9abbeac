"""Tools in a chat: the functions a body offers."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lmrun.models.tools import ToolError, tools_for_template
from lmrun.server.errors import invalid

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


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
    offered = [{"function": dict(tool.function)} for tool in tools]
    try:
        return tools_for_template(offered)
    except ToolError as error:
        raise invalid(error.where, error.what) from error
