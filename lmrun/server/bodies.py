"""The request bodies: what is accepted, what is refused and in which words.

Nothing is accepted and ignored: an unknown field is an error, a known field that is not built yet
is legal at the values that ask for nothing.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lmrun.server.errors import ApiError, invalid
from lmrun.server.tools import Tool

_MAX_STOP = 16
MAX_LOGPROBS = 20
"""Alternatives that may be asked for beside a token."""
_Body = TypeVar("_Body", bound=BaseModel)

_NOT_BUILT: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "prompt_logprobs": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Known field → values that ask for nothing, beside null, "", [] and {}."""

_INSTEAD: Mapping[str, str] = {
    "prompt_logprobs": "Send echo: true and logprobs: 0 to /v1/completions, which scores the prompt"
    " too; max_tokens: 0 scores it alone.",
}
"""Known field that is not built yet → what to send instead, where something does."""

_CHAT_NOT_BUILT: Mapping[str, tuple[Any, ...]] = {
    **_NOT_BUILT,
    "audio": (),
    "function_call": ("none",),
    "functions": (),
    "modalities": (["text"],),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_COMPLETION_NOT_BUILT: Mapping[str, tuple[Any, ...]] = {
    **_NOT_BUILT,
    "best_of": (1,),
    "suffix": (),
}
_TOKENIZE_NOT_BUILT: Mapping[str, tuple[Any, ...]] = {"messages": ()}
_MESSAGE_NOT_BUILT: Mapping[str, tuple[Any, ...]] = {
    "annotations": (),
    "audio": (),
    "function_call": (),
    "refusal": (),
}
_ONLY_ROLE: Mapping[str, str] = {"tool_calls": "assistant", "tool_call_id": "tool"}
"""Field of a message → the one role that may have it, unless it asks for nothing."""


def _text(value: object) -> object:
    """A message's content: a string, or text parts, joined by newlines."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("expected a string or a list of text parts")
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise ValueError(f'part {index}: expected an object such as {{"type": "text", ...}}')
        if part["type"] != "text":
            raise ValueError(
                f"part {index}: type {part['type']!r} is not built yet; use 'text' parts only"
            )
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise ValueError(f"part {index}: expected exactly `type` and `text`, a string")
        texts.append(part["text"])
    return "\n".join(texts)


def _strings(value: object) -> object:
    """`stop`: a string or several."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise ValueError("expected a string or a list of strings, none of them empty")
    if len(values) > _MAX_STOP:
        raise ValueError(f"expected at most {_MAX_STOP} strings, got {len(values)}")
    return tuple(values)


def _prompts(value: object) -> object:
    """`prompt`: a string, strings, token ids, or lists of token ids; always a tuple of prompts."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(isinstance(v, str) for v in value):
            return tuple(value)
        if _are_ids(value):
            return (tuple(value),)
        if all(isinstance(v, list) and _are_ids(v) for v in value):
            return tuple(tuple(v) for v in value)
    raise ValueError(
        "expected a string, a list of strings, a list of token ids, or a list of such lists,"
        " none of them empty"
    )


def _logprobs(value: object) -> object:
    """`logprobs` of a plain completion: how many alternatives beside each token."""
    if value is None or value is False:
        return None
    if type(value) is not int or not 0 <= value <= MAX_LOGPROBS:
        raise ValueError(f"expected an integer from 0 to {MAX_LOGPROBS}, got {value!r:.80}")
    return value


def _tool_choice(value: object) -> object:
    if value == "required" or isinstance(value, dict):
        raise ValueError("a forced call is not built yet. Send auto or none")
    return value


def _are_ids(value: list[object]) -> bool:
    return bool(value) and all(type(v) is int and v >= 0 for v in value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    """``include_usage``: one more chunk, without choices, carries the usage.

    ``continuous_usage_stats``, as with vLLM: each chunk carries the usage so far.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Literal[False] | None = None


class CalledFunction(_Strict):
    """``arguments`` is what the model wrote: JSON, as text."""

    name: str
    arguments: str


class CallOfTurn(_Strict):
    """A tool call of an earlier turn, as it was answered."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(_Strict):
    """One turn; ``developer`` is rendered as ``system``.

    ``tool`` and ``environment`` carry the result of a call. An assistant's turn may be without
    content; it is empty then.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "environment"]
    content: Annotated[str, BeforeValidator(_text)]
    name: str | None = None
    tool_calls: list[CallOfTurn] | None = None
    tool_call_id: str | None = None


class _Sampling(_Strict):
    """The fields that chat and plain completions share."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**63, description="0 and -1 switch it off")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    stop: Annotated[tuple[str, ...], BeforeValidator(_strings)] = ()
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    ignore_eos: bool | None = Field(None, description="run past the end-of-sequence ids")
    user: str | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ChatBody(_Sampling):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    tools: list[Tool] | None = None
    tool_choice: Annotated[Literal["auto", "none"] | None, BeforeValidator(_tool_choice)] = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description="with `logprobs`")

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives that are told beside each token; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model may call."""
        return () if self.tool_choice == "none" else tuple(self.tools or ())


