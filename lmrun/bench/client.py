"""Sending requests and noting when bytes of their answers come, at as little cost as may be.

While requests run nothing is parsed: bytes are kept with the time they came at, and each request
has a connection that the server closes after its answer (`lmrun.bench.answers` reads them later).
So a streamed token costs this process about 28 µs of CPU, of which all but two are asyncio's; with
httpx it is 95, with aiohttp 48 (Zen 4, 4 streams of 1,000 events a second, no JSON decoded), which
a server of some thousand tokens a second on the same two cores would feel.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECT_S = 10.0
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Address:
    """Where a server is."""

    host: str
    port: int
    is_tls: bool
    prefix: str
    """Of paths, without a slash at its end: `/openai` of http://host/openai/v1."""
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, api_key: str | None = None) -> "Address":
        """From a URL with or without its `/v1`. Raises `ValueError` for one that is no http URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("expected http://HOST:PORT")
        is_tls = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, prefix, api_key)

    @property
    def base_url(self) -> str:
        """Without `/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.is_tls else ''}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True)
class Exchange:
    """One request and what came back, unread."""

    sent: float
    """Seconds on the clock of `time.perf_counter`, as all here."""
    pieces: tuple[tuple[float, bytes], ...]
    """Bytes of the answer, each with when they came."""
    ended: float
    problem: str | None
    """Why the connection ended other than by the server's closing it."""


def encode(address: Address, path: str, body: Mapping[str, Any]) -> bytes:
    """A whole HTTP request."""
    content = json.dumps(body, separators=(",", ":")).encode()
    host = f"[{address.host}]" if ":" in address.host else address.host
    head = [
        f"POST {address.prefix}{path} HTTP/1.1",
        f"Host: {host}:{address.port}",
        "User-Agent: lmrun-bench",
        "Accept: text/event-stream",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    if address.api_key is not None:
        head.append(f"Authorization: Bearer {address.api_key}")
    return "\r\n".join([*head, "", ""]).encode() + content


class _Recorder(asyncio.Protocol):
    """Keeps what comes, with its time, until the connection ends."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self.problem: str | None = None
        self.ended = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))
        is_last = data == LAST_CHUNK or data.endswith(b"\r\n" + LAST_CHUNK)
        if is_last and self._transport is not None:
            self._transport.close()  # a server may keep the connection, though asked to close it

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.problem = f"the connection broke: {_worded(error)}"
        if not self.ended.done():
            self.ended.set_result(time.perf_counter())


async def exchange(
    address: Address, request: bytes, patience_s: float, tls: ssl.SSLContext | None = None
) -> Exchange:
    """Send a request on a connection of its own and wait for the end of its answer.

    The clock starts when the connection is there. Nothing is raised for a server's failure.
    """
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(CONNECT_S):
            transport, recorder = await loop.create_connection(
                _Recorder, address.host, address.port, ssl=tls
            )
    except (OSError, TimeoutError) as error:
        problem = f"{address.base_url}: cannot be reached: {_worded(error)}"
        return Exchange(begin, (), time.perf_counter(), problem)
    sent = time.perf_counter()
    try:
        transport.write(request)
        async with asyncio.timeout(patience_s):
            ended: float = await asyncio.shield(recorder.ended)
    except TimeoutError:
        ended = time.perf_counter()
        recorder.problem = f"no end of the answer within {patience_s:g} s"
    finally:
        transport.abort()
    return Exchange(sent, tuple(recorder.pieces), ended, recorder.problem)


def _worded(error: BaseException) -> str:
    """asyncio replaces what the system says of a refused connection by its own words."""
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
