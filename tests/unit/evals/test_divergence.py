"""KL divergence of stored rows, against float64 rows that were never rounded."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lmrun.evals import divergence


def rows(seed: int, places: int, vocab: int, spread: float) -> NDArray[np.float64]:
    """Log-probabilities of random logits."""
    logits = np.random.default_rng(seed).normal(0, spread, (places, vocab))
    return normalized(logits)


def normalized(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def stored(exact: NDArray[np.float64]) -> NDArray[np.uint16]:
    return divergence.stored(exact.astype(np.float32))


def test_a_known_pair_of_distributions() -> None:
    p = np.log([[0.5, 0.25, 0.25]])
    q = np.log([[0.25, 0.25, 0.5]])
    expected = 0.5 * np.log(2) - 0.25 * np.log(2)
    assert divergence.kl(stored(p), stored(q))[0] == pytest.approx(expected, rel=1e-3)
    assert divergence.kl(stored(q), stored(q))[0] == 0.0


@pytest.mark.parametrize("spread", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("difference", [0.003, 0.03, 0.3])
def test_what_rounding_adds_is_small_beside_the_divergence(
    spread: float, difference: float
) -> None:
    places, vocab = 200, 1000
    p = rows(1, places, vocab, spread)
    noise = np.random.default_rng(2).normal(0, difference, p.shape)
    q = normalized(p + noise)
    exact = (np.exp(p) * (p - q)).sum(axis=1)
    found = divergence.kl(stored(p), stored(q))
    # First order in the rounding of p and of q by at most half a step each (normalized again: twice
    # that): |error| ≤ Σ (p·|log p/q| + |q − p|) / 1024. Second order: each rounding against itself.
    first = (np.exp(p) * np.abs(p - q) + np.abs(np.exp(q) - np.exp(p))).sum(axis=1) / 1024
    assert (np.abs(found - exact) <= first + 1024.0**-2).all()
    # On average signs cancel.
    assert found.mean() == pytest.approx(exact.mean(), rel=1e-3, abs=5e-7)


@pytest.mark.parametrize("spread", [0.01, 0.5, 2.0, 6.0])
def test_a_stored_log_probability_is_off_by_half_a_step_at_most(spread: float) -> None:
    exact = rows(3, 20, 5000, spread).astype(np.float32)
    read = divergence.stored(exact).astype(np.float64) / -1024
    assert np.abs(read - exact).max() <= 1 / 2048 + 1e-6


def test_the_smallest_probabilities_are_kept_as_the_smallest_there_is() -> None:
    assert divergence.stored(np.array([[0.0, -63.9, -64.0, -1000.0]], np.float32)).tolist() == [
        [0, 65434, 65535, 65535]
    ]


def test_rows_come_out_the_same_in_pieces() -> None:
    p, q = stored(rows(1, 50, 300, 3)), stored(rows(2, 50, 300, 3))
    whole = divergence.kl(p, q)
    parts = [divergence.kl(p[i : i + 7], q[i : i + 7]) for i in range(0, 50, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_the_best_token_is_chosen_before_rounding() -> None:
    close = np.array([[-1.0, -0.9999, -5.0]], np.float32)
    assert stored(close.astype(np.float64))[0, 0] == stored(close.astype(np.float64))[0, 1]
    assert divergence.best(close).tolist() == [1]
    assert divergence.best(np.array([[-1.0, -1.0]], np.float32)).tolist() == [0]
