"""Tools and messages as chat templates expect them."""

from typing import Any

import pytest

from lmrun.errors import RequestError
from lmrun.models.tools import ToolError, tools_for_template, turn_for_template


def test_a_tool_keeps_what_templates_know_in_the_order_they_were_trained_on() -> None:
    function = {
        "strict": False,
        "parameters": {"type": "dict", "properties": {"a": {"type": "int"}}},
        "description": "Add.",
        "name": "add",
    }
    (given,) = tools_for_template([{"type": "function", "function": function}])
    assert list(given["function"]) == ["name", "description", "parameters"]
    assert given["function"]["parameters"] == {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
    }
    assert function["parameters"]["type"] == "dict", "the caller's object stays as it was"


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ({}, "tools[1].function: expected an object with a name."),
        ({"function": {"parameters": {}}}, "tools[1].function: expected an object with a name."),
        (
            {"function": {"name": "add", "parameters": [1]}},
            'tools[1].function.parameters: expected type "object", got [1].',
        ),
        (
            {"function": {"name": "add", "parameters": {"type": "array"}}},
            "tools[1].function.parameters: expected type \"object\", got 'array'.",
        ),
    ],
)
def test_a_tool_that_cannot_be_offered_is_refused_by_its_place(
    tool: dict[str, Any], message: str
) -> None:
    with pytest.raises(ToolError) as caught:
        tools_for_template([{"function": {"name": "fine"}}, tool])
    assert str(caught.value) == message
    assert isinstance(caught.value, RequestError)
    assert f"{caught.value.where}: {caught.value.what}" == message


def test_a_turn_says_what_templates_know() -> None:
    assert turn_for_template({"role": "developer", "content": "Be brief.", "name": None}) == {
        "role": "system",
        "content": "Be brief.",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": [1, "x"]}', {"a": [1, "x"]}),
        ({"a": 1}, {"a": 1}),
        ("[1]", "[1]"),
        ("{broken", "{broken"),
    ],
)
def test_arguments_of_a_call_are_an_object_where_they_are_one(
    arguments: object, expected: object
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    (turn,) = turn_for_template(message)["tool_calls"]
    assert turn["function"] == {"name": "add", "arguments": expected}
    assert turn["id"] == "1"
    assert call["function"]["arguments"] == arguments
