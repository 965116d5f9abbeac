"""Random schedules of submits and aborts on one engine, each token held against a run alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmrun._engine import Engine

VOCABULARY = 101
MOST_TOKENS = 40
NUM_REQUESTS = 12
"""Different ones; a schedule may submit each many times."""


def prompt_of(kind: int) -> list[int]:
    """Of 1 to 58 tokens; kinds of one family begin with the same 33."""
    family = np.random.default_rng(kind % 3).integers(0, VOCABULARY, 33)
    own = np.random.default_rng(100 + kind).integers(0, VOCABULARY, 1 + 7 * kind % 25)
    parts = [own] if kind % 4 == 0 else [family, own]
    return [int(token) for token in np.concatenate(parts)]


def submit(engine: Engine, request_id: int, kind: int, max_tokens: int) -> None:
    """Queue a request of a kind: even ones are greedy, odd ones sampled with their own seed."""
    is_sampled = kind % 2 == 1
    engine.submit(
        request_id,
        prompt_of(kind),
        temperature=1.0 if is_sampled else 0.0,
        top_k=20 if kind % 3 == 0 else None,
        top_p=0.9 if is_sampled else 1.0,
        seed=kind,
        max_tokens=max_tokens,
        min_tokens=0,
        stop_token_ids=[],
        logit_bias={},
        logprobs=None,
    )


def tokens_alone(make: Callable[..., Engine]) -> list[list[int]]:
    """The `MOST_TOKENS` tokens of each kind, each on an engine of its own with one thread."""
    expected = []
    for kind in range(NUM_REQUESTS):
        engine = make(threads=1, prefix_caching=False)
        submit(engine, 0, kind, MOST_TOKENS)
        expected.append([token for output in _steps(engine) for token in output.token_ids])
    return expected


def _steps(engine: Engine) -> Iterator[Any]:
    while engine.has_work():
        yield from engine.step()


@dataclass
class Running:
    """One engine under a schedule. Every step is followed by the engine's own check."""

    engine: Engine
    expected: list[list[int]]
    """`tokens_alone` of the same ISA and numeric settings."""
    open: dict[int, tuple[int, int, list[int]]] = field(default_factory=dict)
    """Id → (kind, max_tokens, tokens so far)."""
    aborted: set[int] = field(default_factory=set)
    num_ended: int = 0
    _next_id: int = 0

    def submit(self, kind: int, max_tokens: int) -> None:
        """One more request."""
        submit(self.engine, self._next_id, kind, max_tokens)
        self.open[self._next_id] = (kind, max_tokens, [])
        self._next_id += 1

    def abort(self, which: int) -> None:
        """Abort one of the open requests, if there are any; twice is harmless."""
        if self.open:
            request_id = list(self.open)[which % len(self.open)]
            self.engine.abort(request_id)
            self.aborted.add(request_id)

    def step(self) -> None:
        """One step; its tokens continue those of the run alone."""
        for output in self.engine.step():
            kind, max_tokens, tokens = self.open[output.id]
            tokens += output.token_ids
            assert tokens == self.expected[kind][: len(tokens)], (output.id, kind)
            if output.finish_reason is not None:
                if output.finish_reason == "abort":
                    assert output.id in self.aborted
                else:
                    assert (output.finish_reason, len(tokens)) == ("length", max_tokens)
                self.aborted.discard(output.id)
                del self.open[output.id]
                self.num_ended += 1
        self.engine.check()

    def drain(self) -> None:
        """To the end: every request has ended and every block is free."""
        while self.engine.has_work():
            self.step()
        assert not self.open
        stats = self.engine.stats()
        assert (stats["used_blocks"], stats["running"], stats["waiting"]) == (0, 0, 0)
