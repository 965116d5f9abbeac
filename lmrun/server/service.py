"""What every endpoint shares: the engine client, the tokenizer, the counters, the door."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from lmrun import log
from lmrun.engine.client import EngineClient
from lmrun.engine.messages import SamplingParams, Stats
from lmrun.engine.text import CompletionText, TextDelta
from lmrun.errors import EngineError, RequestError
from lmrun.models.chat_template import ChatTemplate
from lmrun.models.tokenizer import Tokenizer
from lmrun.server.bodies import ChatBody, CompletionBody
from lmrun.server.errors import ApiError, draining, engine_down, invalid
from lmrun.server.metrics import Metrics
from lmrun.server.settings import ServerSettings

logger = log.get(__name__)

_RETRY_AFTER_S = 1
_STATS_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Completion:
    """One completion to be run: what the engine gets and what the text layer needs."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    stop: tuple[str, ...]
    is_turn: bool
    """A chat's answer is a text of its own; else the text goes on with the prompt's."""
    received: float
    """`time.monotonic()` when the request came."""


@dataclass
class Usage:
    """Token counts of one request, filled while its completions run."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def document(self) -> dict[str, int | dict[str, int]]:
        """OpenAI's ``usage``."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass
class Outcome:
    """How a completion ended, for the counters; None: it is counted elsewhere."""

    name: str | None = "abort"


@dataclass
class _Door:
    """Completions inside, and whether new ones may enter."""

    active: int = 0
    is_draining: bool = False
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)


