"""Corrections for having looked more than once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from loraudit.statistics.intervals import Interval
from loraudit.types import FloatArray


def holm(p_values: FloatArray) -> FloatArray:
    """Holm's adjusted p-values: rejecting those at most α errs anywhere with probability at most α.

    Args:
        p_values: [m]; NaN takes no part and stays NaN.

    References:
        Holm 1979, Scandinavian Journal of Statistics 6(2).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """q-values: calling those at most q exposed errs, on average, in a share q of the calls.

    Valid for p-values calibrated on one shared set of non-members, which are positively dependent
    (Bates et al. 2023, arXiv:2104.08279).

    Args:
        p_values: [m]; NaN takes no part and stays NaN.

    References:
        Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57(1).

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.04, 0.04]
    """
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


class BestOfMany(NamedTuple):
    """The largest of several AUCs, corrected for having been picked.

    Attributes:
        name: Of its attack.
        value: The AUC.
        interval: Holds for all attacks at once.
        p_value: Probability of so large a statistic among all attacks if none sees anything.
    """

    name: str
    value: float
    interval: Interval
    p_value: float


def best_of_many(
    areas: Mapping[str, float], resampled: Mapping[str, FloatArray], *, confidence: float = 0.95
) -> BestOfMany | None:
    """The attack with the largest AUC, by the maximum statistic of a bootstrap that all attacks share.

    Statistics are (logit of the AUC) / (its standard error), so that one critical value serves all.

    Args:
        areas: AUC of each attack.
        resampled: [B] of each, from the same resamples.
        confidence: Two-sided, of the simultaneous interval.

    Returns:
        None if no attack has an AUC. Ends and p-value are NaN where the best has no spread, as at 1.

    References:
        Romano and Wolf 2005, Econometrica 73(4); Westfall and Young 1993.
    """
    known = {name: value for name, value in areas.items() if not math.isnan(value)}
    if not known:
        return None
    best = max(known, key=lambda name: known[name])
    value = known[best]
    errors = {name: float(np.nanstd(resampled[name])) for name in known}
    usable = [name for name in known if errors[name] > 0 and 0 < known[name] < 1]
    if best not in usable:
        return BestOfMany(best, value, Interval(math.nan, math.nan), math.nan)
    deviations = np.array([(resampled[name] - known[name]) / errors[name] for name in usable])
    deviations = deviations[:, ~np.isnan(deviations).any(axis=0)]
    if not deviations.shape[1]:
        return BestOfMany(best, value, Interval(math.nan, math.nan), math.nan)
    scale = errors[best] / (value * (1 - value))
    centre = math.log(value / (1 - value))
    quantile = float(np.quantile(np.abs(deviations).max(axis=0), confidence, method="higher"))
    ends = (1 / (1 + math.exp(-(centre + side * quantile * scale))) for side in (-1, 1))
    statistics = [math.log(known[n] / (1 - known[n])) * known[n] * (1 - known[n]) / errors[n] for n in usable]
    n_as_large = int((deviations.max(axis=0) >= max(statistics)).sum())
    return BestOfMany(best, value, Interval(*ends), (1 + n_as_large) / (1 + deviations.shape[1]))
