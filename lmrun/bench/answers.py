"""From the bytes of an answer, and when they came, to what a client would have seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h11
import msgspec

from lmrun.bench.client import Exchange
from lmrun.bench.sse import EventReader

DONE = b"[DONE]"
SHOWN = 300
"""Characters of a server's error that are kept."""


@dataclass(frozen=True)
class Answer:
    """One streamed completion; times in seconds."""

    sent: float
    ended: float
    error: str | None
    """What went wrong; the other figures are then those until there."""
    status: int | None
    """Of HTTP; None where no head came."""
    texts: tuple[float, ...] = ()
    """When each event that carried text came."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """As the server counts; None where it says nothing."""
    cached_tokens: int | None = None
    """Of the prompt, found in a prefix cache; None where the server says nothing."""

    @property
    def latency(self) -> float:
        """To the end of the answer."""
        return self.ended - self.sent

    @property
    def ttft(self) -> float | None:
        """To the first text; None where none came."""
        return self.texts[0] - self.sent if self.texts else None

    @property
    def tokens(self) -> int:
        """Completion tokens; the events with text where the server does not count them."""
        return len(self.texts) if self.completion_tokens is None else self.completion_tokens

    @property
    def itl(self) -> float | None:
        """Mean time of a token after the first text; None where there is none."""
        if len(self.texts) < 2 or self.tokens < 2:
            return None
        return (self.texts[-1] - self.texts[0]) / (self.tokens - 1)

    @property
    def gaps(self) -> tuple[float, ...]:
        """Between one event with text and the next."""
        return tuple(b - a for a, b in zip(self.texts, self.texts[1:], strict=False))


class _BrokenError(Exception):
    """The answer is none that the API knows."""


def read(exchange: Exchange) -> Answer:
    """Read an answer; one that is wrong has its `error` set."""
    reading = _Reading()
    try:
        for when, event in _events(exchange.pieces, reading):
            reading.event(when, event)
        error = reading.missing()
    except _BrokenError as broken:
        error = str(broken)
    if error is not None and exchange.problem is not None and not reading.has_failed:
        error = exchange.problem
    return Answer(
        sent=exchange.sent,
        ended=exchange.pieces[-1][0] if exchange.pieces else exchange.ended,
        error=error,
        status=reading.status,
        texts=tuple(reading.texts),
        prompt_tokens=_count(reading.usage.get("prompt_tokens")),
        completion_tokens=_count(reading.usage.get("completion_tokens")),
        cached_tokens=reading.cached_tokens(),
    )


class _Reading:
    """What the events have said so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.texts: list[float] = []
        self.usage: dict[str, Any] = {}
        self.is_finished = False
        self.is_done = False
        self.has_failed = False
        """The server itself said why."""

    def event(self, when: float, data: bytes) -> None:
        if data == DONE:
            self.is_done = True
            return
        document = self.decoded(data)
        if document.get("error") is not None:
            self.has_failed = True
            raise _BrokenError(_message(document))
        if isinstance(usage := document.get("usage"), dict):
            self.usage = usage
        choices = document.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            raise _BrokenError(_shown("an event that is no completion", data))
        if _text(choice):
            self.texts.append(when)
        if choice.get("finish_reason") is not None:
            self.is_finished = True
            if choice["finish_reason"] in ("error", "abort"):
                self.has_failed = True
                raise _BrokenError(f"the server ended it: {choice['finish_reason']}")

    def decoded(self, data: bytes) -> dict[str, Any]:
        try:
            document = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            document = None
        if not isinstance(document, dict):
            raise _BrokenError(_shown("an event that is not JSON", data))
        return document

    def missing(self) -> str | None:
        """What is wrong with an answer whose bytes were all well."""
        if self.is_finished:
            return None
        return "the answer broke off: no event said that it was finished"

    def cached_tokens(self) -> int | None:
        details = self.usage.get("prompt_tokens_details")
        return _count(details.get("cached_tokens")) if isinstance(details, dict) else None


def _events(
    pieces: Sequence[tuple[float, bytes]], reading: _Reading
) -> Iterator[tuple[float, bytes]]:
    """Data of the events with the time of the piece that completed each."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "server")]))
    connection.send(h11.EndOfMessage())
    reader = EventReader()
    refusal = b""
    if not pieces:
        raise _BrokenError("the server closed the connection without an answer")
    try:
        for when, piece in (*pieces, (pieces[-1][0], b"")):
            connection.receive_data(piece)
            for event in _http_events(connection):
                if isinstance(event, h11.Response):
                    reading.status = event.status_code
                elif isinstance(event, h11.Data) and reading.status == 200:
                    for data in reader.feed(bytes(event.data)):
                        yield when, data
                elif isinstance(event, h11.Data):
                    refusal += bytes(event.data)
    except h11.RemoteProtocolError as error:
        if reading.status is None or (reading.status == 200 and not reading.is_finished):
            what = "no HTTP" if reading.status is None else "the answer broke off"
            raise _BrokenError(f"{what}: {error}") from error
    if reading.status not in (None, 200):
        reading.has_failed = True
        raise _BrokenError(f"status {reading.status}: {_refused(refusal)}")


def _http_events(connection: h11.Connection) -> Iterator[Any]:
    while True:
        event = connection.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return
        yield event
        if isinstance(event, h11.EndOfMessage):
            return


def _text(choice: dict[str, Any]) -> object:
    """What a choice of a completion or of a chat adds; a reasoning model's thoughts count."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
    return choice.get("text")


def _refused(content: bytes) -> str:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = None
    if isinstance(document, dict):
        return _message(document)
    return content.decode("utf-8", "replace").strip()[:SHOWN] or "no reason given"


def _message(document: dict[str, Any]) -> str:
    detail = document.get("error", document.get("message", document.get("detail")))
    if isinstance(detail, dict):
        detail = detail.get("message")
    return (detail if isinstance(detail, str) else str(document))[:SHOWN]


def _shown(what: str, data: bytes) -> str:
    return f"{what}: {data[:80].decode('utf-8', 'replace')}"


def _count(value: object) -> int | None:
    return value if type(value) is int else None
