"""A server of someone else's, behind `--url`: it says what a script tells it, at known times."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from unit.bench.pieces import DONE, END, HEAD, chunk, text, usage

MODELS = {"object": "list", "data": [{"id": "theirs", "max_model_len": 4096}]}

Write = Callable[[bytes], Awaitable[None]]
Reply = Callable[[dict[str, Any], Write], Awaitable[None]]


@dataclass
class SomeoneElses:
    """What it was asked, and how it answers."""

    reply: Reply
    models: object = field(default_factory=lambda: MODELS)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    port: int = 0
    stop: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request on one connection."""
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the server goes away
                await self._one(reader, writer)
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (x.partition(":") for x in lines[1:])}
            content = await reader.readexactly(int(headers.get("content-length", "0")))

            async def write(data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            method, path, _ = lines[0].split(" ")
            if method == "GET":
                await write(plain(200, self.models))
            else:
                self.paths.append(path)
                self.bodies.append(json.loads(content))
                self.keys.append(headers.get("authorization"))
                self.open_now += 1
                self.most_open = max(self.most_open, self.open_now)
                try:
                    await self.reply(self.bodies[-1], write)
                finally:
                    self.open_now -= 1


def plain(status: int, document: object) -> bytes:
    """A whole reply that is not streamed."""
    content = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def refusal(status: int, message: str) -> bytes:
    """As OpenAI's API refuses."""
    return plain(status, {"error": {"message": message, "type": "invalid_request_error"}})


def prompt_length(body: dict[str, Any]) -> int:
    """Of ids, or of words and four tokens around them."""
    prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
    return len(prompt.split()) + 4 if isinstance(prompt, str) else len(prompt)


def patient(first_s: float = 0.0, gap_s: float = 0.0) -> Reply:
    """Streams as many tokens as asked for: the first after a time, the others at equal gaps."""

    async def reply(body: dict[str, Any], write: Write) -> None:
        await asyncio.sleep(first_s)
        await write(HEAD)
        count = body["max_tokens"]
        for index in range(count):
            if index:
                await asyncio.sleep(gap_s)
            await write(chunk(text(f"{index} ", "length" if index == count - 1 else None)))
        if body.get("stream_options"):
            await write(chunk(usage(prompt_length(body), count, cached=0)))
        await write(chunk(DONE) + END)

    return reply


@contextlib.contextmanager
def serving(reply: Reply) -> Iterator[SomeoneElses]:
    """The server, in a thread."""
    theirs = SomeoneElses(reply)
    ready = threading.Event()

    async def main() -> None:
        server = await asyncio.start_server(theirs.serve, "127.0.0.1", 0, backlog=256)
        theirs.port = server.sockets[0].getsockname()[1]
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        theirs.stop = lambda: loop.call_soon_threadsafe(end.set)
        ready.set()
        await end.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="someone-elses")
    thread.start()
    ready.wait()
    try:
        yield theirs
    finally:
        with contextlib.suppress(RuntimeError):  # it went away by itself
            theirs.stop()
        thread.join()
