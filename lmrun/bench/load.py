"""Putting a load on a server: levels of concurrency, and arrivals of a trace."""

import asyncio
import gc
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lmrun.bench.answers import Answer, read
from lmrun.bench.client import Address, Exchange, exchange

PATIENCE_S = 600.0
"""For the whole answer of one request."""


@dataclass(frozen=True)
class Round:
    """What came of some requests."""

    answers: tuple[Answer, ...]
    """In the order they were sent."""
    seconds: float
    """From the first request to the last answer."""
    cpu_seconds: float
    """Of this process."""

    @property
    def good(self) -> tuple[Answer, ...]:
        """Answers without an error."""
        return tuple(answer for answer in self.answers if answer.error is None)


@dataclass(frozen=True)
class Server:
    """Takes requests that are encoded already."""

    address: Address
    patience_s: float = PATIENCE_S

    def closed(self, requests: Sequence[bytes], concurrency: int) -> Round:
        """Send all of them, so many open at a time: the next one when another ends."""

        async def run(send: _Send) -> list[Exchange]:
            waiting = iter(enumerate(requests))
            done: dict[int, Exchange] = {}

            async def one() -> None:
                for index, request in waiting:
                    done[index] = await send(request)

            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(requests))):
                    group.create_task(one())
            return [done[index] for index in range(len(requests))]

        return self._timed(run)

    def open(self, requests: Sequence[tuple[float, bytes]]) -> Round:
        """Send each at its time, in seconds from now, whatever is still open."""

        async def run(send: _Send) -> list[Exchange]:
            begin = asyncio.get_running_loop().time()

            async def one(at: float, request: bytes) -> Exchange:
                await asyncio.sleep(begin + at - asyncio.get_running_loop().time())
                return await send(request)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(*request)) for request in requests]
            return [task.result() for task in tasks]

        return self._timed(run)

    def _timed(self, run: "Callable[[_Send], Awaitable[list[Exchange]]]") -> Round:
        tls = ssl.create_default_context() if self.address.is_tls else None

        async def send(request: bytes) -> Exchange:
            return await exchange(self.address, request, self.patience_s, tls)

        async def main() -> tuple[list[Exchange], float]:
            cpu = time.process_time()
            found = await run(send)
            return found, time.process_time() - cpu

        with _without_garbage_collection():
            found, cpu_seconds = asyncio.run(main())
        begin = min((one.sent for one in found), default=0.0)
        seconds = max((one.ended for one in found), default=0.0) - begin
        return Round(tuple(map(read, found)), seconds, cpu_seconds)


_Send = Callable[[bytes], Awaitable[Exchange]]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A collection takes milliseconds, which would look like the server's."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
