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


def clustered_standard_error(clusters: Sequence[Values]) -> float | None:
    """Of the mean over all values, where values of one cluster may depend on each other and those
    of different ones do not; None for fewer than two clusters.

    √(g/(g − 1) · Σ(sum of a cluster's deviations from the mean)²) / n for g clusters of n values in
    all; for clusters of one value each that is `standard_error` (Cameron and Miller, "A
    Practitioner's Guide to Cluster-Robust Inference", 2015, section II).
    """
    if len(clusters) < 2:
        return None
    arrays = [np.asarray(cluster, np.float64) for cluster in clusters]
    values = np.concatenate(arrays)
    middle = mean(values)
    sums = np.array([float(np.sum(cluster - middle)) for cluster in arrays])
    scale = len(arrays) / (len(arrays) - 1)
    return math.sqrt(scale * float(np.sum(sums * sums))) / len(values)


def percentile(values: Values, percent: float) -> float:
    """Linear between the two nearest ranks."""
    return float(np.percentile(np.asarray(values, np.float64), percent))