class Service:
    """The state of one server process."""

    def __init__(
        self,
        settings: ServerSettings,
        client: EngineClient,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
    ) -> None:
        self.settings = settings
        self.client = client
        self.tokenizer = tokenizer
        self.template = template
        self.metrics = Metrics(lambda: client.last_stats)
        self.created = int(time.time())
        self._door = _Door()

    @property
    def not_ready(self) -> str | None:
        """Why requests are refused now; None when they are not."""
        if self._door.is_draining:
            return "stopping"
        return None if self.client.alive else self.client.reason

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self._door.is_draining = True

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no completion runs; False when the time ran out."""
        deadline = time.monotonic() + timeout_s
        while self._door.active:
            self._door.is_empty.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._door.is_empty.wait()
            except TimeoutError:
                return False
        return True

    async def fresh_stats(self) -> Stats | None:
        """The engine's counters now; the last known when it does not answer soon."""
        with contextlib.suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_STATS_TIMEOUT_S):
                return await self.client.stats()
        return self.client.last_stats

    def check_open(self) -> None:
        """Raises 503 while the server drains or has no engine."""
        if self._door.is_draining:
            raise draining()
        if not self.client.alive:
            raise engine_down(self.client.reason)

    @contextlib.contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Let ``count`` completions in; 503 as `check_open`, 429 when the queue is full."""
        capacity = self.settings.planned.max_num_seqs + self.settings.max_waiting
        if count > capacity:
            raise invalid("prompt", f"{count} prompts at once; this server takes {capacity}.")
        try:
            self.check_open()
        except ApiError:
            self.metrics.requests.labels("refused").inc()
            raise
        if self._door.active + count > capacity:
            self.metrics.requests.labels("refused").inc()
            raise ApiError(
                429,
                f"server: {self._door.active} requests are in progress, the queue is full."
                " Try again later.",
                code="queue_full",
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )
        self._door.active += count
        try:
            yield
        finally:
            self._door.active -= count
            if not self._door.active:
                self._door.is_empty.set()

    def check_model(self, name: str | None) -> None:
        """404 unless the request means the served model; None means it."""
        served = self.settings.served_name
        if name not in (None, served):
            raise ApiError(
                404,
                f"model: {name!r} is not served here. This server serves {served!r}.",
                code="model_not_found",
                param="model",
            )

    def completion(
        self,
        body: ChatBody | CompletionBody,
        prompt_token_ids: list[int] | tuple[int, ...],
        max_tokens: tuple[str, int | None],
        received: float,
    ) -> Completion:
        """Turn a body's sampling fields into a completion.

        ``max_tokens``: the field's name and value; None is the endpoint's own default, which
        yields to the context length. Raises 400 when lengths or ids do not fit.
        """
        defaults = self.tokenizer.defaults
        limit = self._max_tokens(len(prompt_token_ids), max_tokens, defaults.max_new_tokens, body)
        if body.min_tokens is not None and body.min_tokens > limit:
            raise invalid("min_tokens", f"{body.min_tokens} is more than max_tokens, {limit}.")
        temperature = defaults.temperature if body.temperature is None else body.temperature
        top_p = defaults.top_p if body.top_p is None else body.top_p
        top_k = defaults.top_k if body.top_k is None else body.top_k
        return Completion(
            prompt_token_ids=tuple(prompt_token_ids),
            sampling=SamplingParams(
                temperature=1.0 if temperature is None else temperature,
                top_p=1.0 if top_p is None else max(top_p, _LEAST_TOP_P),
                top_k=top_k if top_k is not None and top_k > 0 else None,
                seed=body.seed,
                max_tokens=limit,
                min_tokens=body.min_tokens or 0,
                stop_token_ids=() if body.ignore_eos else self.tokenizer.stop_token_ids,
                logit_bias=self._logit_bias(body.logit_bias or {}),
                logprobs=body.num_logprobs,
            ),
            stop=body.stop,
            is_turn=isinstance(body, ChatBody),
            received=received,
        )

    def _max_tokens(
        self,
        prompt_len: int,
        asked: tuple[str, int | None],
        default: int | None,
        body: ChatBody | CompletionBody,
    ) -> int:
        where = "messages" if isinstance(body, ChatBody) else "prompt"
        context = self.settings.planned.context_length
        room = context - prompt_len
        name, value = asked
        if prompt_len < 1:
            raise invalid(where, "expected at least one token, got none.")
        if room < (0 if value == 0 else 1):
            raise invalid(
                where,
                f"{prompt_len} tokens are too long for the context length of {context} tokens,"
                " prompt and completion together."
                f" Shorten it to at most {context if value == 0 else context - 1}.",
                "context_length_exceeded",
            )
        if value is not None and value > room:
            raise invalid(
                name,
                f"{value} and a prompt of {prompt_len} tokens are more than the context length"
                f" of {context} tokens. Use at most {room}.",
                "context_length_exceeded",
            )
        if value is None and isinstance(body, CompletionBody):
            default = _COMPLETION_MAX_TOKENS
        return value if value is not None else min(room, default or room)

    def _logit_bias(self, bias: dict[str, float]) -> dict[int, float]:
        vocab_size = self.client.ready.vocab_size if self.client.ready else 0
        ids = {}
        for key, value in bias.items():
            if not _is_id(key, vocab_size):
                raise invalid(
                    "logit_bias",
                    f"expected token ids from 0 to {vocab_size - 1} as keys, got {_short(key)}.",
                )
            ids[int(key)] = value
        return ids

    @contextlib.contextmanager
    def counted(self) -> Iterator[Outcome]:
        """Count a completion by how it ended.

        What the engine raises becomes `ApiError`: 400 when it refuses, 503 when it died.
        """
        outcome = Outcome()
        try:
            yield outcome
        except RequestError as error:
            outcome.name = "refused"
            raise ApiError(400, str(error), code="invalid_value") from error
        except EngineError as error:
            outcome.name = "error"
            raise engine_down(str(error).removeprefix("engine: ").rstrip(".")) from error
        finally:
            if outcome.name is not None:
                self.metrics.requests.labels(outcome.name).inc()

    def text_of(self, completion: Completion) -> CompletionText:
        """Turns the engine's events of a completion into text."""
        return CompletionText(
            self.tokenizer.detokenizer(
                after=() if completion.is_turn else completion.prompt_token_ids
            ),
            completion.stop,
            stop_token_ids=completion.sampling.stop_token_ids,
            min_tokens=completion.sampling.min_tokens,
        )

    async def deltas(self, completion: Completion, usage: Usage) -> AsyncGenerator[TextDelta, None]:
        """Run a completion; the last delta has the finish reason. Closing it aborts.

        Raises `ApiError` as `counted` says.
        """
        with self.counted() as outcome:
            stream = self.client.submit(completion.prompt_token_ids, completion.sampling)
            text = self.text_of(completion)
            before: float | None = None
            async with stream:
                async for event in stream:
                    if event.finish_reason in ("error", "abort"):
                        raise EngineError(event.error or "the engine aborted the request")
                    if before is None:
                        self.prompt_done(completion, usage, event.num_cached_tokens)
                    delta = text.push(event)
                    before = self.measure(completion, before, len(delta.token_ids))
                    usage.completion_tokens += len(delta.token_ids)
                    if delta.finish_reason is not None:
                        outcome.name = delta.finish_reason
                        stream.abort()  # a stop string matched: the engine is still running
                    yield delta
                    if delta.finish_reason is not None:
                        return

    def prompt_done(self, completion: Completion, usage: Usage, num_cached_tokens: int = 0) -> None:
        """Count the prompt of a completion, once the engine has computed it."""
        usage.prompt_tokens += len(completion.prompt_token_ids)
        usage.cached_tokens += num_cached_tokens
        self.metrics.prompt_tokens.inc(len(completion.prompt_token_ids))

    def measure(self, completion: Completion, before: float | None, count: int) -> float:
        """Count ``count`` new tokens; ``before`` is what the last call of this completion gave."""
        now = time.monotonic()
        if before is None:
            self.metrics.ttft.observe(now - completion.received)
        for _ in range(count if before is not None else count - 1):
            self.metrics.inter_token_latency.observe((now - (before or now)) / count)
        self.metrics.completion_tokens.inc(count)
        return now


def _is_id(text: str, vocab_size: int) -> bool:
    """Whether ``text`` is the decimal of a token id; thousands of digits are never converted."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS
    return is_number and int(text) < vocab_size


def _short(text: str) -> str:
    return repr(text if len(text) <= _ID_DIGITS else f"{text[:_ID_DIGITS]}…")


_ID_DIGITS = 20
_LEAST_TOP_P = 1e-30
"""Keeps the likeliest token alone; less is 0 in the engine's floats."""
_COMPLETION_MAX_TOKENS = 16
"""OpenAI's default for plain completions."""
