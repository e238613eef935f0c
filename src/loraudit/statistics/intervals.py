"""Intervals that need no resampling."""

from __future__ import annotations

from typing import NamedTuple

from scipy import stats


class Interval(NamedTuple):
    """Two ends of a two-sided interval."""

    lower: float
    upper: float


def clopper_pearson(n_successes: int, n_trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact interval for a proportion; covers at least `confidence` whatever the proportion.

    Args:
        n_successes: Between 0 and `n_trials`.
        n_trials: 0 gives [0, 1].
        confidence: Two-sided.

    References:
        Clopper and Pearson 1934, Biometrika 26(4).
    """
    tail = (1 - confidence) / 2
    n_failures = n_trials - n_successes
    lower = 0.0 if n_successes == 0 else float(stats.beta.ppf(tail, n_successes, n_failures + 1))
    upper = 1.0 if n_failures == 0 else float(stats.beta.ppf(1 - tail, n_successes + 1, n_failures))
    return Interval(lower, upper)
