"""The text of a conversation, as `chat_template.jinja` writes it, marked where it is to be learned.

A function is what OpenAI's API calls so: ``name``, ``description``, ``parameters`` (JSON Schema).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BEGIN = "<|begin|>"
END = "<|end|>"
PAD = "<|pad|>"
SYSTEM = "<|system|>"
TOOLS = "<|tools|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
RESULT = "<|result|>"
CALL = "<|call|>"
SPECIAL_TOKENS = (BEGIN, END, PAD, SYSTEM, TOOLS, USER, ASSISTANT, RESULT)
"""In the order of their ids; `CALL` follows them and is part of the text of a completion."""

Function = Mapping[str, Any]
Message = Mapping[str, Any]
Segment = tuple[str, bool]
"""A piece of a document, and whether it is what the assistant writes."""

TYPE_NAMES = {
    "int": "integer",
    "str": "string",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
    "dict": "object",
}


def kind(schema: Mapping[str, Any]) -> str:
    """The type of a parameter as the prompt names it."""
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(kind(choice) for choice in schema["anyOf"])
    if "type" not in schema:
        return "any"
    if not isinstance(schema["type"], str):
        return " | ".join(TYPE_NAMES.get(name, name) for name in schema["type"])
    name = TYPE_NAMES.get(schema["type"], schema["type"])
    if name == "array" and schema.get("items"):
        return f"array of {kind(schema['items'])}"
    if name == "object" and "properties" in schema:
        fields = (f"{key}: {kind(value)}" for key, value in schema["properties"].items())
        return "object {" + ", ".join(fields) + "}"
    return name


def describe(function: Function) -> str:
    """The lines of one tool in the prompt."""
    parameters = function.get("parameters") or {}
    required = parameters.get("required") or ()
    lines = [function["name"] + _described(function)]
    for key, value in (parameters.get("properties") or {}).items():
        optional = "" if key in required else ", optional"
        lines.append(f"- {key} ({kind(value)}{optional}){_described(value)}")
    return "\n".join(lines) + "\n"


def _described(value: Mapping[str, Any]) -> str:
    text = value.get("description")
    return ": " + text.strip().replace("\n", " ") if text else ""


def call_text(name: str, arguments: Mapping[str, Any] | str) -> str:
    """A tool call as the assistant writes it."""
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'{CALL}{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'


def parse_calls(text: str) -> list[tuple[str, Any]] | None:
    """(name, arguments) of each call in what the assistant wrote; None where one is no call.

    Nothing is repaired: a call is JSON of exactly the keys ``name`` and ``arguments``.
    """
    calls: list[tuple[str, Any]] = []
    for part in text.split(CALL)[1:]:
        try:
            call = json.loads(part)
        except ValueError:
            return None
        if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
            return None
        calls.append((call["name"], call["arguments"]))
    return calls


def segments(messages: Sequence[Message], tools: Iterable[Function] = ()) -> list[Segment]:
    """The pieces of a conversation. Joined, they are what the chat template renders."""
    head = BEGIN
    for message in messages:
        if message["role"] in ("system", "developer"):
            head += SYSTEM + message["content"] + END
    lines = "".join(describe(tool) for tool in tools)
    if lines:
        head += TOOLS + lines + END
    pieces: list[Segment] = [(head, False)]
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "user":
            pieces.append((USER + content + END, False))
        elif role == "assistant":
            calls = message.get("tool_calls") or ()
            functions = [call.get("function", call) for call in calls]
            text = content + "".join(call_text(f["name"], f["arguments"]) for f in functions)
            # a turn that says nothing is history, and nothing to learn
            pieces += [(ASSISTANT, False), (text + END, bool(text))]
        elif role not in ("system", "developer"):
            pieces.append((RESULT + content + END, False))
    return pieces


def prompt(messages: Sequence[Message], tools: Iterable[Function] = ()) -> str:
    """What the model is given before it answers."""
    return "".join(text for text, _ in segments(messages, tools)) + ASSISTANT
