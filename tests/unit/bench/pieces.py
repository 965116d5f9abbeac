"""Answers of a server, put together by hand, with the times at which their bytes came."""

import json
from collections.abc import Sequence
from typing import Any

from lmrun.bench.client import Exchange

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"connection: close\r\n\r\n"
)
END = b"0\r\n\r\n"


def event(document: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def text(text: str, reason: str | None = None) -> bytes:
    """The event of a piece of a completion."""
    return event({"choices": [{"index": 0, "text": text, "finish_reason": reason}]})


def said(text: str | None, reason: str | None = None, **more: str) -> bytes:
    """The event of a piece of a chat."""
    delta = {"content": text, **more}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})


def usage(prompt: int, completion: int, cached: int | None = None) -> bytes:
    """The last event, with the counts."""
    counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": counts})


DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def exchange(
    *pieces: tuple[float, bytes], sent: float = 0.0, problem: str | None = None
) -> Exchange:
    """Pieces as they came on the wire."""
    ended = pieces[-1][0] if pieces else sent
    return Exchange(sent, tuple(pieces), ended, problem)


def streamed(events: Sequence[tuple[float, bytes]], sent: float = 0.0) -> Exchange:
    """A whole answer: its head, each event in a chunk of its own, its end."""
    first, last = events[0][0], events[-1][0]
    chunks = [(when, chunk(data)) for when, data in events]
    return exchange((first, HEAD), *chunks, (last, END), sent=sent)
