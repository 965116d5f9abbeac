"""Tools through the API, by the real openai client and the shipped demo model."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import lmrun


def _tool(name: str, description: str, kind: str) -> dict[str, Any]:
    number = {"type": kind, "description": "A number"}
    parameters = {
        "type": "object",
        "properties": {"a": number, "b": number},
        "required": ["a", "b"],
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _tools(kind: str) -> Any:
    return [
        _tool("add", "Compute the sum of two numbers", kind),
        _tool("mul", "Calculate the product of two numbers", kind),
    ]


@pytest.fixture(scope="module")
def deployment() -> Iterator[lmrun.Deployment]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ("model=demo", "quant=none", "backend.threads=1", "kv=kv16")
    with lmrun.up(*settings, f"frontend.port={port}") as running:
        yield running


@pytest.fixture
def client(deployment: lmrun.Deployment) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{deployment.base_url}/v1", api_key="none") as opened:
        yield opened


def test_a_call_its_result_and_the_next_call(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Compute (3+5)*2"}]
    asked: dict[str, Any] = {"model": "demo", "tools": _tools("integer"), "temperature": 0}
    first = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.content is None
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 3, "b": 5})
    messages.append(first.message)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "8"})
    second = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert second.message.tool_calls is not None
    (call,) = second.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("mul", {"a": 8, "b": 2})


def test_a_streamed_call_is_the_same(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Compute (3+5)*2"}],
        "tools": _tools("integer"),
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked).choices[0].message
    assert whole.tool_calls is not None
    chunks = list(client.chat.completions.create(stream=True, **asked))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [call.index for call in calls] == [0]
    assert calls[0].function is not None
    assert whole.tool_calls[0].type == "function"
    assert calls[0].function.model_dump() == whole.tool_calls[0].function.model_dump()
    assert "".join(delta.content or "" for delta in deltas) == ""
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_tokens_of_a_call_have_their_log_probabilities(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Compute (3+5)*2"}],
        "tools": _tools("integer"),
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 1,
    }
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.logprobs is not None
    assert whole.logprobs.content
    text = "".join(token.token for token in whole.logprobs.content)
    assert '"add"' in text
    assert all(token.token == token.top_logprobs[0].token for token in whole.logprobs.content)
    chunks = list(client.chat.completions.create(stream=True, **asked))
    parts = [chunk.choices[0].logprobs for chunk in chunks]
    streamed = [token for part in parts if part for token in part.content or ()]
    assert streamed == whole.logprobs.content


def test_the_tutorials_program_calls_both_functions(client: openai.OpenAI) -> None:
    """Types in Python's words, the turn sent back with its content alone, the result in role
    `environment`, sampling on."""
    messages: list[Any] = [{"role": "user", "content": "Compute (3+5)*2"}]
    asked: dict[str, Any] = {
        "model": client.models.list().data[0].id,
        "tools": _tools("int"),
        "temperature": 0.8,
        "top_p": 0.8,
        "stream": False,
        "seed": 1,
    }
    first = client.chat.completions.create(messages=messages, **asked).choices[0].message
    assert first.tool_calls is not None
    assert first.tool_calls[0].type == "function"
    assert first.tool_calls[0].function.name == "add"
    messages.append({"role": "assistant", "content": first.content})
    messages.append({"role": "environment", "content": "3+5=8", "name": "plugin"})
    second = client.chat.completions.create(messages=messages, **asked).choices[0].message
    assert second.tool_calls is not None
    assert second.tool_calls[0].type == "function"
    assert second.tool_calls[0].function.name == "mul"
    assert json.loads(second.tool_calls[0].function.arguments) == {"a": 8, "b": 2}


def test_without_tools_or_with_none_chosen_it_answers_in_words(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "Hello!"}],
        "temperature": 0,
    }
    plain = client.chat.completions.create(**asked).choices[0]
    none = client.chat.completions.create(
        tools=_tools("integer"), tool_choice="none", **asked
    ).choices[0]
    assert plain.finish_reason == "stop"
    assert plain.message.content
    assert plain.message.tool_calls is None
    assert none.message.content == plain.message.content
