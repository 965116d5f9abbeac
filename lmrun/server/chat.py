"""POST /v1/chat/completions."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lmrun.engine.text import TextDelta
from lmrun.errors import RequestError
from lmrun.models.tool_calls import FORMATS, ToolCall, ToolCallStream, ToolFormat, find_format
from lmrun.models.tools import turn_for_template
from lmrun.server.bodies import ChatBody, parse_chat
from lmrun.server.errors import ApiError, invalid
from lmrun.server.frame import Frame, check, read_body
from lmrun.server.logprobs import TokenLogprob, chat_logprobs, of_delta
from lmrun.server.replies import EventStream, WatchedReply
from lmrun.server.service import Completion, Service
from lmrun.server.tools import for_template

_NO_TEMPLATE = (
    "messages: this model has no chat template. Set model.chat_template to a Jinja file or a"
    " named template when it is launched, or send the text to /v1/completions."
)
_NO_FORMAT = (
    "this model's chat template writes tool calls in no format that is built yet. Formats:"
    f" {', '.join(known.name for known in FORMATS)}."
)


async def chat(service: Service, request: Request) -> Response:
    """POST /v1/chat/completions."""
    received = time.monotonic()
    body = parse_chat(await read_body(request, service.settings.max_body_bytes))
    check(service, body)
    asked: tuple[str, int | None] = ("max_tokens", body.max_tokens)
    if body.max_completion_tokens is not None:
        if body.max_tokens not in (None, body.max_completion_tokens):
            raise invalid("max_tokens", "differs from max_completion_tokens. Send one of them.")
        asked = ("max_completion_tokens", body.max_completion_tokens)
    tool_format = _tool_format(service, body)
    ids = await asyncio.to_thread(_prompt_ids, service, body)
    turn = _Turn(
        service,
        service.completion(body, ids, asked, received),
        tool_format,
        is_single_call=body.parallel_tool_calls is False,
    )
    frame = Frame(f"chatcmpl-{uuid.uuid4().hex}", "chat.completion", service, body)
    if body.stream:
        return EventStream(_events(turn, frame))
    return WatchedReply(lambda: _document(turn, frame))


def _tool_format(service: Service, body: ChatBody) -> ToolFormat | None:
    """How calls are read from the answer; None where no tools are offered."""
    if service.template is None:
        raise ApiError(400, _NO_TEMPLATE, code="no_chat_template", param="messages")
    if not body.offered:
        return None
    found = find_format(service.template.source)
    if found is None:
        raise invalid("tools", _NO_FORMAT, "not_built")
    return found


def _prompt_ids(service: Service, body: ChatBody) -> list[int]:
    assert service.template is not None  # `_tool_format` has checked
    try:
        text = service.template.render(
            [turn_for_template(message.model_dump(exclude_none=True)) for message in body.messages],
            tools=for_template(body.offered),
            special_tokens=service.tokenizer.special_tokens,
        )
    except RequestError as error:
        raise ApiError(400, str(error), code="chat_template", param="messages") from error
    return service.tokenizer.encode(text, add_special_tokens=False)


@dataclass(frozen=True)
class _Turn:
    """The answer that is being written."""

    service: Service
    completion: Completion
    tool_format: ToolFormat | None
    is_single_call: bool
    tokens: list[TokenLogprob] = field(default_factory=list)
    """Of what was not taken yet, where log-probabilities were asked for."""

    def take_logprobs(self) -> dict[str, Any] | None:
        """``logprobs`` of the tokens since the last time; None where there are none."""
        if self.completion.sampling.logprobs is None:
            return None
        taken = chat_logprobs(self.service.tokenizer, self.tokens)
        self.tokens.clear()
        return taken

    def _add(self, delta: TextDelta) -> None:
        sampling = self.completion.sampling
        if sampling.logprobs is None:
            return
        tokens = of_delta(delta, [0] * len(delta.token_ids))
        if delta.finish_reason == "stop" and tokens[-1:]:
            is_end = tokens[-1].token_id in sampling.stop_token_ids
            tokens = tokens[:-1] if is_end else tokens  # it is no part of the content
        self.tokens.extend(tokens)

    async def parts(self, frame: Frame) -> AsyncGenerator[str | ToolCall | None, None]:
        """Text and calls as they are complete; None first, once the model has begun.

        The finish reason is left in ``frame``.
        """
        calls = ToolCallStream(self.tool_format) if self.tool_format else None
        is_first = True
        async with contextlib.aclosing(self.service.deltas(self.completion, frame.usage)) as deltas:
            async for delta in deltas:
                if is_first:
                    yield None
                    is_first = False
                self._add(delta)
                for part in _split(calls, delta):
                    yield part
                    if isinstance(part, ToolCall) and self.is_single_call:
                        frame.finish_reason = "tool_calls"
                        return  # closing the deltas aborts what would follow
                frame.finish_reason = delta.finish_reason
        if calls is not None and calls.num_calls and frame.finish_reason == "stop":
            frame.finish_reason = "tool_calls"


def _split(calls: ToolCallStream | None, delta: TextDelta) -> list[str | ToolCall]:
    if calls is None:
        return [delta.text] if delta.text else []
    parts = calls.push(delta.text)
    return parts if delta.finish_reason is None else [*parts, *calls.finish()]


async def _document(turn: _Turn, frame: Frame) -> dict[str, Any]:
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    with turn.service.admit(1):
        async with contextlib.aclosing(turn.parts(frame)) as parts:
            async for part in parts:
                if isinstance(part, ToolCall):
                    calls.append(_call(part))
                elif part is not None:
                    texts.append(part)
    content = "".join(texts)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message |= {"content": content or None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "logprobs": turn.take_logprobs()}
    return frame.document([{**choice, "finish_reason": frame.finish_reason}])


async def _events(turn: _Turn, frame: Frame) -> AsyncGenerator[dict[str, Any], None]:
    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        logprobs = turn.take_logprobs() if turn.tokens else None
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    num_calls = 0
    with turn.service.admit(1):
        async with contextlib.aclosing(turn.parts(frame)) as parts:
            async for part in parts:
                if part is None:
                    yield frame.chunk(choice({"role": "assistant", "content": ""}))
                elif isinstance(part, str):
                    yield frame.chunk(choice({"content": part}))
                else:
                    call = {"index": num_calls, **_call(part)}
                    yield frame.chunk(choice({"tool_calls": [call]}))
                    num_calls += 1
        yield frame.chunk(choice({}, frame.finish_reason))
        if frame.include_usage:
            yield frame.chunk()


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
