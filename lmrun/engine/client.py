"""The engine face over a socket, for asyncio.

The client believes the engine alive while messages come: it asks for `Stats` all the time, and
the step loop itself answers. A closed connection or a silence of ``hang_timeout_s`` ends every
open stream with an error event; the client does not come back from that.
"""

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lmrun import log
from lmrun.engine import wire
from lmrun.engine.messages import (
    Abort,
    Ask,
    EffectiveConfig,
    Event,
    Ready,
    Refused,
    Request,
    SamplingParams,
    Score,
    Scored,
    Stats,
    Submit,
    Tokens,
)
from lmrun.errors import EngineError, RequestError

logger = log.get(__name__)

_CONNECT_EVERY_S = 0.1
_T = TypeVar("_T")


class ClientState(Enum):
    """Life of a client; it only moves down this list."""

    connecting = "connecting"
    alive = "alive"
    dead = "dead"


class TokenStream:
    """The events of one completion: an async iterator whose last event has a finish reason.

    Closing it, leaving its ``async with``, or a cancelled wait aborts the request. A request that
    the engine refuses raises `RequestError` from the first event.
    """

    def __init__(self, client: "EngineClient", request_id: str) -> None:
        self._client = client
        self.request_id = request_id
        self._events: asyncio.Queue[Tokens | Refused] = asyncio.Queue()
        self._is_over = False

    def put(self, event: Tokens | Refused) -> None:
        """For the client: an event arrived."""
        self._events.put_nowait(event)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tokens:
        if self._is_over:
            raise StopAsyncIteration
        try:
            event = await self._events.get()
        except asyncio.CancelledError:
            self.abort()
            raise
        if isinstance(event, Refused):
            self._is_over = True
            raise RequestError(event.error)
        self._is_over = event.finish_reason is not None
        return event

    def abort(self) -> None:
        """End the request now; no further event is seen."""
        if not self._is_over:
            self._is_over = True
            self._client.abort(self.request_id)

    async def aclose(self) -> None:
        """The same, under the name that iterators have."""
        self.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


