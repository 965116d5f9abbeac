"""KL divergence and top-1 agreement of two models at the same places of a text.

A stored row is uint16: −log p in steps of 1/1024, up to 64 (p = 1.6e-28, and less). So a stored
log-probability is off by at most 1/2048, whatever its size; rows are normalized again when they are
read. Both models' rows are rounded, so that equal rows have a KL of exactly 0; on average rounding
adds less than 1e-6 nats (`lmrun/evals/README.md`). Float16 takes the same 2 bytes and adds up to
1e-5: most tokens have −log p between 4 and 16, where its steps are 1/256 and 1/128.
"""

import numpy as np
from numpy.typing import NDArray

ROW_TYPE = np.dtype("<u2")
STEPS = 1024
"""In one nat."""
_ROWS_AT_ONCE = 16
"""Rows that are in float64 at a time: 39 MB each way for a vocabulary of 152,000."""


def stored(rows: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Finite rows of log-probabilities [n, V] as they are kept."""
    found: NDArray[np.uint16] = np.empty(rows.shape, ROW_TYPE)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        steps = np.rint(rows[piece] * np.float32(-STEPS))
        found[piece] = np.clip(steps, 0, np.iinfo(ROW_TYPE).max)
    return found


def kl(baseline: NDArray[np.uint16], model: NDArray[np.uint16]) -> NDArray[np.float64]:
    """KL(baseline ‖ model) of each place, nats, [n]: Σ p (log p − log q) over the vocabulary."""
    found = np.empty(len(baseline), np.float64)
    for start in range(0, len(baseline), _ROWS_AT_ONCE):
        piece = slice(start, start + _ROWS_AT_ONCE)
        log_p, log_q = _normalized(baseline[piece]), _normalized(model[piece])
        found[piece] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return found


def _normalized(rows: NDArray[np.uint16]) -> NDArray[np.float64]:
    log_p = rows.astype(np.float64) / -STEPS
    highest = log_p.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(log_p - highest).sum(axis=1, keepdims=True))
    normalized: NDArray[np.float64] = log_p - highest - log_sum
    return normalized


def best(rows: NDArray[np.float32]) -> NDArray[np.int32]:
    """The most probable token of each place, before rounding; the lowest id of equals."""
    found: NDArray[np.int32] = rows.argmax(axis=1).astype(np.int32)
    return found
