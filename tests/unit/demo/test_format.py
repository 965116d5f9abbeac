"""`format` writes what the chat template renders, and reads calls without repairing them."""

import random
from pathlib import Path

import jinja2
import pytest

import lmrun.demo
from lmrun.demo import format as text_format
from lmrun.demo.generate.mixture import Mixture, Texts
from lmrun.demo.generate.task_parts import conversation
from lmrun.models import chat_template

FOLDER = Path(lmrun.demo.__file__).parent
TOKENS = {"bos_token": text_format.BEGIN, "eos_token": text_format.END}


def _render(messages: list, tools: list) -> str:
    template = chat_template.load("auto", FOLDER)
    assert template is not None
    environment = chat_template._environment()
    wrapped = [{"type": "function", "function": tool} for tool in tools]
    return environment.from_string(template.source).render(
        messages=messages, tools=wrapped or None, add_generation_prompt=True, **TOKENS
    )


def test_the_template_and_the_generators_write_the_same_text() -> None:
    rng, tasks = random.Random(1), Mixture(Texts()).tasks
    for _ in range(150):
        task = rng.choice((tasks.one_step, tasks.two_steps, tasks.no_tool))(rng)
        messages, tools = conversation(rng, [task], task.tools)
        messages.insert(0, {"role": "system", "content": "Be brief."})
        assert _render(messages, tools) == text_format.prompt(messages, tools)


def test_the_types_of_the_tutorial_and_of_nested_schemas_are_named() -> None:
    properties = {
        "a": {"type": "int", "description": "A number"},
        "b": {"type": "list", "items": {"type": "str"}},
        "c": {"enum": ["x", "y"]},
        "d": {"type": "dict", "properties": {"k": {"type": ["int", "null"]}}},
        "e": {"anyOf": [{"type": "float"}, {"type": "bool"}]},
        "f": {},
    }
    parameters = {"type": "object", "properties": properties, "required": ["a"]}
    tools = [{"name": "add", "description": "Add\nnumbers ", "parameters": parameters}]
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None},
        {"role": "environment", "name": "plugin", "content": "3+5=8"},
    ]
    written = text_format.prompt(messages, tools)
    assert _render(messages, tools) == written
    assert written == (
        "<|begin|><|tools|>add: Add numbers\n"
        "- a (integer): A number\n"
        "- b (array of string, optional)\n"
        '- c ("x" | "y", optional)\n'
        "- d (object {k: integer | null}, optional)\n"
        "- e (number | boolean, optional)\n"
        "- f (any, optional)\n"
        "<|end|><|user|>Hi<|end|><|assistant|><|end|><|result|>3+5=8<|end|><|assistant|>"
    )


def test_arguments_sent_back_as_text_or_as_an_object_read_the_same() -> None:
    for arguments in ('{"a": 3}', {"a": 3}):
        messages = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": arguments}}],
            }
        ]
        assert '<|call|>{"name": "add", "arguments": {"a": 3}}<|end|>' in _render(messages, [])
        assert _render(messages, []) == text_format.prompt(messages)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(jinja2.TemplateError, match="role plugin is none of system, developer"):
        _render([{"role": "plugin", "content": ""}], [])


def test_calls_are_read_as_they_are_or_not_at_all() -> None:
    call = text_format.call_text("add", {"a": 3, "b": [1, "x"]})
    assert text_format.parse_calls(call + call) == [("add", {"a": 3, "b": [1, "x"]})] * 2
    assert text_format.parse_calls("in words") == []
    for broken in ('<|call|>{"name": "add"}', "<|call|>add(3)", '<|call|>{"name": "a", "arg'):
        assert text_format.parse_calls(broken) is None
