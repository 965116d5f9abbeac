"""Tool calls are read as the model wrote them, in whatever pieces they arrive."""

import random
from pathlib import Path

import pytest

from lmrun.models.tool_calls import (
    FORMATS,
    ToolCall,
    ToolCallStream,
    ToolFormat,
    find_format,
)

HERMES, LMRUN = FORMATS


def split(kind: ToolFormat, text: str) -> tuple[str, list[ToolCall]]:
    """The text and the calls of a whole completion."""
    stream = ToolCallStream(kind)
    parts = [*stream.push(text), *stream.finish()]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    return "".join(part for part in parts if isinstance(part, str)), calls


ADD = ToolCall("add", '{"a": 3, "b": 5}')
MUL = ToolCall("mul", '{"a": 8, "b": 2}')
ADD_TEXT = '{"name": "add", "arguments": {"a": 3, "b": 5}}'
MUL_TEXT = '{"name": "mul", "arguments": {"a": 8, "b": 2}}'
CASES: list[tuple[ToolFormat, str, str, list[ToolCall]]] = [
    (HERMES, "no call", "no call", []),
    (HERMES, f"<tool_call>\n{ADD_TEXT}\n</tool_call>", "", [ADD]),
    (HERMES, f"Well.\n<tool_call>\n{ADD_TEXT}\n</tool_call>", "Well.", [ADD]),
    (
        HERMES,
        f"<tool_call>{ADD_TEXT}</tool_call>\n<tool_call>{MUL_TEXT}</tool_call>",
        "",
        [ADD, MUL],
    ),
    (HERMES, f"<tool_call>{ADD_TEXT}</tool_call>\nDone. ", "Done. ", [ADD]),
    (HERMES, "a < b <tool_cal of text", "a < b <tool_cal of text", []),
    (HERMES, f"<tool_call>{ADD_TEXT}", f"<tool_call>{ADD_TEXT}", []),
    (HERMES, "<tool_call>{3}</tool_call>", "<tool_call>{3}</tool_call>", []),
    (LMRUN, f"<|call|>{ADD_TEXT}", "", [ADD]),
    (LMRUN, f"First. <|call|>{ADD_TEXT}<|call|>{MUL_TEXT}", "First.", [ADD, MUL]),
    (LMRUN, f"<|call|>{ADD_TEXT[:-1]}", f"<|call|>{ADD_TEXT[:-1]}", []),
    (LMRUN, f"<|call|>{ADD_TEXT} and more", f"<|call|>{ADD_TEXT} and more", []),
    (LMRUN, "trailing space ", "trailing space ", []),
    (LMRUN, "", "", []),
]


@pytest.mark.parametrize(("kind", "text", "content", "calls"), CASES)
def test_text_and_calls_are_told_apart_in_any_pieces(
    kind: ToolFormat, text: str, content: str, calls: list[ToolCall]
) -> None:
    assert split(kind, text) == (content, calls)
    for seed in range(30):
        cuts = random.Random(seed)
        stream = ToolCallStream(kind)
        parts: list[str | ToolCall] = []
        rest = text
        while rest:
            size = cuts.randint(1, 6)
            parts += stream.push(rest[:size])
            rest = rest[size:]
        parts += stream.finish()
        assert "".join(part for part in parts if isinstance(part, str)) == content
        assert [part for part in parts if isinstance(part, ToolCall)] == calls
        assert stream.num_calls == len(calls)
        assert "" not in parts


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "f"}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "", "arguments": {}}',
        '{"name": 3, "arguments": {}}',
        '{"name": "f", "arguments": {}, "id": 1}',
        '["f", {}]',
        "[" * 100_000,
        '{"name": "f", "arguments": {"a": 1,}}',
    ],
)
def test_what_is_no_call_stays_text(body: str) -> None:
    text = f"<tool_call>{body}</tool_call>"
    assert split(HERMES, text) == (text, [])


def test_text_is_shown_as_soon_as_it_can_be_no_mark() -> None:
    stream = ToolCallStream(HERMES)
    assert stream.push("Hello") == ["Hello"]
    assert stream.push(" ") == []
    assert stream.push("<tool") == []
    assert stream.push(" of") == [" <tool of"]
    assert stream.push("<tool_call>{") == []


def test_the_format_is_found_by_what_the_template_says(test_data: Path) -> None:
    found = {
        path.stem: known.name
        for path in sorted((test_data / "templates").glob("*.jinja"))
        if (known := find_format(path.read_text("utf-8"))) is not None
    }
    assert found == {
        "Bielik-11B-v3.0-Instruct": "hermes",
        "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "hermes",
        "Qwen-QwQ-32B": "hermes",
        "Qwen-Qwen2.5-7B-Instruct": "hermes",
        "ibm-granite-granite-4.0": "hermes",
    }


def test_a_template_without_tools_has_no_format() -> None:
    assert find_format("{% for message in messages %}{{ message.content }}{% endfor %}") is None
    assert find_format("{% if tools %}<|call|>{% endif %}") is LMRUN
