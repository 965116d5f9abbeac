"""POST /v1/completions."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lmrun.server.bodies import CompletionBody, parse_completion
from lmrun.server.echo import Piece, Prompt, pieces
from lmrun.server.errors import ApiError, invalid
from lmrun.server.frame import Frame, check, read_body
from lmrun.server.logprobs import TokenLogprob, completion_logprobs
from lmrun.server.replies import EventStream, WatchedReply
from lmrun.server.service import Completion, Service, Usage

_FEW_TOKENS = 32


async def complete(service: Service, request: Request) -> Response:
    """POST /v1/completions."""
    received = time.monotonic()
    body = parse_completion(await read_body(request, service.settings.max_body_bytes))
    check(service, body)
    prompts = await asyncio.to_thread(_prompts, service, body)
    choices = [
        _Choice(
            index,
            service.completion(body, prompt.token_ids, ("max_tokens", body.max_tokens), received),
            prompt if body.echo else None,
        )
        for index, prompt in enumerate(prompts)
    ]
    frame = Frame(f"cmpl-{uuid.uuid4().hex}", "text_completion", service, body)
    if body.stream:
        return EventStream(_completion_events(service, choices, frame))
    return WatchedReply(lambda: _completion_document(service, choices, frame))


@dataclass(frozen=True)
class _Choice:
    """What one prompt of a request asks for."""

    index: int
    completion: Completion
    echoed: Prompt | None

    def document(self, service: Service, piece: Piece) -> dict[str, Any]:
        """A choice, or a part of one in a stream."""
        top = self.completion.sampling.logprobs
        logprobs = None
        if top is not None:
            logprobs = completion_logprobs(service.tokenizer, piece.tokens, has_top=top > 0)
        reason = piece.finish_reason
        return {
            "index": self.index,
            "text": piece.text,
            "logprobs": logprobs,
            "finish_reason": reason,
        }

    async def told(self, service: Service, piece: Piece) -> dict[str, Any]:
        """`document`; that of a long echo on another thread, since spelling a token and its
        alternatives takes up to 0.1 ms, for which no stream should wait."""
        if len(piece.tokens) <= _FEW_TOKENS:
            return self.document(service, piece)
        return await asyncio.to_thread(self.document, service, piece)


def _prompts(service: Service, body: CompletionBody) -> list[Prompt]:
    vocab_size = service.client.ready.vocab_size if service.client.ready else 0
    prompts = []
    for prompt in body.prompt:
        if isinstance(prompt, tuple) and (highest := max(prompt)) >= vocab_size:
            raise invalid(
                "prompt", f"expected token ids from 0 to {vocab_size - 1}, got {highest}."
            )
        if not body.echo:
            ids = prompt if isinstance(prompt, tuple) else service.tokenizer.encode(prompt)
            prompts.append(Prompt(tuple(ids), "", ()))
        elif isinstance(prompt, str):
            prompts.append(Prompt.of_text(service.tokenizer, prompt))
        else:
            prompts.append(Prompt.of_ids(service.tokenizer, prompt))
    return prompts


async def _completion_document(
    service: Service, choices: Sequence[_Choice], frame: Frame
) -> dict[str, Any]:
    with service.admit(len(choices)):
        tasks = [asyncio.create_task(_whole(service, choice, frame.usage)) for choice in choices]
        try:
            documents = await asyncio.gather(*tasks)
        finally:
            await _cancel(tasks)
    return frame.document(documents)


async def _completion_events(
    service: Service, choices: Sequence[_Choice], frame: Frame
) -> AsyncGenerator[dict[str, Any], None]:
    with service.admit(len(choices)):
        queue: asyncio.Queue[tuple[_Choice, Piece | ApiError]] = asyncio.Queue()

        async def pump(choice: _Choice) -> None:
            try:
                async with contextlib.aclosing(_run(service, choice, frame.usage)) as parts:
                    async for piece in parts:
                        queue.put_nowait((choice, piece))
            except ApiError as error:
                queue.put_nowait((choice, error))

        tasks = [asyncio.create_task(pump(choice)) for choice in choices]
        running = len(tasks)
        try:
            while running:
                choice, piece = await queue.get()
                if isinstance(piece, ApiError):
                    raise piece
                running -= piece.finish_reason is not None
                if piece.text or piece.tokens or piece.finish_reason is not None:
                    yield frame.chunk(await choice.told(service, piece))
        finally:
            await _cancel(tasks)
        if frame.include_usage:
            yield frame.chunk()


def _run(service: Service, choice: _Choice, usage: Usage) -> AsyncGenerator[Piece, None]:
    return pieces(service, choice.completion, choice.echoed, usage)


async def _whole(service: Service, choice: _Choice, usage: Usage) -> dict[str, Any]:
    """A choice run to its end."""
    texts: list[str] = []
    tokens: list[TokenLogprob] = []
    reason = None
    async with contextlib.aclosing(_run(service, choice, usage)) as parts:
        async for piece in parts:
            texts.append(piece.text)
            tokens += piece.tokens
            reason = piece.finish_reason
    return await choice.told(service, Piece("".join(texts), tokens, reason))


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
