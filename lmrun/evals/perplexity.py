"""Perplexity of a text under any scorer.

Protocol: the text is tokenized once, without special tokens; it is cut into pieces of
``window - 1`` tokens, each put behind one BOS; every token after the BOS is predicted from those
before it in its window. Pieces are taken from the start until ``limit`` tokens are predicted; a
last piece that is not full is left out. Perplexity is exp of the mean negative log-probability.
Where the tokenizer has no BOS, pieces have ``window`` tokens and each one's first is not predicted.

With windows of 256 and a limit of 65,535 that is 257 windows of 255 predictions.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

Scorer = Callable[[Sequence[int]], ArrayLike]
"""Token ids → natural log-probability of each next token: one number fewer than ids."""

WINDOW = 256
LIMIT = 65535


def windows(
    token_ids: Sequence[int], bos_token_id: int | None, window: int = WINDOW, limit: int = LIMIT
) -> list[list[int]]:
    """The windows of a text's token ids. `ValueError` where there is not one full window."""
    start = [] if bos_token_id is None else [bos_token_id]
    piece = window - len(start)
    count = min(limit // (window - 1), len(token_ids) // piece)
    if count < 1:
        raise ValueError(f"token_ids: expected at least {piece}, got {min(limit, len(token_ids))}.")
    return [[*start, *token_ids[i * piece : (i + 1) * piece]] for i in range(count)]


def perplexity(score: Scorer, texts: Iterable[Sequence[int]]) -> float:
    """exp of the mean negative log-probability of every token after the first of its window."""
    total, count = 0.0, 0
    for ids in texts:
        logprobs = np.asarray(score(ids), np.float64)
        if logprobs.shape != (len(ids) - 1,):
            raise ValueError(
                f"score: expected {len(ids) - 1} log-probabilities, got shape {logprobs.shape}."
            )
        if not np.isfinite(logprobs).all():
            raise ValueError("score: expected finite log-probabilities, got NaN or infinity.")
        total -= float(logprobs.sum())
        count += len(logprobs)
    if count == 0:
        raise ValueError("texts: expected at least one window, got none.")
    return math.exp(total / count)
