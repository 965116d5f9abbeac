"""Means and their standard errors, in float64 and in the order of the items."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


def mean(values: Values) -> float:
    """`ValueError` for none."""
    if len(values) == 0:
        raise ValueError("values: expected at least one, got none.")
    return float(np.mean(np.asarray(values, np.float64)))


def standard_error(values: Values) -> float | None:
    """Of the mean: sample standard deviation over √n, as lm-eval's `mean_stderr`; None for fewer
    than two. Values count as independent of each other."""
    if len(values) < 2:
        return None
    return float(np.std(np.asarray(values, np.float64), ddof=1)) / math.sqrt(len(values))


def percentile(values: Values, percent: float) -> float:
    """Linear between the two nearest ranks."""
    return float(np.percentile(np.asarray(values, np.float64), percent))
