"""POST /v1/chat/completions and /v1/completions."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lmrun.engine.text import TextDelta
from lmrun.errors import RequestError
from lmrun.server.bodies import ChatBody, CompletionBody, Message, parse_chat, parse_completion
from lmrun.server.errors import ApiError, invalid
from lmrun.server.replies import EventStream, WatchedReply
from lmrun.server.service import Completion, Service, Usage

_NO_TEMPLATE = (
    "messages: this model has no chat template. Set model.chat_template to a Jinja file or a"
    " named template when it is launched, or send the text to /v1/completions."
)


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


async def chat(service: Service, request: Request) -> Response:
    """POST /v1/chat/completions."""
    received = time.monotonic()
    body = parse_chat(await read_body(request, service.settings.max_body_bytes))
    _check(service, body)
    asked: tuple[str, int | None] = ("max_tokens", body.max_tokens)
    if body.max_completion_tokens is not None:
        if body.max_tokens not in (None, body.max_completion_tokens):
            raise invalid("max_tokens", "differs from max_completion_tokens. Send one of them.")
        asked = ("max_completion_tokens", body.max_completion_tokens)
    ids = await asyncio.to_thread(_chat_ids, service, body.messages)
    completion = service.completion(body, ids, asked, received)
    frame = _Frame(f"chatcmpl-{uuid.uuid4().hex}", "chat.completion", service, body)
    if body.stream:
        return EventStream(_chat_events(service, completion, frame))
    return WatchedReply(lambda: _chat_document(service, completion, frame))


async def complete(service: Service, request: Request) -> Response:
    """POST /v1/completions."""
    received = time.monotonic()
    body = parse_completion(await read_body(request, service.settings.max_body_bytes))
    _check(service, body)
    prompts = await asyncio.to_thread(_prompt_ids, service, body.prompt)
    completions = [
        service.completion(body, ids, ("max_tokens", body.max_tokens), received) for ids in prompts
    ]
    frame = _Frame(f"cmpl-{uuid.uuid4().hex}", "text_completion", service, body)
    if body.stream:
        return EventStream(_completion_events(service, completions, frame))
    return WatchedReply(lambda: _completion_document(service, completions, frame))


def _check(service: Service, body: ChatBody | CompletionBody) -> None:
    service.check_open()
    service.check_model(body.model)
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "only legal together with stream: true.")


def _chat_ids(service: Service, messages: Sequence[Message]) -> list[int]:
    if service.template is None:
        raise ApiError(400, _NO_TEMPLATE, code="no_chat_template", param="messages")
    turns = []
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        turn = {"role": role, "content": message.content}
        turns.append(turn if message.name is None else {**turn, "name": message.name})
    try:
        text = service.template.render(turns, special_tokens=service.tokenizer.special_tokens)
    except RequestError as error:
        raise ApiError(400, str(error), code="chat_template", param="messages") from error
    return service.tokenizer.encode(text, add_special_tokens=False)


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


class _Frame:
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
        self.usage = Usage()

    def document(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """A whole answer."""
        return {**self._fields, "choices": choices, "usage": self.usage.document()}

    def chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        """A piece of a stream; without choices it is the one that carries the usage."""
        chunk: dict[str, Any] = {**self._fields, "choices": list(choices)}
        if self._fields["object"] == "chat.completion":
            chunk["object"] = "chat.completion.chunk"
        if self.include_usage:
            chunk["usage"] = None if choices else self.usage.document()
        return chunk


async def _whole(service: Service, completion: Completion, usage: Usage) -> tuple[str, str | None]:
    parts = []
    reason = None
    async with contextlib.aclosing(service.deltas(completion, usage)) as deltas:
        async for delta in deltas:
            parts.append(delta.text)
            reason = delta.finish_reason
    return "".join(parts), reason


async def _chat_document(service: Service, completion: Completion, frame: _Frame) -> dict[str, Any]:
    with service.admit(1):
        text, reason = await _whole(service, completion, frame.usage)
    message = {"role": "assistant", "content": text, "refusal": None}
    return frame.document(
        [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}]
    )


async def _chat_events(
    service: Service, completion: Completion, frame: _Frame
) -> AsyncGenerator[dict[str, Any], None]:
    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    with service.admit(1):
        is_first = True
        async with contextlib.aclosing(service.deltas(completion, frame.usage)) as deltas:
            async for delta in deltas:
                if is_first:
                    yield frame.chunk(choice({"role": "assistant", "content": ""}))
                    is_first = False
                if delta.text:
                    yield frame.chunk(choice({"content": delta.text}))
                if delta.finish_reason is not None:
                    yield frame.chunk(choice({}, delta.finish_reason))
        if frame.include_usage:
            yield frame.chunk()


async def _completion_document(
    service: Service, completions: Sequence[Completion], frame: _Frame
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
    service: Service, completions: Sequence[Completion], frame: _Frame
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


def _text_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
