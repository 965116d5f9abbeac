"""Responses that watch the client while they are computed: one that is gone aborts its request."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from lmrun.server.errors import ApiError

_DONE = b"data: [DONE]\n\n"


def sse(document: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


class WatchedReply(Response):
    """Computes its answer while the client is there; cancelled at once when it leaves."""

    def __init__(self, compute: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        super().__init__()
        self._compute = compute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer() -> None:
            response: Response
            try:
                response = JSONResponse(await self._compute())
            except ApiError as error:
                response = error.response()
            await response(scope, receive, send)

        await _while_connected(receive, answer())


class EventStream(Response):
    """Server-sent events. An error before the first event is a plain HTTP error; after it, an
    event with the error envelope ends the stream without ``[DONE]``."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[dict[str, Any], None]) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _while_connected(receive, self._stream(scope, receive, send))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            try:
                first = await anext(events)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _send(send, sse(first))
            try:
                async for event in events:
                    await _send(send, sse(event))
                last = _DONE
            except ApiError as error:
                last = sse(error.envelope())
        await send({"type": "http.response.body", "body": last, "more_body": False})


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` until it ends or the client disconnects, whichever is first."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        is_done = task.done()
        if not is_done:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    if is_done:
        with contextlib.suppress(OSError):  # the client left while it was written to
            task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
