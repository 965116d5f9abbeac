"""Tools files: conversations, the tools at hand, and the calls that the next turn should be.

`lmrun`: JSON lines `{"messages": [...], "tools": [...], "calls": [{"name", "arguments"}, ...]}`;
without calls, an answer in words is due.
`berkeley`: JSON lines `{"question": [[message, ...]], "function": [...]}`, and accepted answers,
`{"ground_truth": [{NAME: {ARGUMENT: [value, ...]}}]}` a line, in `possible_answer/` beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lmrun.errors import ArtifactError
from lmrun.evals import lines
from lmrun.evals.lines import Line
from lmrun.models.builtin_data import companion
from lmrun.models.tool_schemas import renamed
from lmrun.models.tools import ToolError, tools_for_template

_LEGAL = (
    '{"messages": [{"role": "user", "content": "..."}], "tools": [{"name": "...", "parameters":'
    ' {...}}], "calls": [{"name": "...", "arguments": {...}}]}'
)
_LEGAL_BERKELEY = '{"question": [[{"role": "user", "content": "..."}]], "function": [{...}]}'
_LEGAL_ANSWER = '{"ground_truth": [{"NAME": {"ARGUMENT": [value, ...]}}]}'


@dataclass(frozen=True)
class ExpectedCall:
    """A call as it should be.

    ``accepted``: whether ``arguments`` are lists of accepted values, with "" for one that may be
    left out (Berkeley), rather than the values themselves.
    """

    name: str
    arguments: Mapping[str, Any]
    accepted: bool


@dataclass(frozen=True)
class ToolItem:
    """One turn to be made."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    """As templates expect them: `{"type": "function", "function": {...}}`."""
    calls: tuple[ExpectedCall, ...]
    """None: an answer in words."""
    in_order: bool


@dataclass(frozen=True)
class ToolFile:
    """The items of one file."""

    format: str
    digest: str
    items: tuple[ToolItem, ...]


def read_tools(path: Path, limit: int | None = None) -> ToolFile:
    """The first ``limit`` items. `ArtifactError` names file, line and what is legal.

    The whole file is read and checked, whatever the limit.
    """
    content = lines.read_bytes(path)
    found = list(lines.read(path, content))
    if not found:
        raise ArtifactError(f"{path}: expected one item a line, got none. Legal is {_LEGAL}.")
    if "question" not in found[0].fields:
        items = [_item(line) for line in found]
        return ToolFile("lmrun", lines.digest(content), tuple(islice(items, limit)))
    beside = companion(path)
    if beside is None:
        raise ArtifactError(
            f"{path}: expected the accepted answers in possible_answer/{path.name} beside it, found"
            f" none. A line of them is {_LEGAL_ANSWER}."
        )
    answers = lines.read_bytes(beside)
    truths = list(lines.read(beside, answers))
    if len(truths) != len(found):
        raise ArtifactError(
            f"{beside}: expected {len(found)} answers, one a line of {path}, got {len(truths)}."
        )
    items = [_berkeley(line, truth) for line, truth in zip(found, truths, strict=True)]
    return ToolFile("berkeley", lines.digest(content, answers), tuple(islice(items, limit)))


def _item(line: Line) -> ToolItem:
    for key in ("messages", "tools", "calls"):
        if not isinstance(line.fields.get(key), list):
            line.refuse(f"{key} to be a list, got {line.fields.get(key)!r}", _LEGAL)
    calls = []
    for call in line.fields["calls"]:
        if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
            line.refuse(f"a call to have name and arguments, got {call!r}", _LEGAL)
        if not isinstance(call["name"], str) or not isinstance(call["arguments"], dict):
            line.refuse(
                f"a call's name to be a text, its arguments an object, got {call!r}", _LEGAL
            )
        calls.append(ExpectedCall(call["name"], call["arguments"], accepted=False))
    return ToolItem(
        _messages(line, line.fields["messages"], _LEGAL),
        _tools(line, line.fields["tools"], _LEGAL),
        tuple(calls),
        in_order=True,
    )


def _berkeley(line: Line, truth: Line) -> ToolItem:
    turns = line.fields.get("question")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], list):
        line.refuse(f"question to be a list of turns, got {turns!r}", _LEGAL_BERKELEY)
    if len(turns) > 1:
        line.refuse(
            f"a question of one turn, got {len(turns)}: more are not built yet", _LEGAL_BERKELEY
        )
    functions = line.fields.get("function")
    if not isinstance(functions, list):
        line.refuse(f"function to be a list, got {functions!r}", _LEGAL_BERKELEY)
    if "id" in line.fields and truth.fields.get("id") != line.fields["id"]:
        truth.refuse(
            f"the answer of {line.fields['id']}, got that of {truth.fields.get('id')}",
            _LEGAL_ANSWER,
        )
    expected = truth.fields.get("ground_truth")
    if not isinstance(expected, list):
        truth.refuse(f"ground_truth to be a list, got {expected!r}", _LEGAL_ANSWER)
    calls = []
    for call in expected:
        if not isinstance(call, dict) or len(call) != 1:
            truth.refuse(f"a call to be an object of one name, got {call!r}", _LEGAL_ANSWER)
        ((name, accepted),) = call.items()
        if not isinstance(accepted, dict) or not all(
            isinstance(values, list) for values in accepted.values()
        ):
            truth.refuse(f"each argument to have a list of values, got {accepted!r}", _LEGAL_ANSWER)
        calls.append(ExpectedCall(name, accepted, accepted=True))
    return ToolItem(
        _messages(line, turns[0], _LEGAL_BERKELEY),
        _tools(line, functions, _LEGAL_BERKELEY),
        tuple(calls),
        in_order=False,
    )


def _messages(line: Line, messages: list[Any], legal: str) -> list[dict[str, Any]]:
    if not messages:
        line.refuse("at least one message, got none", legal)
    found = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            line.refuse(f"a message to be an object with a role, got {message!r}", legal)
        turn = dict(message)
        if not isinstance(turn.get("tool_calls", []), list):
            line.refuse(
                f"tool_calls of an earlier turn to be a list, got {turn['tool_calls']!r}", legal
            )
        if "tool_calls" in turn:
            turn["tool_calls"] = [_made_call(line, call, legal) for call in turn["tool_calls"]]
        found.append(turn)
    return found


def _made_call(line: Line, call: Any, legal: str) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """A call of an earlier turn, its arguments as an object: templates write them as JSON."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        line.refuse(f"a call of an earlier turn to have a function's name, got {call!r}", legal)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    if not isinstance(arguments, dict):
        line.refuse(f"arguments of an earlier turn's call to be an object, got {call!r}", legal)
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(line: Line, tools: list[Any], legal: str) -> list[dict[str, Any]]:
    """Functions, bare or as OpenAI's API has them, as the server reads them: Python's names of
    types become JSON Schema's, here without a word for each."""
    found = []
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            line.refuse(f"a tool to be an object with a name, got {tool!r}", legal)
        entry: dict[str, Any] = {"name": function["name"]}
        if function.get("description") is not None:
            entry["description"] = function["description"]
        if function.get("parameters"):
            entry["parameters"] = renamed(function["parameters"], function["name"], [])
        found.append({"type": "function", "function": entry})
    try:
        return tools_for_template(found)
    except ToolError as error:
        line.refuse(f"tools that can be offered, got one where {error}", legal)
