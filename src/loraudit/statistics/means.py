"""Means over records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from loraudit.statistics.auc import clustered_covariance
from loraudit.statistics.intervals import Interval, finding
from loraudit.types import Finding, FloatArray, IntArray


def mean_finding(
    values: FloatArray,
    *,
    confidence: float,
    groups: IntArray | None = None,
    attainable: Interval | None = None,
    are_members: bool = True,
) -> Finding:
    """The mean of the defined values, with Student's t over documents.

    Where values lie between known ends, the interval reaches at least as far as a kind of record would move the mean
    that makes up so small a share π of all that the sample lacks it one time in 1 / (1 − confidence): G documents miss
    it with probability (1 − π)^G. So the mean of 300 zeros has an upper end of 1 %, not of 0. Where a twentieth of the
    records or fewer carries all of the mean, 95 % intervals hold it 91 % of the time or more (tests/property).

    Args:
        values: [N] of records of one side; NaN = undefined.
        confidence: Two-sided.
        groups: [N] document of each record; None means every record stands alone.
        attainable: Smallest and largest possible value; None where there is none.
        are_members: Under which side the finding counts them.

    Returns:
        Without a value where none is defined, without an interval where a single document is.
    """
    known = ~np.isnan(values)
    kept, n_documents = values[known], int(known.sum())
    of_kept = None if groups is None else groups[known]
    if of_kept is not None:
        n_documents = len(np.unique(of_kept))
    about: dict[str, Any] = {
        "confidence": confidence,
        "n_members": len(kept) if are_members else 0,
        "n_nonmembers": 0 if are_members else len(kept),
        "n_undefined_members": len(values) - len(kept) if are_members else 0,
        "n_undefined_nonmembers": 0 if are_members else len(values) - len(kept),
    }
    unknown = Interval(math.nan, math.nan)
    if not len(kept):
        return finding(math.nan, unknown, "mean", note="No record defines it.", **about)
    mean = float(kept.mean())
    method = "Student's t over documents" if of_kept is not None else "Student's t over records"
    if n_documents < 2 and attainable is None:
        return finding(mean, unknown, method, note="A single document says nothing of others.", **about)
    lower, upper = mean, mean
    if n_documents > 1:
        error = math.sqrt(clustered_covariance(kept, kept, of_kept))
        half = float(stats.t.ppf(0.5 + confidence / 2, n_documents - 1)) * error
        lower, upper = mean - half, mean + half
    if attainable is not None:
        missed = 1 - (1 - confidence) ** (1 / n_documents)
        low, high = (mean + missed * (end - mean) for end in attainable)
        lower, upper = max(attainable.lower, min(lower, low)), min(attainable.upper, max(upper, high))
        method += ", at least what a share of records that the sample lacks would change"
    return finding(mean, Interval(lower, upper), method, **about)


def mean_difference(
    first: FloatArray,
    second: FloatArray,
    *,
    confidence: float,
    first_groups: IntArray | None = None,
    second_groups: IntArray | None = None,
) -> Finding:
    """Mean of members minus mean of non-members, with Welch's interval over documents.

    Args:
        first: [N1] of members; NaN = undefined.
        second: [N0] of non-members.
        confidence: Two-sided.
        first_groups: [N1] document of each; None means every record stands alone.
        second_groups: [N0] likewise.

    Returns:
        Without an interval where a side has fewer than two documents, without a value where it has no record.

    References:
        Welch 1947, Biometrika 34(1-2).
    """
    sides = [(first, first_groups), (second, second_groups)]
    known = [~np.isnan(values) for values, _ in sides]
    counts = [int(where.sum()) for where in known]
    about: dict[str, Any] = {
        "confidence": confidence,
        "n_members": counts[0],
        "n_nonmembers": counts[1],
        "n_undefined_members": len(first) - counts[0],
        "n_undefined_nonmembers": len(second) - counts[1],
    }
    unknown = Interval(math.nan, math.nan)
    if not all(counts):
        return finding(math.nan, unknown, "difference of means", note="A side has no record that defines it.", **about)
    value = float(first[known[0]].mean() - second[known[1]].mean())
    variances: list[float] = []
    degrees: list[int] = []
    for (values, groups), where in zip(sides, known, strict=True):
        own = None if groups is None else groups[where]
        n_documents = int(where.sum()) if own is None else len(np.unique(own))
        if n_documents < 2:
            return finding(value, unknown, "Welch", note="A single document says nothing of others.", **about)
        variances.append(clustered_covariance(values[where], values[where], own))
        degrees.append(n_documents - 1)
    total = sum(variances)
    if total == 0:
        return finding(value, Interval(value, value), "Welch over documents", **about)
    freedom = total**2 / sum(one**2 / n for one, n in zip(variances, degrees, strict=True))
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(total)
    return finding(value, Interval(value - half, value + half), "Welch over documents", **about)
