"""In which words a server takes requests: found out by asking, since dialects differ.

Completions run to their full length, so that levels are alike: ``min_tokens`` (lmrun, vLLM) keeps
the model from ending early, ``ignore_eos`` (lmrun, vLLM, SGLang, llama.cpp) goes on after an end.
A server that knows neither may end earlier, and the report says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from lmrun.bench import prompts
from lmrun.bench.answers import Answer
from lmrun.bench.client import Address, encode
from lmrun.bench.load import Server
from lmrun.bench.prompts import Prompts
from lmrun.errors import StageError

BYTES = range(3, 256)
"""Ids that every vocabulary has; those of bytes, or of single letters, in most."""
REFUSED = (400, 404, 405, 415, 422, 500, 501)
"""Statuses with which a server may turn down a field or a path it does not know."""
ENDPOINTS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
TRIAL_TOKENS = 4
TRIAL_WORDS = (32, 96)
MODELS_S = 30.0

PromptKind = Literal["token ids", "text"]


@dataclass(frozen=True)
class Dialect:
    """One way of asking."""

    endpoint: Literal["completions", "chat"]
    prompt: PromptKind
    extensions: tuple[str, ...]
    """Of ``min_tokens`` and ``ignore_eos``."""
    usage: bool
    """With ``stream_options.include_usage``."""

    @property
    def path(self) -> str:
        """Of the URL."""
        return ENDPOINTS[self.endpoint]

    def body(self, model: str, prompt: Sequence[int] | str, output_tokens: int) -> dict[str, Any]:
        """The JSON of a request."""
        values: Mapping[str, Any] = {"min_tokens": output_tokens, "ignore_eos": True}
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
            **{name: values[name] for name in self.extensions},
        }
        if self.usage:
            body["stream_options"] = {"include_usage": True}
        if self.endpoint == "chat":
            return {**body, "messages": [{"role": "user", "content": prompt}]}
        return {**body, "prompt": prompt if isinstance(prompt, str) else list(prompt)}


BEST = Dialect("completions", "token ids", ("min_tokens", "ignore_eos"), usage=True)
"""What lmrun's own server takes."""


def dialects() -> Iterator[Dialect]:
    """The best first."""
    ways: tuple[tuple[Literal["completions", "chat"], PromptKind], ...] = (
        ("completions", "token ids"),
        ("completions", "text"),
        ("chat", "text"),
    )
    for endpoint, prompt in ways:
        yield Dialect(endpoint, prompt, ("min_tokens", "ignore_eos"), usage=True)
        yield Dialect(endpoint, prompt, ("ignore_eos",), usage=True)
        yield Dialect(endpoint, prompt, (), usage=True)
        yield Dialect(endpoint, prompt, (), usage=False)


@dataclass(frozen=True)
class Asker:
    """Makes the requests of a run, no two of which have a prompt in common."""

    address: Address
    model: str
    dialect: Dialect
    prompts: Prompts
    words: tuple[float, float] = (1.0, 0.0)
    """Of text: tokens a word, and tokens around all of them."""
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1 << 32)))

    def request(self, prompt_tokens: int, output_tokens: int) -> bytes:
        """The next one, encoded."""
        number = next(self.numbers)
        prompt: Sequence[int] | str
        if self.dialect.prompt == "text":
            slope, around = self.words
            count = max(1, round((prompt_tokens - around) / slope))
            prompt = self.prompts.text(number, count)
        else:
            prompt = self.prompts.tokens(number, prompt_tokens)
        body = self.dialect.body(self.model, prompt, output_tokens)
        return encode(self.address, self.dialect.path, body)


@dataclass(frozen=True)
class Model:
    """What a server says it serves."""

    name: str
    context_length: int | None


def model_of(address: Address) -> Model:
    """The first model of `/v1/models`. Raises `StageError` where there is none."""
    headers = {"Authorization": f"Bearer {address.api_key}"} if address.api_key else {}
    try:
        reply = httpx.get(
            f"{address.base_url}/v1/models", headers=headers, timeout=MODELS_S, trust_env=False
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StageError(
            f"{address.base_url}: cannot be reached: {error}. Is the server running?"
        ) from error
    if not reply.is_success:
        key = " Give its key with --api-key." if reply.status_code in (401, 403) else ""
        raise StageError(
            f"{address.base_url}: /v1/models: expected the models, got status"
            f" {reply.status_code}.{key}"
        )
    try:
        entry = reply.json()["data"][0]
        name, longest = str(entry["id"]), entry.get("max_model_len")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise StageError(
            f"{address.base_url}: expected an OpenAI-compatible API, got another answer from"
            " /v1/models."
        ) from None
    return Model(name, longest if type(longest) is int else None)


def ask_how(address: Address, model: str, seed: int, salt: int) -> Asker:
    """How a server that is not known takes requests. Raises `StageError` with what it said."""
    said = ""
    for dialect in dialects():
        asker = _asker(address, model, dialect, seed, salt)
        answer = _tried(asker, TRIAL_WORDS[0])
        if answer.error is None:
            return _calibrated(asker, answer) if dialect.prompt == "text" else asker
        said = said or answer.error
        if answer.status not in REFUSED:
            break
    raise StageError(f"{address.base_url}: takes no request of a bench: {said}")


def _asker(address: Address, model: str, dialect: Dialect, seed: int, salt: int) -> Asker:
    is_text = dialect.prompt == "text"
    made = prompts.of_words(seed, salt) if is_text else Prompts(BYTES, seed, salt)
    return Asker(address, model, dialect, made)


def _tried(asker: Asker, prompt_tokens: int) -> Answer:
    request = asker.request(prompt_tokens, TRIAL_TOKENS)
    return Server(asker.address).closed([request], 1).answers[0]


def _calibrated(asker: Asker, first: Answer) -> Asker:
    """With the tokens that words become, from two prompts; one a word where the server does not
    count them."""
    few, many = TRIAL_WORDS
    second = _tried(asker, many)
    if first.prompt_tokens is None or second.prompt_tokens is None:
        return asker
    slope = (second.prompt_tokens - first.prompt_tokens) / (many - few)
    if slope <= 0:
        return asker
    around = first.prompt_tokens - slope * few
    return Asker(
        asker.address, asker.model, asker.dialect, asker.prompts, (slope, around), asker.numbers
    )
