"""Means and standard errors, counted by hand."""

import math

import numpy as np
import pytest

from lmrun.evals.statistics import (
    clustered_standard_error,
    mean,
    percentile,
    standard_error,
)


def test_the_standard_error_divides_the_sample_deviation_by_the_root_of_the_count() -> None:
    values = [1.0, 2.0, 4.0]
    deviation = math.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2)
    assert standard_error(values) == pytest.approx(deviation / math.sqrt(3))


def test_of_shares_it_is_that_of_a_proportion() -> None:
    right = [1.0] * 30 + [0.0] * 70
    assert mean(right) == pytest.approx(0.3)
    assert standard_error(right) == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_one_value_has_no_standard_error() -> None:
    assert standard_error([1.0]) is None
    assert standard_error([]) is None


def test_equal_clusters_count_as_their_means() -> None:
    values = np.random.default_rng(1).normal(0, 1, (12, 20)) + np.arange(12)[:, None]
    means = values.mean(axis=1)
    assert clustered_standard_error(list(values)) == pytest.approx(standard_error(means))
    assert clustered_standard_error(list(values)) > 2 * (standard_error(values.ravel()) or 0)


def test_clusters_of_one_value_are_values() -> None:
    values = [1.0, 2.0, 4.0]
    assert clustered_standard_error([[v] for v in values]) == pytest.approx(standard_error(values))


def test_clusters_of_different_sizes_are_weighed_by_their_values() -> None:
    # Deviations from the mean 2: -1, and 0 + 1.
    assert clustered_standard_error([[1.0], [2.0, 3.0]]) == pytest.approx(math.sqrt(2 * 2) / 3)
    assert clustered_standard_error([[1.0, 2.0]]) is None


def test_the_error_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        shared = rng.normal(0, 1, (40, 1))
        values = shared + rng.normal(0, 1, (40, 15))
        error = clustered_standard_error(list(values))
        assert error is not None
        hits += abs(values.mean()) < 2 * error
    assert 0.92 < hits / 400 < 0.98


def test_the_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one, got none"):
        mean([])


def test_a_percentile_lies_between_two_ranks() -> None:
    assert percentile(np.arange(101, dtype=np.float64), 99) == 99
    assert percentile([0.0, 1.0], 99) == pytest.approx(0.99)
