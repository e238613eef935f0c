"""Figures of a kernel with what other probe records, or other draws, would have made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.errors import DataError
from loraudit.statistics import Interval
from loraudit.types import FloatArray, IntArray

N_FOLDS = 50
"""Groups of records that the jackknife leaves out in turn, where there are more records than that."""

_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, are spread as evenly as any


class Estimate(NamedTuple):
    """A figure with its interval.

    Attributes:
        value: NaN where undefined.
        interval: Two-sided; NaN where nothing shows the spread.
        n: Records, twins or draws it rests on.
    """

    value: float
    interval: Interval
    n: int


class Curve(NamedTuple):
    """A figure at each of several times, or a whole array of figures.

    Attributes:
        values: [...] NaN where undefined.
        lower: [...] end of a two-sided interval; NaN where nothing shows the spread.
        upper: [...] likewise.
        n: Records or draws it rests on.
    """

    values: FloatArray
    lower: FloatArray
    upper: FloatArray
    n: int


def jackknife(
    figure: Callable[[IntArray], float],
    n: int,
    *,
    confidence: float = 0.95,
    attainable: Interval | None = None,
    groups: IntArray | None = None,
) -> Estimate:
    """A figure of n records with the interval that leaving out groups of them shows.

    g = min(n, `N_FOLDS`) groups are left out in turn; with θ_j the figure without group j the variance is
    (g − 1) / g · Σ (θ_j − mean θ)², and the interval Student's t of g − 1 degrees about the figure. It is meant for
    smooth figures, and says how they would vary over other records of the same make. Ends beyond what the figure can
    be are moved to it. Larger groups are spread evenly over the order of the records, so that records which are
    sorted by kind, or which alternate, do not make groups of one kind.

    Args:
        figure: Of the indices of the records that are kept, ascending; NaN = undefined. Twins are left out together
            where the index is that of a pair.
        n: Records.
        confidence: Two-sided.
        attainable: Smallest and largest possible value; None where there is none.
        groups: [n] document of each record, which is left out whole; None where each is its own.

    Returns:
        Without an interval for one record or document, and where the figure is undefined without some group.

    References:
        Efron and Stein 1981, The Annals of Statistics 9(3); Shao and Wu 1989, The Annals of Statistics 17(3).
    """
    unknown = Interval(math.nan, math.nan)
    if n < 1:
        return Estimate(math.nan, unknown, 0)
    every = np.arange(n)
    names, first, unit = np.unique(every if groups is None else groups, return_index=True, return_inverse=True)
    unit = np.argsort(np.argsort(first))[unit]  # in the order in which documents begin
    n_units = len(names)
    value, g = figure(every), min(n_units, N_FOLDS)
    if g < 2 or math.isnan(value):
        return Estimate(value, unknown, n)
    units = np.arange(n_units)
    fold_of = np.empty(n_units, dtype=np.int64)
    fold_of[np.argsort(units * _GOLDEN % 1.0, kind="stable")] = units * g // n_units
    spread = fold_of[unit]
    without = np.array([figure(every[spread != fold]) for fold in range(g)])
    variance = (g - 1) / g * float(((without - without.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, g - 1)) * math.sqrt(variance)
    lower, upper = value - half, value + half
    if attainable is not None and not math.isnan(half):
        lower, upper = max(lower, attainable.lower), min(upper, attainable.upper)
    return Estimate(value, Interval(lower, upper), n)


def over_starts(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of one figure over starts, of the same records, and of the ends of its intervals.

    The records are the same, so their chance is too: the mean's own interval is no wider than the mean of intervals.

    Args:
        estimates: Of each start, at least one.

    Returns:
        NaN where a start has none.
    """
    lower, upper = np.mean([estimate.interval for estimate in estimates], axis=0)
    value = float(np.mean([estimate.value for estimate in estimates]))
    return Estimate(value, Interval(float(lower), float(upper)), estimates[0].n)


def over_draws(values: FloatArray, *, confidence: float = 0.95) -> Curve:
    """Mean over draws, of a random head or of A, with Student's t interval.

    A figure such as an accuracy is taken of each draw and then averaged: the accuracy of mean outputs is another one.

    Args:
        values: [draws, ...] figures of each draw. A draw that does not define a figure makes its mean undefined: how
            often that is the case is for the caller to say.
        confidence: Two-sided.

    Raises:
        DataError: There is no draw.
    """
    if not values.ndim or not len(values):
        raise DataError("No draw has a figure. Expected at least one draw of the head. Give more draws.")
    n = len(values)
    mean = np.asarray(values.mean(axis=0), dtype=np.float64)
    if n < 2:
        return Curve(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan), n)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return Curve(mean, mean - half, mean + half, n)
