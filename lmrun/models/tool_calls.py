"""Tool calls in a completion's text: one format a family of chat templates.

The text between the markers is read as the model wrote it: nothing is repaired. What is no call
after all stays text.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class ToolFormat:
    """How a template's model writes a call: ``open`` JSON ``close``, several one after another.

    The JSON is an object with exactly `name`, a string, and `arguments`, an object. Without a
    ``close`` a call ends where the next one opens, or with the turn.
    """

    name: str
    open: str
    close: str | None


FORMATS = (
    ToolFormat("hermes", "<tool_call>", "</tool_call>"),
    ToolFormat("lmrun", "<|call|>", None),
)
"""The closed list. hermes: Hermes 2 Pro, Qwen 2.5, QwQ, Granite 4; lmrun: its own demo model."""

_FOREIGN = (
    "<function=",
    "<arg_key>",
    "<tool_calls>",
    "<|channel|>",
    "<｜tool",
    "<|tool_calls_section_begin|>",
)
"""Templates that put something else than the JSON between the same or like markers."""


def find_format(template: str) -> ToolFormat | None:
    """The format that a chat template (its Jinja source) asks its model for; None for another."""
    if "tools" not in template or any(mark in template for mark in _FOREIGN):
        return None
    return next((known for known in FORMATS if known.open in template), None)


@dataclass(frozen=True)
class ToolCall:
    """One call. ``arguments`` is a JSON object, as text."""

    name: str
    arguments: str


class ToolCallStream:
    """Splits a completion's text, piece by piece, into text and calls.

    Whitespace around calls belongs to neither. Text that could still begin a call is held back.
    """

    def __init__(self, tool_format: ToolFormat) -> None:
        self._format = tool_format
        self._held = ""
        self._is_inside = False
        self._after_call = False
        self.num_calls = 0
        """Calls so far."""

    def push(self, text: str) -> list[str | ToolCall]:
        """What these characters complete, in order; the texts are not empty."""
        self._held += text
        found: list[str | ToolCall] = []
        while (part := self._next()) is not None:
            if part:
                found.append(part)
        return found

    def finish(self) -> list[str | ToolCall]:
        """What was held back, at the end of the turn: a call that was not closed is text."""
        body, self._held = self._held, ""
        if not self._is_inside:
            return [text] if (text := self._shown(body)) else []
        self._is_inside = False
        return [self._call(body)] if self._format.close is None else [self._format.open + body]

    def _next(self) -> str | ToolCall | None:
        """The next part that is complete; "" where only a mark was read, None at the end."""
        mark = (self._format.close or self._format.open) if self._is_inside else self._format.open
        start = self._held.find(mark)
        if start < 0:
            return None if self._is_inside else self._text_so_far()
        body, self._held = self._held[:start], self._held[start + len(mark) :]
        if not self._is_inside:
            self._is_inside = True
            return self._shown(body.rstrip())
        self._is_inside = self._format.close is None  # then the mark was that of the next call
        return self._call(body)

    def _call(self, body: str) -> str | ToolCall:
        call = _read_call(body)
        if call is None:
            return self._shown(f"{self._format.open}{body}{self._format.close or ''}")
        self.num_calls += 1
        self._after_call = True
        return call

    def _text_so_far(self) -> str | None:
        """Text that can be no part of a mark, nor the whitespace before one."""
        size = len(self._held) - _overlap(self._held, self._format.open)
        text = self._held[:size].rstrip()
        if not text:
            return None
        self._held = self._held[len(text) :]
        return self._shown(text)

    def _shown(self, text: str) -> str:
        """Text without the whitespace that stands between it and a call before it."""
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        return text


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of the text that begins the mark."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-size:]):
            return size
    return 0


def _read_call(body: str) -> ToolCall | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or set(document) != {"name", "arguments"}:
        return None
    name, arguments = document["name"], document["arguments"]
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))
