"""KL divergence and top-1 agreement of two models at the same places of a text.

A stored row is float16: 2 bytes for each token of the vocabulary. Rounding moves a log-probability
by at most |log p| / 2048, so most where the probability is least; rows are normalized again when
they are read. Both models' rows are rounded, so that equal rows have a KL of exactly 0, and what
rounding adds shrinks with the difference of the models (`lmrun/evals/README.md`).
"""

import numpy as np
from numpy.typing import NDArray

ROW_TYPE = np.dtype("<f2")
_ROWS_AT_ONCE = 16
"""Rows that are in float64 at a time: 39 MB each way for a vocabulary of 152,000."""


def stored(rows: NDArray[np.float32]) -> NDArray[np.float16]:
    """Rows of log-probabilities [n, V] as they are kept."""
    return rows.astype(ROW_TYPE)


def kl(baseline: NDArray[np.float16], model: NDArray[np.float16]) -> NDArray[np.float64]:
    """KL(baseline ‖ model) of each place, nats, [n]: Σ p (log p − log q) over the vocabulary."""
    found = np.empty(len(baseline), np.float64)
    for start in range(0, len(baseline), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        log_p, log_q = _normalized(baseline[piece]), _normalized(model[piece])
        found[piece] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return found


def _normalized(rows: NDArray[np.float16]) -> NDArray[np.float64]:
    log_p = rows.astype(np.float64)
    highest = log_p.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(log_p - highest).sum(axis=1, keepdims=True))
    normalized: NDArray[np.float64] = log_p - highest - log_sum
    return normalized


def best(rows: NDArray[np.float32]) -> NDArray[np.int32]:
    """The most probable token of each place, before rounding; the lowest id of equals."""
    found: NDArray[np.int32] = rows.argmax(axis=1).astype(np.int32)
    return found
