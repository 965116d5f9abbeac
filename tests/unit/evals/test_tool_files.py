"""Tools files: our own and the Berkeley layout, and errors that name file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import ArtifactError
from lmrun.evals.tool_files import ExpectedCall, ToolFile, read_tools
from lmrun.models import builtin_data

FUNCTION = {
    "name": "add",
    "description": "Add.",
    "parameters": {"type": "dict", "properties": {"a": {"type": "int"}, "b": {"type": "float"}}},
}
ITEM = {
    "messages": [{"role": "user", "content": "Add 1 and 2."}],
    "tools": [FUNCTION],
    "calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}],
}
BERKELEY = {"id": "x_0", "question": [ITEM["messages"]], "function": [FUNCTION]}
ANSWER = {"id": "x_0", "ground_truth": [{"add": {"a": [1], "b": [2, 2.0, ""]}}]}


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(tmp_path: Path, *rows: Any) -> ToolFile:
    return read_tools(write(tmp_path / "tools.jsonl", *rows))


def read_berkeley(tmp_path: Path, question: Any, answer: Any) -> ToolFile:
    write(tmp_path / "possible_answer" / "x.json", answer)
    return read_tools(write(tmp_path / "x.json", question))


def test_our_own_format(tmp_path: Path) -> None:
    file = read(tmp_path, ITEM, {**ITEM, "calls": []})
    assert file.format == "lmrun"
    first, second = file.items
    assert first.calls == (ExpectedCall("add", {"a": 1, "b": 2}, accepted=False),)
    assert second.calls == ()
    assert first.in_order
    assert first.messages == ITEM["messages"]


def test_tools_are_handed_to_templates_as_the_server_does(tmp_path: Path) -> None:
    wrapped = {"type": "function", "function": FUNCTION}
    bare = read(tmp_path, ITEM).items[0].tools
    assert bare == read(tmp_path, {**ITEM, "tools": [wrapped]}).items[0].tools
    parameters = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "number"}},
    }
    function = {"name": "add", "description": "Add.", "parameters": parameters}
    assert bare == [{"type": "function", "function": function}]


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'])
def test_calls_of_earlier_turns_come_as_objects(tmp_path: Path, arguments: Any) -> None:
    made = {"id": "1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    turn = {"role": "assistant", "content": "", "tool_calls": [made]}
    result = {"role": "tool", "content": "3"}
    item = read(tmp_path, {**ITEM, "messages": [*ITEM["messages"], turn, result]}).items[0]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert item.messages[1]["tool_calls"] == [call]
    assert item.messages[2] == result


def test_the_berkeley_layout(tmp_path: Path) -> None:
    file = read_berkeley(tmp_path, BERKELEY, ANSWER)
    assert file.format == "berkeley"
    (item,) = file.items
    assert item.calls == (ExpectedCall("add", {"a": [1], "b": [2, 2.0, ""]}, accepted=True),)
    assert not item.in_order
    assert item.messages == ITEM["messages"]


@pytest.mark.parametrize("name", ["simple_python", "multiple", "parallel"])
def test_published_files_are_read(test_data: Path, name: str) -> None:
    path = test_data / "function-calling" / f"BFCL_v4_{name}.json"
    file = read_tools(path)
    assert file.format == "berkeley"
    assert len(file.items) == len(path.read_text().splitlines())
    assert all(item.calls for item in file.items)


def test_the_built_in_file_is_read() -> None:
    file = read_tools(builtin_data.path("builtin:tools", builtin_data.TOOLS, "evaluate.tools"))
    assert file.format == "lmrun"
    assert 70 <= len(file.items) <= 100
    assert 10 <= sum(not item.calls for item in file.items) <= 25
    assert any(len(item.messages) == 3 for item in file.items)
    assert len(read_tools(builtin_data.TOOLS["tools"], 7).items) == 7


LEGAL = (
    '{"messages": [{"role": "user", "content": "..."}], "tools": [{"name": "...", "parameters":'
    ' {...}}], "calls": [{"name": "...", "arguments": {...}}]}'
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"calls": None}, "calls to be a list, got None"),
        ({"calls": [{"name": "add"}]}, "a call to have name and arguments, got {'name': 'add'}"),
        (
            {"calls": [{"name": "add", "arguments": "{}"}]},
            "a call's name to be a text, its arguments an object,"
            " got {'name': 'add', 'arguments': '{}'}",
        ),
        ({"messages": []}, "at least one message, got none"),
        ({"messages": ["hi"]}, "a message to be an object with a role, got 'hi'"),
        ({"tools": [{"description": "?"}]},
         "a tool to be an object with a name, got {'description': '?'}"),
        ({"tools": [{"name": "add", "parameters": "a, b"}]},
         "tools that can be offered, got one where tools[0].function.parameters: expected type"
         " \"object\", got 'a, b'."),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x",
                                                                      "arguments": "[1]"}}]}]},
         "arguments of an earlier turn's call to be an object,"
         " got {'function': {'name': 'x', 'arguments': '[1]'}}"),
        ({"messages": [{"role": "assistant", "tool_calls": 3}]},
         "tool_calls of an earlier turn to be a list, got 3"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_what_is_legal(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, ITEM, {**ITEM, **change})
    path = tmp_path / "tools.jsonl"
    assert str(caught.value) == f"{path}:2: expected {expected}. Legal is {LEGAL}."


@pytest.mark.parametrize(
    ("question", "answer", "where", "message"),
    [
        ({"question": "x"}, {}, "x.json", "question to be a list of turns, got 'x'"),
        (
            {"question": [ITEM["messages"], ITEM["messages"]]},
            {},
            "x.json",
            "a question of one turn, got 2: more are not built yet",
        ),
        ({"function": "x"}, {}, "x.json", "function to be a list, got 'x'"),
        ({}, {"id": "x_1"}, "possible_answer/x.json", "the answer of x_0, got that of x_1"),
        (
            {},
            {"ground_truth": [{"a": {}, "b": {}}]},
            "possible_answer/x.json",
            "a call to be an object of one name, got {'a': {}, 'b': {}}",
        ),
        (
            {},
            {"ground_truth": [{"add": {"a": 1}}]},
            "possible_answer/x.json",
            "each argument to have a list of values, got {'a': 1}",
        ),
    ],
)
def test_a_bad_line_of_the_berkeley_layout_is_named(
    tmp_path: Path, question: dict[str, Any], answer: dict[str, Any], where: str, message: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_berkeley(tmp_path, {**BERKELEY, **question}, {**ANSWER, **answer})
    assert str(caught.value).startswith(f"{tmp_path / where}:1: expected {message}. Legal is {{")


def test_missing_answers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", BERKELEY)
    with pytest.raises(ArtifactError) as caught:
        read_tools(path)
    assert str(caught.value) == (
        f"{path}: expected the accepted answers in possible_answer/x.json beside it, found none."
        ' A line of them is {"ground_truth": [{"NAME": {"ARGUMENT": [value, ...]}}]}.'
    )
    answers = write(tmp_path / "possible_answer" / "x.json", ANSWER, ANSWER)
    with pytest.raises(ArtifactError) as caught:
        read_tools(path)
    assert str(caught.value) == (f"{answers}: expected 1 answers, one a line of {path}, got 2.")
