"""A client of the OpenAI-compatible API, as far as the page and the terminal chat need it.

Closing the stream of a reply, by leaving its context or cancelling the task that reads it, is how
a request is aborted: the server sees the connection go and frees what it held.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from lmrun.errors import RequestError

CONNECT_S = 10.0
NO_TEMPLATE = "no_chat_template"


class NoChatTemplateError(RequestError):
    """The model cannot chat; its text can still be completed."""


@dataclass(frozen=True)
class Sampling:
    """Sampling params of a request; None leaves the choice to the server."""

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def fields(self) -> dict[str, float | int]:
        """The fields to send: those that are set."""
        values = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Message:
    """One turn: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Delta:
    """A piece of a reply. The last ones carry the finish reason and the number of tokens."""

    text: str = ""
    finish_reason: str | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Api:
    """Where the API is and which model is asked. `base_url` has no path."""

    base_url: str
    model: str
    api_key: str | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A connection pool; proxies of the environment are not used."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        async with httpx.AsyncClient(
            base_url=self.base_url,
            headers=headers,
            timeout=httpx.Timeout(CONNECT_S, read=None),
            trust_env=False,
        ) as client:
            yield client

    async def models(self) -> list[str]:
        """Names of the models served. Raises `RequestError`."""
        async with self.client() as client:
            try:
                response = await client.get("/v1/models")
            except httpx.HTTPError as error:
                raise RequestError(_unreachable(self.base_url, error)) from None
            if response.status_code != httpx.codes.OK:
                raise refusal(response.status_code, response.content)
            try:
                return [str(entry["id"]) for entry in response.json()["data"]]
            except (ValueError, LookupError, TypeError):
                raise RequestError(
                    f"{self.base_url}: expected an OpenAI-compatible API, got another answer from"
                    " /v1/models."
                ) from None

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """The reply to a conversation, piece by piece.

        Raises `NoChatTemplateError` or another `RequestError`, fully worded.
        """
        body = {
            "messages": [{"role": part.role, "content": part.content} for part in messages],
            **sampling.fields(),
        }
        async for delta in self._stream("/v1/chat/completions", body):
            yield delta

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """The continuation of a text, piece by piece. Raises `RequestError`."""
        body = {"prompt": prompt, **sampling.fields()}
        async for delta in self._stream("/v1/completions", body):
            yield delta

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Delta, None]:
        document = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **body,
        }
        finished = False
        async with self.client() as client:
            try:
                async with client.stream("POST", path, json=document) as response:
                    if response.status_code != httpx.codes.OK:
                        raise refusal(response.status_code, await response.aread())
                    async for data in _events(response):
                        delta = delta_of(data)
                        finished = finished or delta.finish_reason is not None
                        yield delta
            except httpx.HTTPError as error:
                raise RequestError(_unreachable(self.base_url, error)) from None
        if not finished:
            raise RequestError("The reply broke off: the connection was closed before its end.")


async def _events(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """Data of the server-sent events up to ``[DONE]``."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            document = json.loads(data)
        except ValueError:
            raise RequestError(f"The server sent an event that is not JSON: {data[:80]}") from None
        if "error" in document:
            raise RequestError(_message(document) or "The server ended the reply with an error.")
        yield document


def delta_of(document: dict[str, Any]) -> Delta:
    """The piece of a reply in one event; `RequestError` where the event is its failure."""
    usage = document.get("usage") or {}
    choices = document.get("choices") or []
    if not choices:
        return Delta(completion_tokens=usage.get("completion_tokens"))
    choice = choices[0]
    text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
    reason = choice.get("finish_reason")
    if reason == "error":
        raise RequestError(_message(choice) or "The engine ended the reply with an error.")
    return Delta(text or "", reason, usage.get("completion_tokens"))


def refusal(status: int, content: bytes) -> RequestError:
    """The error that an answer other than success stands for."""
    try:
        document = json.loads(content)
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    text = _message(document) or f"The server answered with status {status}."
    detail = document.get("error")
    if isinstance(detail, dict) and detail.get("code") == NO_TEMPLATE:
        return NoChatTemplateError(text)
    return RequestError(text)


def _message(document: dict[str, Any]) -> str | None:
    detail = document.get("error", document.get("message"))
    if isinstance(detail, dict):
        detail = detail.get("message")
    return detail if isinstance(detail, str) and detail else None


def _unreachable(base_url: str, error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"{base_url}: cannot be reached. Is the deployment running?"
    return f"{base_url}: the connection was lost ({type(error).__name__})."
