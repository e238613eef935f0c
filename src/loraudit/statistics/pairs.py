"""Two runs over the same records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.auc import auc, paired_auc_difference
from loraudit.statistics.bootstrap import resample_rates
from loraudit.statistics.intervals import Interval
from loraudit.statistics.rates import threshold_at_fpr, tpr_at_fpr, unresolved_rate
from loraudit.types import BoolArray, FloatArray, IntArray

_ROUNDING = 1e-9


class Difference(NamedTuple):
    """First minus second.

    Attributes:
        value: NaN where refused.
        interval: Two-sided.
        p_value: Two-sided, of no difference.
        first: The first number.
        second: The second.
    """

    value: float
    interval: Interval
    p_value: float
    first: float
    second: float


class McNemar(NamedTuple):
    """Members that one run finds and the other does not, each at its own threshold.

    Attributes:
        only_first: Found in the first run alone.
        only_second: Found in the second run alone.
        p_value: Exact, two-sided, of both runs finding as many.
    """

    only_first: int
    only_second: int
    p_value: float


class PairedRates(NamedTuple):
    """TPR at one FPR in two runs."""

    difference: Difference
    mcnemar: McNemar


class PairedScores(NamedTuple):
    """One attack in two runs.

    Attributes:
        auc: DeLong's paired comparison.
        rates: By FPR; None where the sample cannot resolve the rate.
        n_members: With a score in both runs.
        n_nonmembers: Likewise.
        n_left_out: Records with a score in one run or in none.
    """

    auc: Difference
    rates: dict[float, PairedRates | None]
    n_members: int
    n_nonmembers: int
    n_left_out: int


def compare_scores(
    first: FloatArray,
    second: FloatArray,
    is_member: BoolArray,
    *,
    fprs: Sequence[float],
    n_resamples: int,
    confidence: float,
    rng: np.random.Generator,
    groups: IntArray | None = None,
) -> PairedScores:
    """Compare two scores over the same records, on those that have both.

    Args:
        first: [N] NaN = undefined.
        second: [N] likewise.
        is_member: [N].
        fprs: False-positive rates to compare the true-positive rate at.
        n_resamples: Bootstrap resamples, shared by both scores.
        confidence: Two-sided.
        rng: Source of the resamples.
        groups: [N] document of each record. McNemar's test takes records as independent in any case.

    References:
        DeLong et al. 1988, Biometrics 44(3); McNemar 1947, Psychometrika 12(2).
    """
    both = ~np.isnan(first) & ~np.isnan(second)
    one, two, member = first[both], second[both], is_member[both]
    group = None if groups is None else groups[both]
    n_members, n_nonmembers = int(member.sum()), int((~member).sum())
    nothing = Difference(math.nan, Interval(math.nan, math.nan), math.nan, math.nan, math.nan)
    if not n_members or not n_nonmembers:
        return PairedScores(nothing, dict.fromkeys(fprs), n_members, n_nonmembers, int((~both).sum()))
    split = [(side[member], side[~member]) for side in (one, two)]
    side_groups = (None, None) if group is None else (group[member], group[~member])
    areas = paired_auc_difference(
        *split, confidence=confidence, member_groups=side_groups[0], nonmember_groups=side_groups[1]
    )
    drawn = resample_rates(
        {"first": one, "second": two},
        member,
        fprs=fprs,
        max_fpr=max(fprs, default=0.1),
        n_resamples=n_resamples,
        rng=rng,
        groups=group,
    )
    rates: dict[float, PairedRates | None] = {}
    for position, fpr in enumerate(fprs):
        if unresolved_rate(n_nonmembers, fpr):
            rates[fpr] = None
            continue
        values = [tpr_at_fpr(*side, fpr=fpr) for side in split]
        spread = drawn["first"].tpr[position] - drawn["second"].tpr[position]
        found = [members > threshold_at_fpr(nonmembers, fpr=fpr) for members, nonmembers in split]
        rates[fpr] = PairedRates(_bootstrap_difference(values[0], values[1], spread, confidence), mcnemar(*found))
    return PairedScores(
        Difference(areas.value, areas.interval, areas.p_value, auc(*split[0]), auc(*split[1])),
        rates,
        n_members,
        n_nonmembers,
        int((~both).sum()),
    )


def mcnemar(first: BoolArray, second: BoolArray) -> McNemar:
    """Exact McNemar test of two yes-or-no answers about the same records.

    >>> mcnemar(np.array([True, True, True, False]), np.array([True, False, False, False])).p_value
    0.5
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    n = only_first + only_second
    return McNemar(only_first, only_second, float(stats.binomtest(only_first, n).pvalue) if n else 1.0)


def _bootstrap_difference(first: float, second: float, drawn: FloatArray, confidence: float) -> Difference:
    """Percentiles of a paired bootstrap, and the p-value at which they would just touch 0."""
    drawn = np.sort(drawn[~np.isnan(drawn)])
    n = len(drawn)
    # As many resamples beyond one end as beyond the other, so that exchanging the runs mirrors the interval.
    place = math.floor((1 - confidence) / 2 * (n + 1) + _ROUNDING)
    has_ends = place > 0  # else there are too few resamples for this confidence
    interval = Interval(float(drawn[place - 1]), float(drawn[n - place])) if has_ends else Interval(math.nan, math.nan)
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = min(1.0, 2 * (1 + smaller) / (1 + n))
    return Difference(first - second, interval, p_value, first, second)