class EngineClient:
    """One connection to an engine worker."""

    def __init__(
        self, socket_path: Path, *, heartbeat_s: float = 1.0, hang_timeout_s: float = 180.0
    ) -> None:
        """``hang_timeout_s`` must exceed the longest step, the first of a long prompt included."""
        self._path = socket_path
        self._heartbeat_s = heartbeat_s
        self._hang_timeout_s = hang_timeout_s
        self._ids = itertools.count()
        self._streams: dict[str, TokenStream] = {}
        self._scores: dict[str, asyncio.Future[Scored]] = {}
        self._stats: deque[asyncio.Future[Stats]] = deque()
        self._configs: deque[asyncio.Future[EffectiveConfig]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = 0.0
        self.state = ClientState.connecting
        self.reason = f"the engine has not computed its first token yet ({socket_path.name})"
        """Why the state is not alive."""
        self.ready: Ready | None = None
        self.last_stats: Stats | None = None

    @property
    def alive(self) -> bool:
        """Requests can be sent."""
        return self.state is ClientState.alive

    async def connect(self, timeout_s: float | None = None) -> None:
        """Wait for the worker's socket and its first token; `EngineError` after the time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.state is ClientState.connecting:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError as error:
                if deadline is not None and time.monotonic() > deadline:
                    raise EngineError(
                        f"{self._path}: no engine answers after {timeout_s:g} s: {error}."
                    ) from error
                await asyncio.sleep(_CONNECT_EVERY_S)
                continue
            try:
                body = await wire.read_frame_async(reader)
                first = None if body is None else wire.unpack_event(body)
            except (EngineError, OSError):
                first = None
            if not isinstance(first, Ready):
                writer.close()
                raise EngineError(f"{self._path}: the engine closed before it was ready.")
            self._writer = writer
            self.ready = first
            self.state = ClientState.alive
            self.reason = ""
            self._heard = time.monotonic()
            self._tasks = [
                asyncio.create_task(self._read(reader)),
                asyncio.create_task(self._watch()),
            ]

    async def close(self, reason: str = "the engine client was closed") -> None:
        """End every open stream with an error event and hang up."""
        tasks = self._tasks
        self._die(reason)
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def submit(
        self, prompt_token_ids: Sequence[int], sampling: SamplingParams | None = None
    ) -> TokenStream:
        """Start a completion; `EngineError` when the engine is not alive."""
        stream = TokenStream(self, self._new_id())
        self._send(
            Submit(
                request_id=stream.request_id,
                prompt_token_ids=tuple(prompt_token_ids),
                sampling=sampling or SamplingParams(),
            )
        )
        self._streams[stream.request_id] = stream
        return stream

    def abort(self, request_id: str) -> None:
        """End a request at once; unknown ids are ignored."""
        if self._streams.pop(request_id, None) is not None and self.alive:
            with contextlib.suppress(EngineError):
                self._send(Abort(request_id=request_id))

    async def score(self, token_ids: Sequence[int], top: int = 0) -> Scored:
        """Log-probabilities of each next token, and the ``top`` most probable ones of each place.

        Scored beside completions, in the same steps. `RequestError` when it cannot run,
        `EngineError` when the engine fails on it. A cancelled wait aborts it.
        """
        request_id = self._new_id()
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        self._send(Score(request_id=request_id, token_ids=tuple(token_ids), top=top))
        self._scores[request_id] = future
        try:
            return await future
        except asyncio.CancelledError:
            if self._scores.pop(request_id, None) is not None and self.alive:
                self._send(Abort(request_id=request_id))
            raise

    async def stats(self) -> Stats:
        """Counters and gauges as the step loop has them now."""
        future: asyncio.Future[Stats] = asyncio.get_running_loop().create_future()
        self._send(Ask(what="stats"))
        self._stats.append(future)
        return await future

    async def effective_config(self) -> EffectiveConfig:
        """The settings in force."""
        future: asyncio.Future[EffectiveConfig] = asyncio.get_running_loop().create_future()
        self._send(Ask(what="effective_config"))
        self._configs.append(future)
        return await future

    def _new_id(self) -> str:
        return str(next(self._ids))

    def _send(self, request: Request) -> None:
        if not self.alive or self._writer is None:
            raise EngineError(f"engine: {self.reason}.")
        self._writer.write(wire.pack(request))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (body := await wire.read_frame_async(reader)) is not None:
                self._heard = time.monotonic()
                self._receive(wire.unpack_event(body))
            reason = "the engine process closed the connection"
        except (EngineError, OSError) as error:
            reason = f"the connection to the engine broke: {error}"
        self._die(reason)

    async def _watch(self) -> None:
        while self.alive:
            await asyncio.sleep(self._heartbeat_s)
            silence = time.monotonic() - self._heard
            if silence > self._hang_timeout_s:
                self._die(f"the engine process has said nothing for {silence:.0f} s")
            elif self.alive and not self._stats:
                self._send(Ask(what="stats"))
                self._stats.append(asyncio.get_running_loop().create_future())

    def _receive(self, event: Event) -> None:
        match event:
            case Tokens():
                stream = self._streams.get(event.request_id)
                if stream is not None:
                    if event.finish_reason is not None:
                        del self._streams[event.request_id]
                    stream.put(event)
            case Refused():
                if (stream := self._streams.pop(event.request_id, None)) is not None:
                    stream.put(event)
                self._end_score(event.request_id, RequestError(event.error))
            case Scored(error=None):
                self._end_score(event.request_id, event)
            case Scored():
                self._end_score(event.request_id, EngineError(event.error))
            case Stats():
                self.last_stats = event
                _answer(self._stats, event)
            case EffectiveConfig():
                _answer(self._configs, event)
            case Ready():
                self.ready = event

    def _end_score(self, request_id: str, answer: Scored | Exception) -> None:
        waiting = self._scores.pop(request_id, None)
        if waiting is None or waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _die(self, reason: str) -> None:
        if self.state is ClientState.dead:
            return
        logger.log(40 if self._streams else 20, "engine client: %s", reason)
        self.state = ClientState.dead
        self.reason = reason
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.put(Tokens(request_id=stream.request_id, finish_reason="error", error=reason))
        error = EngineError(f"engine: {reason}.")
        waiting: list[asyncio.Future[Any]] = []
        waiting += [*self._scores.values(), *self._stats, *self._configs]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: nobody need be waiting for a heartbeat
        self._scores.clear()
        self._stats.clear()
        self._configs.clear()
        if self._writer is not None:
            self._writer.close()


def _answer(waiting: "deque[asyncio.Future[_T]]", answer: _T) -> None:
    if waiting:
        future = waiting.popleft()
        if not future.done():
            future.set_result(answer)
