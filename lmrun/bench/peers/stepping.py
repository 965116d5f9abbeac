"""The loads of `lmrun bench engine`, put on any engine that takes requests and makes steps.

Imports nothing of lmrun: the Python of a peer's virtual environment runs it too, so that every
engine of this kind is driven and timed by the same lines.
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

SHORT_PROMPT = 8
"""Tokens of a prompt where the context is to be empty."""
WARM_UP_TOKENS = 4


class Stepper(Protocol):
    """An engine."""

    vocab_size: int
    step_tokens: int
    """Token budget of a step."""

    def submit(self, request_id: int, prompt: list[int], max_tokens: int) -> None:
        """Queue a completion of exactly so many tokens, greedy."""

    def step(self) -> dict[int, int]:
        """Make a step; request → tokens it got."""

    def abort(self, request_id: int) -> None:
        """End a request."""

    def has_work(self) -> bool:
        """Whether a request is open."""


def run(stepper: Stepper, job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job: `decode` (batches, contexts, new_tokens), `prefill` (lengths), `trace` (arrivals:
    seconds, prompt tokens, new tokens), `start` (new_tokens)."""
    kind = job["do"]
    if kind == "decode":
        _warm_up(stepper)
        return {
            "decode": [
                decode(stepper, batch, context, job["new_tokens"])
                for batch in job["batches"]
                for context in job["contexts"]
            ]
        }
    if kind == "prefill":
        _warm_up(stepper)
        return {"prefill": [prefill(stepper, length) for length in job["lengths"]]}
    if kind == "trace":
        _warm_up(stepper)
        return {"trace": trace(stepper, job["arrivals"])}
    return {"start": start(stepper, job["new_tokens"])}


def prompt(vocab_size: int, number: int, length: int) -> list[int]:
    """The first tokens of a stream that has this number; no other stream begins so."""
    stream = random.Random(number)
    return [stream.randrange(3, vocab_size) for _ in range(length)]


def decode(stepper: Stepper, batch: int, context: int, new_tokens: int) -> dict[str, Any]:
    """Steps in which ``batch`` sequences get a token each, after ``context`` tokens of each.

    A longer context of the same stream goes on where a prefix cache left a shorter one.
    """
    length = max(context, SHORT_PROMPT)
    spare = batch * -(-length // stepper.step_tokens) + 2
    waiting = set(range(batch))
    for number in range(batch):
        stream = prompt(stepper.vocab_size, 1000 + number, length)
        stepper.submit(number, stream, new_tokens + spare)
    while waiting:
        waiting -= stepper.step().keys()
    begin = time.perf_counter()
    tokens = sum(sum(stepper.step().values()) for _ in range(new_tokens))
    seconds = time.perf_counter() - begin
    for number in range(batch):
        stepper.abort(number)
    _drain(stepper)
    return {
        "batch": batch,
        "context": context,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
    }


def prefill(stepper: Stepper, length: int) -> dict[str, Any]:
    """A prompt of so many tokens, until its first token is there."""
    stream = prompt(stepper.vocab_size, 2000 + length, length)
    begin = time.perf_counter()
    stepper.submit(0, stream, 1)
    while not stepper.step():
        pass
    seconds = time.perf_counter() - begin
    _drain(stepper)
    return {"length": length, "seconds": seconds, "tokens_per_s": length / seconds}


def trace(stepper: Stepper, arrivals: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Requests that come at their time, whatever is open."""
    wanted = [(at, int(length), int(new)) for at, length, new in arrivals]
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    tokens = dict.fromkeys(range(len(wanted)), 0)
    begin, next_one, most_open = time.perf_counter(), 0, 0
    while next_one < len(wanted) or stepper.has_work():
        now = time.perf_counter() - begin
        while next_one < len(wanted) and wanted[next_one][0] <= now:
            _, length, new = wanted[next_one]
            stepper.submit(next_one, prompt(stepper.vocab_size, 3000 + next_one, length), new)
            next_one += 1
        if not stepper.has_work():
            time.sleep(max(0.0, wanted[next_one][0] - now))
            continue
        got = stepper.step()
        now = time.perf_counter() - begin
        for number, count in got.items():
            first.setdefault(number, now)
            last[number] = now
            tokens[number] += count
        most_open = max(most_open, len(got))
    seconds = time.perf_counter() - begin
    gaps = [(last[n] - first[n], tokens[n] - 1) for n in first if tokens[n] > 1]
    return {
        "requests": len(wanted),
        "prompt_tokens": sum(length for _, length, _ in wanted),
        "tokens": sum(tokens.values()),
        "seconds": seconds,
        "tokens_per_s": sum(tokens.values()) / seconds,
        "ttft_s": sorted(first[n] - wanted[n][0] for n in first),
        "itl_s": sum(gap for gap, _ in gaps) / max(1, sum(count for _, count in gaps)),
        "largest_step": most_open,
    }


def start(stepper: Stepper, new_tokens: int) -> dict[str, Any]:
    """A first token, and some after it."""
    stepper.submit(0, prompt(stepper.vocab_size, 1, SHORT_PROMPT), new_tokens)
    while not stepper.step():
        pass
    first = time.time()
    _drain(stepper)
    return {"first_token_at": first}


def _warm_up(stepper: Stepper) -> None:
    stepper.submit(0, prompt(stepper.vocab_size, 0, SHORT_PROMPT), WARM_UP_TOKENS)
    _drain(stepper)


def _drain(stepper: Stepper) -> None:
    while stepper.has_work():
        stepper.step()
