"""Tools in a chat's body: what a template is given, and what is refused in which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmrun.server.bodies import parse_chat
from lmrun.server.errors import ApiError
from lmrun.server.tools import for_template

USER = {"role": "user", "content": "Compute (3+5)*2"}
TEMPLATE = """\
{%- if tools %}{% for tool in tools %}[{{ tool.function.name }} {{ tool.function.parameters |
tojson }}]{% endfor %} Write <tool_call>JSON</tool_call>.{% endif %}
{%- for message in messages %}<{{ message.role }}>{{ message.content }}
{%- for call in message.tool_calls or [] %}{{ call.function.arguments.a }}{% endfor %}{% endfor %}
"""


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "add", **function}}


def offered(*tools: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    body = parse_chat(json.dumps({"messages": [USER], "tools": tools, **fields}).encode())
    return for_template(body.offered)


def test_pythons_names_of_types_become_those_of_json_schema(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parameters = {
        "type": "dict",
        "properties": {
            "a": {"type": "int"},
            "type": {"type": "str"},
            "c": {"type": "list", "items": {"type": "float"}},
            "d": {"type": ["int", "null"]},
            "e": {"anyOf": [{"type": "bool"}, {"type": "tuple", "items": {"type": "string"}}]},
        },
        "required": ["a"],
    }
    with caplog.at_level("INFO", logger="lmrun"):
        (given,) = offered(tool(description="Add.", parameters=parameters))
    assert given == tool(
        description="Add.",
        parameters={
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "type": {"type": "string"},
                "c": {"type": "array", "items": {"type": "number"}},
                "d": {"type": ["integer", "null"]},
                "e": {
                    "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]
                },
            },
            "required": ["a"],
        },
    )
    assert parameters["type"] == "dict", "the body's own object stays as it was"
    assert [record.getMessage() for record in caplog.records] == [
        "tools: type 'dict' of add is read as 'object' and 6 more"
    ]


def test_a_function_without_parameters_takes_none() -> None:
    (given,) = offered(tool())
    assert given["function"] == {"name": "add", "parameters": {"type": "object", "properties": {}}}


def test_tool_choice_none_offers_no_tool() -> None:
    assert offered(tool(), tool_choice="none") == []
    assert offered(tool(), tool_choice="auto") == offered(tool()) != []


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"tools": [tool(name="a b")]}, "tools[0].function.name", "expected 1 to 64 letters"),
        ({"tools": [tool(name="")]}, "tools[0].function.name", "expected 1 to 64 letters"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "required."),
        (
            {"tools": [tool() | {"type": "web_search"}]},
            "tools[0].type",
            "'web_search' is not built yet; use 'function'.",
        ),
        ({"tools": [tool(strict=True)]}, "tools[0].function.strict", "not built yet."),
        ({"tools": [tool(args={})]}, "tools[0].function.args", "unknown field."),
        (
            {"tools": [tool(parameters={"type": "string"})]},
            "tools[0].function.parameters",
            "expected type \"object\", got 'string'.",
        ),
        (
            {
                "tools": [
                    tool(parameters={"type": "object", "properties": {"a": {"type": "whole"}}})
                ]
            },
            "tools[0].function.parameters",
            "expected a JSON Schema; at ['properties']['a']['type']: ",
        ),
        ({"tool_choice": "required"}, "tool_choice", "a forced call is not built yet."),
        (
            {"tool_choice": {"type": "function", "function": {"name": "add"}}},
            "tool_choice",
            "a forced call is not built yet. Send auto or none.",
        ),
        ({"tool_choice": "any"}, "tool_choice", "expected 'auto' or 'none', got 'any'."),
    ],
)
def test_a_tool_that_cannot_be_offered_is_refused_by_its_place(
    fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ApiError) as caught:
        for_template(parse_chat(json.dumps({"messages": [USER], **fields}).encode()).offered)
    error = caught.value.envelope()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: {message}")


def test_a_deeply_nested_schema_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(400):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(ApiError, match="expected fewer levels of nesting"):
        offered(tool(parameters=schema))


def post(deployment: Any, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{deployment.url}/v1/chat/completions", json=body, timeout=30)


def test_a_template_without_a_known_format_refuses_tools(deployment: Any) -> None:
    response = post(deployment, {"messages": [USER], "tools": [tool()], "max_tokens": 2})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "tools: this model's chat template writes tool calls in no format that is built yet."
        " Formats: hermes, lmrun."
    )
    body = {"messages": [USER], "tools": [tool()], "tool_choice": "none", "max_tokens": 2}
    assert post(deployment, body).status_code == 200


def test_tools_calls_and_results_reach_the_template(
    launch: Callable[..., Any], tmp_path: Path
) -> None:
    """Counted in tokens: the tiny tokenizer has one a byte."""
    file = tmp_path / "tools.jinja"
    file.write_text(TEMPLATE)
    deployment = launch(chat_template=str(file))
    parameters = {"type": "object", "properties": {"a": {"type": "int"}}}
    call = {"name": "add", "arguments": '{"a": 31}'}
    messages = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "36"}]},
        {"role": "assistant", "content": None},
        {"role": "environment", "name": "plugin", "content": "3+5=8"},
    ]
    body = {"messages": messages, "max_tokens": 2, "temperature": 0}
    offering = post(deployment, body | {"tools": [tool(parameters=parameters)]}).json()
    text = (
        '[add {"type": "object", "properties": {"a": {"type": "integer"}}}]'
        " Write <tool_call>JSON</tool_call>."
        "<user>Compute (3+5)*2<assistant>31<tool>36<assistant><tool>3+5=8"
    )
    assert offering["usage"]["prompt_tokens"] == len(text)
    without = post(deployment, body).json()
    assert without["usage"]["prompt_tokens"] == len(text) - text.index("<user>")
