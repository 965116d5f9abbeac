"""Means and standard errors, counted by hand."""

import math

import numpy as np
import pytest

from lmrun.evals.statistics import mean, percentile, standard_error


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


def test_the_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one, got none"):
        mean([])


def test_a_percentile_lies_between_two_ranks() -> None:
    assert percentile(np.arange(101, dtype=np.float64), 99) == 99
    assert percentile([0.0, 1.0], 99) == pytest.approx(0.99)
