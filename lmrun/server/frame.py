"""What chats and plain completions share: reading a body, and the frame of an answer."""

import time
from typing import Any

from starlette.requests import Request

from lmrun.server.bodies import ChatBody, CompletionBody
from lmrun.server.errors import ApiError, invalid
from lmrun.server.service import Service, Usage


async def read_body(request: Request, limit: int) -> bytes:
    """The body; 413 when it is longer than ``limit`` bytes."""
    parts = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts += part
        elif size > 8 * limit:
            break  # the client reads the answer only after it sent all: be patient, not endless
    if size > limit:
        raise ApiError(
            413, f"body: expected at most {limit} bytes, got more.", code="body_too_large"
        )
    return bytes(parts)


def check(service: Service, body: ChatBody | CompletionBody) -> None:
    """Refuse a body that cannot be served now, or not by this model."""
    service.check_open()
    service.check_model(body.model)
    options = body.stream_options
    if options is not None and not body.stream:
        raise invalid("stream_options", "only legal together with stream: true.")
    if options is not None and options.continuous_usage_stats and not options.include_usage:
        raise invalid(
            "stream_options.continuous_usage_stats",
            "only legal together with include_usage: true.",
        )


class Frame:
    """The fields that every document of one answer carries."""

    def __init__(
        self, answer_id: str, kind: str, service: Service, body: ChatBody | CompletionBody
    ) -> None:
        self._fields = {
            "id": answer_id,
            "object": kind,
            "created": int(time.time()),
            "model": service.settings.served_name,
        }
        options = body.stream_options
        self.include_usage = bool(options and options.include_usage)
        self._is_usage_in_each = bool(options and options.continuous_usage_stats)
        self.usage = Usage()
        self.finish_reason: str | None = None
        """Of a chat, once it ended."""

    def document(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A whole answer."""
        return {**self._fields, "choices": choices, "usage": self.usage.document()}

    def chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        """A piece of a stream; without choices it is the one that carries the usage."""
        chunk: dict[str, Any] = {**self._fields, "choices": list(choices)}
        if self._fields["object"] == "chat.completion":
            chunk["object"] = "chat.completion.chunk"
        if self.include_usage:
            is_told = not choices or self._is_usage_in_each
            chunk["usage"] = self.usage.document() if is_told else None
        return chunk
