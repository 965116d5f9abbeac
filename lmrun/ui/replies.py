"""The replies being written, one a browser session, so that a stop button can end them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from lmrun.errors import RequestError
from lmrun.ui.api import Api, Delta, Message, NoChatTemplateError, Sampling


@dataclass(frozen=True)
class Progress:
    """A reply so far: its text, and at its end how it ended."""

    text: str = ""
    completed: bool = False
    """The model cannot chat; the last message was completed as plain text."""
    finish_reason: str | None = None
    completion_tokens: int | None = None


async def write(
    api: Api, messages: list[Message], sampling: Sampling
) -> AsyncGenerator[tuple[Delta, bool], None]:
    """Pieces of the reply, each with whether it is a plain completion.

    A model without a chat template completes the last message as it is.
    """
    try:
        async with aclosing(api.chat(messages, sampling)) as chat:
            async for delta in chat:
                yield delta, False
        return
    except NoChatTemplateError:
        pass
    async with aclosing(api.complete(messages[-1].content, sampling)) as completion:
        async for delta in completion:
            yield delta, True


@dataclass
class _Reply:
    task: asyncio.Task[None] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress = field(default_factory=Progress)
    error: str | None = None


class Replies:
    """Starts and stops replies. All methods run on one event loop."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._running: dict[str, _Reply] = {}

    def is_running(self, session: str) -> bool:
        """Whether this session has a reply under way."""
        return session in self._running

    def stop(self, session: str) -> None:
        """End the session's reply, if any: its HTTP stream is closed, which aborts the request."""
        reply = self._running.get(session)
        if reply is not None and reply.task is not None:
            reply.task.cancel()

    async def reply(
        self, session: str, messages: list[Message], sampling: Sampling
    ) -> AsyncGenerator[Progress, None]:
        """The reply so far, each time there is more of it; a slow reader skips steps.

        A stopped reply ends with finish reason ``abort``. Raises `RequestError`. Leaving the
        iterator early stops the reply too.
        """
        reply = _Reply()
        reply.task = asyncio.create_task(self._pump(reply, messages, sampling))
        self._running[session] = reply
        try:
            while not reply.task.done():
                await reply.news.wait()
                reply.news.clear()
                if not reply.task.done():
                    yield reply.progress
            yield reply.progress
            if reply.error is not None:
                raise RequestError(reply.error)
        finally:
            reply.task.cancel()
            self._running.pop(session, None)

    async def _pump(self, reply: _Reply, messages: list[Message], sampling: Sampling) -> None:
        text, reason, count, completed = "", None, None, False
        try:
            async with aclosing(write(self._api, messages, sampling)) as pieces:
                async for delta, completed in pieces:
                    text += delta.text
                    reason = delta.finish_reason or reason
                    count = delta.completion_tokens if delta.completion_tokens else count
                    reply.progress = Progress(text, completed, reason, count)
                    reply.news.set()
        except RequestError as error:
            reply.error = str(error)
        except asyncio.CancelledError:
            reply.progress = Progress(text, completed, "abort", count)
            # Not raised again: the task ends here, and its reader sees a finished reply.
        finally:
            asyncio.get_running_loop().call_soon(reply.news.set)
