"""Intervals that need no resampling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from loraudit.types import Finding, FloatArray


class Interval(NamedTuple):
    """Two ends of a two-sided interval."""

    lower: float
    upper: float


def finite(value: float) -> float | None:
    """A number that JSON can hold, or None."""
    return float(value) if math.isfinite(value) else None


def finding(
    value: float,
    interval: Interval,
    method: str,
    *,
    n_members: int,
    n_nonmembers: int,
    confidence: float,
    **more: Any,
) -> Finding:
    """A `Finding`; a value or end that is not finite is None."""
    return Finding(
        value=finite(value),
        lower=finite(interval.lower),
        upper=finite(interval.upper),
        confidence=confidence,
        method=method,
        n_members=n_members,
        n_nonmembers=n_nonmembers,
        **more,
    )


def clopper_pearson(n_successes: float, n_trials: float, *, confidence: float = 0.95) -> Interval:
    """Exact interval for a proportion; covers at least `confidence` whatever the proportion.

    Args:
        n_successes: Between 0 and `n_trials`.
        n_trials: 0 gives [0, 1]; an effective number, as of clustered records, need not be whole.
        confidence: Two-sided.

    References:
        Clopper and Pearson 1934, Biometrika 26(4).
    """
    tail = (1 - confidence) / 2
    n_failures = n_trials - n_successes
    lower = 0.0 if n_successes == 0 else float(stats.beta.ppf(tail, n_successes, n_failures + 1))
    upper = 1.0 if n_failures == 0 else float(stats.beta.ppf(1 - tail, n_successes + 1, n_failures))
    return Interval(lower, upper)


def wilson(n_successes: float, n_trials: float, *, confidence: float = 0.95) -> Interval:
    """Score interval for a proportion; where none or every trial succeeds, the exact one-sided bound.

    Args:
        n_successes: Between 0 and `n_trials`; a sum of shares need not be whole, and spreads less than this allows for.
        n_trials: 0 gives [0, 1]; an effective number, as of clustered records, need not be whole.
        confidence: Two-sided.

    References:
        Wilson 1927, Journal of the American Statistical Association 22(158).

    >>> tuple(round(end, 4) for end in wilson(1, 10))
    (0.0179, 0.4042)
    """
    if n_trials == 0:
        return Interval(0.0, 1.0)
    missed = 1 - (1 - confidence) ** (1 / n_trials)
    if n_successes == 0:
        return Interval(0.0, missed)
    if n_successes == n_trials:
        return Interval(1 - missed, 1.0)
    share = n_successes / n_trials
    square = float(stats.norm.ppf(0.5 + confidence / 2)) ** 2
    centre = (share + square / (2 * n_trials)) / (1 + square / n_trials)
    half = math.sqrt(square * (share * (1 - share) / n_trials + square / (4 * n_trials**2))) / (1 + square / n_trials)
    return Interval(centre - half, centre + half)


def logit_interval(value: float, standard_error: float, degrees_of_freedom: int, *, confidence: float) -> Interval:
    """Interval for a share strictly between 0 and 1, symmetric on the logit scale.

    Args:
        value: The estimate.
        standard_error: Of the estimate, on its own scale.
        degrees_of_freedom: Of the t quantile.
        confidence: Two-sided.
    """
    quantile = float(stats.t.ppf(0.5 + confidence / 2, degrees_of_freedom))
    half = quantile * standard_error / (value * (1 - value))
    centre = math.log(value / (1 - value))
    lower, upper = (1 / (1 + math.exp(-min(max(end, -700), 700))) for end in (centre - half, centre + half))
    return Interval(lower, upper)


def unknown_threshold(
    members: FloatArray,
    nonmembers: FloatArray,
    *,
    fpr: float,
    confidence: float,
    n_draws: int,
    rng: np.random.Generator,
    n_effective: tuple[float, float] | None = None,
) -> Interval:
    """Interval for TPR at the population threshold whose false-positive rate is `fpr`.

    The sample does not know that threshold: the number K of non-members above it is Binomial(n0, fpr), so it
    lies between the K-th and the (K+1)-th largest. The share of members above either end gets a
    Clopper-Pearson draw. Where fpr · n0 is small this is wide, as it must be; the bootstrap, which cannot
    move beyond the largest non-member, covers 70 % of the time there (benchmarks/coverage.py).

    Args:
        members: [n1] scores without NaN.
        nonmembers: [n0] scores without NaN.
        fpr: In (0, 1].
        confidence: Two-sided.
        n_draws: Monte Carlo draws.
        rng: Their source.
        n_effective: How many independent members and non-members the records are worth, where records of one
            document come together.
    """
    n_members, n_nonmembers = len(members), len(nonmembers)
    ranked = np.sort(nonmembers)[::-1]
    n_above = n_members - np.searchsorted(np.sort(members), ranked, side="right")
    n_above = np.concatenate([[0], n_above, [n_members]])
    worth = n_effective or (n_members, n_nonmembers)
    n_independent = max(1, round(worth[1]))
    rank = rng.binomial(n_independent, fpr, n_draws) * n_nonmembers // n_independent
    fewest, most = n_above[rank], n_above[rank + 1]
    scale = worth[0] / n_members
    low = rng.beta(scale * np.maximum(fewest, 1), scale * (n_members - fewest) + 1)
    high = rng.beta(scale * most + 1, scale * np.maximum(n_members - most, 1))
    tail = (1 - confidence) / 2
    lower = np.quantile(np.where(fewest == 0, 0.0, low), tail)
    upper = np.quantile(np.where(most == n_members, 1.0, high), 1 - tail)
    return Interval(float(lower), float(upper))
