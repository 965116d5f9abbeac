"""POST /v1/completions."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lmrun.engine.text import TextDelta
from lmrun.server.bodies import parse_completion
from lmrun.server.errors import ApiError, invalid
from lmrun.server.frame import Frame, check, read_body
from lmrun.server.replies import EventStream, WatchedReply
from lmrun.server.service import Completion, Service, Usage


async def complete(service: Service, request: Request) -> Response:
    """POST /v1/completions."""
    received = time.monotonic()
    body = parse_completion(await read_body(request, service.settings.max_body_bytes))
    check(service, body)
    prompts = await asyncio.to_thread(_prompt_ids, service, body.prompt)
    completions = [
        service.completion(body, ids, ("max_tokens", body.max_tokens), received) for ids in prompts
    ]
    frame = Frame(f"cmpl-{uuid.uuid4().hex}", "text_completion", service, body)
    if body.stream:
        return EventStream(_completion_events(service, completions, frame))
    return WatchedReply(lambda: _completion_document(service, completions, frame))


def _prompt_ids(
    service: Service, prompts: Sequence[str | tuple[int, ...]]
) -> list[list[int] | tuple[int, ...]]:
    vocab_size = service.client.ready.vocab_size if service.client.ready else 0
    encoded: list[list[int] | tuple[int, ...]] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            encoded.append(service.tokenizer.encode(prompt))
            continue
        if (highest := max(prompt)) >= vocab_size:
            raise invalid(
                "prompt", f"expected token ids from 0 to {vocab_size - 1}, got {highest}."
            )
        encoded.append(prompt)
    return encoded


async def _completion_document(
    service: Service, completions: Sequence[Completion], frame: Frame
) -> dict[str, Any]:
    with service.admit(len(completions)):
        tasks = [
            asyncio.create_task(_whole(service, completion, frame.usage))
            for completion in completions
        ]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            await _cancel(tasks)
    return frame.document(
        [_text_choice(index, text, reason) for index, (text, reason) in enumerate(answers)]
    )


async def _completion_events(
    service: Service, completions: Sequence[Completion], frame: Frame
) -> AsyncGenerator[dict[str, Any], None]:
    with service.admit(len(completions)):
        queue: asyncio.Queue[tuple[int, TextDelta | ApiError]] = asyncio.Queue()

        async def pump(index: int, completion: Completion) -> None:
            try:
                async with contextlib.aclosing(service.deltas(completion, frame.usage)) as deltas:
                    async for delta in deltas:
                        queue.put_nowait((index, delta))
            except ApiError as error:
                queue.put_nowait((index, error))

        tasks = [asyncio.create_task(pump(*item)) for item in enumerate(completions)]
        running = len(tasks)
        try:
            while running:
                index, delta = await queue.get()
                if isinstance(delta, ApiError):
                    raise delta
                running -= delta.finish_reason is not None
                if delta.text or delta.finish_reason is not None:
                    yield frame.chunk(_text_choice(index, delta.text, delta.finish_reason))
        finally:
            await _cancel(tasks)
        if frame.include_usage:
            yield frame.chunk()


async def _whole(service: Service, completion: Completion, usage: Usage) -> tuple[str, str | None]:
    """A completion run to its end: its text and finish reason."""
    parts = []
    reason = None
    async with contextlib.aclosing(service.deltas(completion, usage)) as deltas:
        async for delta in deltas:
            parts.append(delta.text)
            reason = delta.finish_reason
    return "".join(parts), reason


def _text_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
