"""Area under the ROC curve with DeLong's variance, also for clustered records."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.intervals import Interval, logit_interval
from loraudit.types import FloatArray, IntArray

_NO_SPREAD = 1e-15


class Placements(NamedTuple):
    """Share of the other side that each record beats, ties counting half; both means are the AUC."""

    members: FloatArray
    nonmembers: FloatArray


def placements_of(members: FloatArray, nonmembers: FloatArray) -> Placements:
    """The placements of [n1] and [n0] scores without NaN."""
    everyone = stats.rankdata(np.concatenate([members, nonmembers]))
    n_members, n_nonmembers = len(members), len(nonmembers)
    of_members = (everyone[:n_members] - stats.rankdata(members)) / n_nonmembers
    of_nonmembers = 1 - (everyone[n_members:] - stats.rankdata(nonmembers)) / n_members
    return Placements(of_members, of_nonmembers)


def auc(members: FloatArray, nonmembers: FloatArray) -> float:
    """Probability that a member outscores a non-member, ties counting half; NaN if a side is empty.

    >>> auc(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
    0.875
    """
    if len(members) == 0 or len(nonmembers) == 0:
        return math.nan
    return float(placements_of(members, nonmembers).members.mean())


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
    error_factor: float = 1.0,
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
        error_factor: Multiplies the standard error, for scores that are cross-fitted on the same records.

    Returns:
        NaN ends where the AUC is neither 0 nor 1 and the sample tells nothing of its spread: a side has fewer
        than two groups, or all groups agree exactly.

    References:
        DeLong et al. 1988, Biometrics 44(3); Sun and Xu 2014 (ranks); Obuchowski 1997 (clusters).
    """
    tail = (1 - confidence) / 2
    value, error, n_groups = auc_error(members, nonmembers, member_groups, nonmember_groups)
    if value in (0.0, 1.0):
        bound = tail ** (1 / n_groups)
        return Interval(bound, 1.0) if value == 1.0 else Interval(0.0, 1 - bound)
    if math.isnan(error):
        return Interval(math.nan, math.nan)
    return logit_interval(value, error_factor * error, n_groups - 1, confidence=confidence)


class AucError(NamedTuple):
    """An AUC, its standard error (NaN where the sample does not tell) and the groups on the smaller side."""

    value: float
    standard_error: float
    n_groups: int


def auc_error(
    members: FloatArray,
    nonmembers: FloatArray,
    member_groups: IntArray | None = None,
    nonmember_groups: IntArray | None = None,
) -> AucError:
    """AUC with DeLong's standard error, clustered where groups are given."""
    placements = placements_of(members, nonmembers)
    value = float(placements.members.mean())
    n_groups = min(_n_groups(members, member_groups), _n_groups(nonmembers, nonmember_groups))
    if n_groups < 2:
        return AucError(value, math.nan, n_groups)
    variance = clustered_covariance(placements.members, placements.members, member_groups) + clustered_covariance(
        placements.nonmembers, placements.nonmembers, nonmember_groups
    )
    return AucError(value, math.nan if variance < _NO_SPREAD else math.sqrt(variance), n_groups)


def auc_p_value(
    members: FloatArray,
    nonmembers: FloatArray,
    *,
    alternative: Literal["greater", "two-sided"] = "greater",
    member_groups: IntArray | None = None,
    nonmember_groups: IntArray | None = None,
    error_factor: float = 1.0,
) -> float:
    """Probability of an AUC this far above (or this far from) 0.5 if both sides had the same scores.

    The test that `auc_interval` inverts: a t statistic on the logit scale; at 0 and 1 the exact bound.

    Args:
        members: [n1] scores without NaN.
        nonmembers: [n0] scores without NaN.
        alternative: Above 0.5, or on either side of it.
        member_groups: [n1] document of each member.
        nonmember_groups: [n0] likewise.
        error_factor: As `auc_interval`.

    Returns:
        1 where all scores are the same; NaN where the sample tells nothing of its spread.
    """
    value, error, n_groups = auc_error(members, nonmembers, member_groups, nonmember_groups)
    n_tails = 1 if alternative == "greater" else 2
    if value in (0.0, 1.0):
        above = 0.5**n_groups
        return min(1.0, n_tails * above) if value == 1.0 or n_tails == 2 else 1.0
    if math.isnan(error):
        return 1.0 if value == 0.5 else math.nan
    statistic = math.log(value / (1 - value)) * value * (1 - value) / (error_factor * error)
    above = float(stats.t.sf(statistic if n_tails == 1 else abs(statistic), n_groups - 1))
    return min(1.0, n_tails * above)


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
    member_groups: IntArray | None = None,
    nonmember_groups: IntArray | None = None,
) -> AucDifference:
    """DeLong's paired comparison of two scores over the same members and non-members.

    Args:
        first: ([n1], [n0]) scores of members and of non-members.
        second: The other score for the same records in the same order.
        confidence: Two-sided.
        member_groups: [n1] document of each member; None means every record stands alone.
        nonmember_groups: [n0] likewise.

    Returns:
        Difference, interval and two-sided p-value; where the two orderings are the same the
        difference is exactly 0 with an interval of no width and p = 1. NaN ends and p-value where
        a side has a single record, or where both separate perfectly in opposite directions, so that
        the sample tells nothing of the spread.

    References:
        DeLong et al. 1988, Biometrics 44(3).
    """
    one, two = placements_of(*first), placements_of(*second)
    value = float(one.members.mean() - two.members.mean())
    variance = sum(
        clustered_covariance(side_one - side_two, side_one - side_two, groups)
        for side_one, side_two, groups in zip(one, two, (member_groups, nonmember_groups), strict=True)
    )
    if variance == 0 and value == 0:
        return AucDifference(0.0, Interval(0.0, 0.0), 1.0)
    if variance == 0 or math.isnan(variance):
        return AucDifference(value, Interval(math.nan, math.nan), math.nan)
    error = math.sqrt(variance)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    p_value = 2 * float(stats.norm.sf(abs(value) / error))
    return AucDifference(value, Interval(value - half, value + half), p_value)
