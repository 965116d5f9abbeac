"""The protocol of perplexity, counted by hand."""

import math

import numpy as np
import pytest

from lmrun.evals.perplexity import perplexity, windows


def test_windows_start_with_bos_and_cover_the_text_once() -> None:
    assert windows(range(10, 21), 1, window=4) == [
        [1, 10, 11, 12],
        [1, 13, 14, 15],
        [1, 16, 17, 18],
    ]


def test_the_limit_counts_predicted_tokens() -> None:
    found = windows(list(range(100_000)), 1)
    assert len(found) == 257
    assert sum(len(ids) - 1 for ids in found) == 65535
    assert len(windows(list(range(100)), 1, window=4, limit=7)) == 2


def test_without_bos_the_first_token_of_a_window_is_not_predicted() -> None:
    assert windows(range(10, 21), None, window=4) == [[10, 11, 12, 13], [14, 15, 16, 17]]
    assert len(windows(range(100), None, window=4, limit=7)) == 2


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 255, got 254"):
        windows(range(254), 1)


def test_a_uniform_scorer_has_the_perplexity_of_its_vocabulary() -> None:
    texts = windows(list(range(600)), 1)
    assert perplexity(lambda ids: np.full(len(ids) - 1, -math.log(50)), texts) == pytest.approx(50)


def test_every_token_counts_the_same() -> None:
    rows = {2: [-1.0], 4: [-2.0, -3.0, -4.0]}
    assert perplexity(lambda ids: rows[len(ids)], [[1, 2], [1, 2, 3, 4]]) == pytest.approx(
        math.exp(10 / 4)
    )


@pytest.mark.parametrize("scores", [[-1.0], [-1.0, -1.0, -1.0], [-1.0, float("nan")]])
def test_a_scorer_that_answers_wrongly_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="score: expected"):
        perplexity(lambda ids: scores, [[1, 2, 3]])


def test_no_text_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one window"):
        perplexity(lambda ids: [], [])