class CompletionBody(_Sampling):
    """POST /v1/completions."""

    prompt: Annotated[tuple[str | tuple[int, ...], ...], BeforeValidator(_prompts)]
    max_tokens: int | None = Field(None, ge=0, description="0, with `echo`, computes none")
    echo: bool | None = Field(None, description="the text begins with the prompt")
    logprobs: Annotated[int | None, BeforeValidator(_logprobs)] = Field(
        None, description="of each token, and of so many alternatives; of the prompt's with `echo`"
    )

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives that are told beside each token; None: no log-probabilities."""
        return self.logprobs


class TokenizeBody(_Strict):
    """POST /tokenize."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool = Field(True, description="BOS and EOS as the tokenizer adds them")
    return_token_strs: bool | None = None


class DetokenizeBody(_Strict):
    """POST /detokenize."""

    tokens: list[Annotated[int, Field(ge=0)]]
    model: str | None = None


def parse_tokenize(data: bytes) -> TokenizeBody:
    """Raises `ApiError` 400 naming the first field that is wrong."""
    return _validate(TokenizeBody, _without_noops(_decode(data), _TOKENIZE_NOT_BUILT, ""))


def parse_detokenize(data: bytes) -> DetokenizeBody:
    """Raises `ApiError` 400 naming the first field that is wrong."""
    return _validate(DetokenizeBody, _decode(data))


def parse_chat(data: bytes) -> ChatBody:
    """Raises `ApiError` 400 naming the first field that is wrong."""
    document = _decode(data)
    document = _without_noops(document, _CHAT_NOT_BUILT, "")
    messages = document.get("messages")
    if isinstance(messages, list):
        document["messages"] = [
            _message(message, f"messages[{index}].") if isinstance(message, dict) else message
            for index, message in enumerate(messages)
        ]
    body = _validate(ChatBody, document)
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs", "only legal together with logprobs: true.")
    return body


def parse_completion(data: bytes) -> CompletionBody:
    """Raises `ApiError` 400 naming the first field that is wrong."""
    document = _without_noops(_decode(data), _COMPLETION_NOT_BUILT, "")
    body = _validate(CompletionBody, document)
    if body.max_tokens == 0 and not body.echo:
        raise invalid(
            "max_tokens",
            "0 is only legal together with echo: true, where the prompt alone comes back."
            " Use at least 1.",
        )
    return body


def _decode(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, f"body: expected JSON: {error}.", code="invalid_json") from error
    if not isinstance(document, dict):
        raise ApiError(
            400,
            f"body: expected a JSON object, got {type(document).__name__}.",
            code="invalid_json",
        )
    return document


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    role = message.get("role")
    if role == "function":
        raise invalid(f"{where}role", "'function' messages are not built yet.", "not_built")
    kept = _without_noops(message, _MESSAGE_NOT_BUILT, where)
    for name, only in _ONLY_ROLE.items():
        if role != only and not _asks_for_nothing(kept.pop(name, None), ()):
            raise invalid(f"{where}{name}", f"only legal in a message of role {only!r}.")
    if role == "assistant" and kept.get("content") is None:
        kept["content"] = ""
    return kept


def _without_noops(
    document: dict[str, Any], not_built: Mapping[str, tuple[Any, ...]], where: str
) -> dict[str, Any]:
    kept = {}
    for name, value in document.items():
        if name not in not_built:
            kept[name] = value
        elif not _asks_for_nothing(value, not_built[name]):
            legal = " or ".join(msgspec.json.encode(v).decode() for v in not_built[name])
            hint = f"Leave it out{f', or send {legal}' if legal else ''}."
            raise invalid(where + name, f"not built yet. {_INSTEAD.get(name, hint)}", "not_built")
    return kept


def _asks_for_nothing(value: object, values: tuple[object, ...]) -> bool:
    if value is None or (isinstance(value, str | list | dict) and not value):
        return True
    return any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in values)


def _validate(kind: type[_Body], document: dict[str, Any]) -> _Body:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    where = ""
    for part in first["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else part
    if first["type"] == "extra_forbidden":
        names = [*kind.model_fields, *(_CHAT_NOT_BUILT if kind is ChatBody else ())]
        close = difflib.get_close_matches(where, names, 1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise invalid(where, f"unknown field.{hint}", "unknown_field")
    if first["type"] == "missing":
        raise invalid(where, "required.", "missing_field")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] not in ("value_error",):
        got = repr(first["input"])
        message = f"expected {message}, got {got[:80]}{'…' if len(got) > 80 else ''}"
    raise invalid(where, f"{message}.")
