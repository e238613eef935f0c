"""Area under the ROC curve with DeLong's variance, also for clustered records."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.intervals import Interval, logit_interval
from loraudit.types import FloatArray, IntArray

_NO_SPREAD = 1e-15


class _Placements(NamedTuple):
    """Share of the other side that each record beats, ties counting half; both means are the AUC."""

    members: FloatArray
    nonmembers: FloatArray


def _placements(members: FloatArray, nonmembers: FloatArray) -> _Placements:
    everyone = stats.rankdata(np.concatenate([members, nonmembers]))
    n_members, n_nonmembers = len(members), len(nonmembers)
    of_members = (everyone[:n_members] - stats.rankdata(members)) / n_nonmembers
    of_nonmembers = 1 - (everyone[n_members:] - stats.rankdata(nonmembers)) / n_members
    return _Placements(of_members, of_nonmembers)


def auc(members: FloatArray, nonmembers: FloatArray) -> float:
    """Probability that a member outscores a non-member, ties counting half; NaN if a side is empty.

    >>> auc(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
    0.875
    """
    if len(members) == 0 or len(nonmembers) == 0:
        return math.nan
    return float(_placements(members, nonmembers).members.mean())


def clustered_covariance(first: FloatArray, second: FloatArray, groups: IntArray | None) -> float:
    """Covariance of two means over records whose errors are shared within a group."""
    n_records = len(first)
    centred = first - first.mean(), second - second.mean()
    if groups is None:
        n_groups, sums = n_records, centred
    else:
        _, index = np.unique(groups, return_inverse=True)
        n_groups = int(index.max()) + 1
        sums = tuple(np.bincount(index, weights=values) for values in centred)
    if n_groups < 2:
        return math.nan
    return float(n_groups / (n_groups - 1) * np.sum(sums[0] * sums[1]) / n_records**2)


def auc_interval(
    members: FloatArray,
    nonmembers: FloatArray,
    *,
    confidence: float = 0.95,
    member_groups: IntArray | None = None,
    nonmember_groups: IntArray | None = None,
) -> Interval:
    """DeLong's variance on the logit scale with a t quantile.

    The plain interval (normal quantile, AUC scale) covers as little as 81 % of the time at 50 records a
    side and an AUC near 1, and 72 % with clusters; this one 91.8 % or more, and the two agree to the third
    decimal from 1 000 records on (docs/statistics.md). At AUC 0 or 1 the variance is 0; there
    the exact bound is used: m = min(n1, n0) disjoint pairs all ordered one way have probability at most
    AUC^m, so the AUC is at least (α/2)^(1/m).

    Args:
        members: [n1] scores without NaN.
        nonmembers: [n0] scores without NaN.
        confidence: Two-sided.
        member_groups: [n1] document of each member; None means every record stands alone.
        nonmember_groups: [n0] likewise.

    Returns:
        NaN ends where the AUC is neither 0 nor 1 and the sample tells nothing of its spread: a side has fewer
        than two groups, or all groups agree exactly.

    References:
        DeLong et al. 1988, Biometrics 44(3); Sun and Xu 2014 (ranks); Obuchowski 1997 (clusters).
    """
    tail = (1 - confidence) / 2
    placements = _placements(members, nonmembers)
    value = float(placements.members.mean())
    n_groups = min(_n_groups(members, member_groups), _n_groups(nonmembers, nonmember_groups))
    if value in (0.0, 1.0):
        bound = tail ** (1 / n_groups)
        return Interval(bound, 1.0) if value == 1.0 else Interval(0.0, 1 - bound)
    if n_groups < 2:
        return Interval(math.nan, math.nan)
    variance = clustered_covariance(placements.members, placements.members, member_groups) + clustered_covariance(
        placements.nonmembers, placements.nonmembers, nonmember_groups
    )
    if variance < _NO_SPREAD:
        return Interval(math.nan, math.nan)
    return logit_interval(value, math.sqrt(variance), n_groups - 1, confidence=confidence)


def _n_groups(scores: FloatArray, groups: IntArray | None) -> int:
    return len(scores) if groups is None else len(np.unique(groups))


class AucDifference(NamedTuple):
    """First AUC minus second, on the same records."""

    value: float
    interval: Interval
    p_value: float


def paired_auc_difference(
    first: tuple[FloatArray, FloatArray],
    second: tuple[FloatArray, FloatArray],
    *,
    confidence: float = 0.95,
) -> AucDifference:
    """DeLong's paired comparison of two scores over the same members and non-members.

    Args:
        first: ([n1], [n0]) scores of members and of non-members.
        second: The other score for the same records in the same order.
        confidence: Two-sided.

    Returns:
        Difference, interval and two-sided p-value; where the two orderings are the same the
        difference is exactly 0 with an interval of no width and p = 1. NaN ends and p-value where
        a side has a single record, or where both separate perfectly in opposite directions, so that
        the sample tells nothing of the spread.

    References:
        DeLong et al. 1988, Biometrics 44(3).
    """
    one, two = _placements(*first), _placements(*second)
    value = float(one.members.mean() - two.members.mean())
    variance = sum(
        clustered_covariance(side_one - side_two, side_one - side_two, None)
        for side_one, side_two in zip(one, two, strict=True)
    )
    if variance == 0 and value == 0:
        return AucDifference(0.0, Interval(0.0, 0.0), 1.0)
    if variance == 0 or math.isnan(variance):
        return AucDifference(value, Interval(math.nan, math.nan), math.nan)
    error = math.sqrt(variance)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    p_value = 2 * float(stats.norm.sf(abs(value) / error))
    return AucDifference(value, Interval(value - half, value + half), p_value)
