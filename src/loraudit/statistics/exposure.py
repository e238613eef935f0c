"""Single records, and the set as a whole."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.auc import auc_error, auc_p_value
from loraudit.types import BoolArray, FloatArray, IntArray

POWER = 0.8
LEVEL = 0.05


def calibrated_p_values(scores: FloatArray, nonmembers: FloatArray) -> FloatArray:
    """Of each score, (1 + non-members scoring at least as high) / (1 + non-members).

    A non-member like the others falls at or below p with probability at most p, whatever the scores'
    distribution; the smallest possible value is 1 / (1 + n0).

    Args:
        scores: [n] NaN = undefined, and stays so.
        nonmembers: [n0] without NaN.

    >>> calibrated_p_values(np.array([2.5, 0.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.5, 1.0]
    """
    ascending = np.sort(nonmembers)
    n_as_high = len(ascending) - np.searchsorted(ascending, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1 + n_as_high) / (1 + len(ascending)))


class SetTest(NamedTuple):
    """Whether one half of the records tells members from non-members.

    Attributes:
        is_second_half: [N] records of the half that was tested.
        p_mann_whitney: One-sided, by documents where there are groups.
        p_welch: One-sided, of the mean score; NaN where it is undefined.
        n_to_detect: Records a side at which the tested AUC is found; None where it is at most 0.5, or where
            documents are too few to say what clustering costs.
    """

    is_second_half: BoolArray
    p_mann_whitney: float
    p_welch: float
    n_to_detect: int | None


def split_in_halves(is_member: BoolArray, groups: IntArray | None, rng: np.random.Generator) -> BoolArray:
    """[N] a random half of each side, whole documents where `groups` is given."""
    units = np.arange(len(is_member)) if groups is None else np.unique(groups, return_inverse=True)[1]
    is_second = np.zeros(int(units.max()) + 1, dtype=bool)
    of_members = np.zeros_like(is_second)
    of_members[units[is_member]] = True
    for side in (np.flatnonzero(of_members), np.flatnonzero(~of_members)):
        is_second[rng.permutation(side)[: len(side) // 2]] = True
    return is_second[units]


def set_test(values: FloatArray, is_member: BoolArray, is_second_half: BoolArray, groups: IntArray | None) -> SetTest:
    """Test, on the half that had no say in choosing them, whether these scores are higher on members.

    Args:
        values: [N] NaN = undefined.
        is_member: [N].
        is_second_half: [N] the half to test.
        groups: [N] document of each record, or None.
    """
    where = is_second_half & ~np.isnan(values)
    members, nonmembers = values[where & is_member], values[where & ~is_member]
    if not len(members) or not len(nonmembers):
        return SetTest(is_second_half, math.nan, math.nan, None)
    sides = (None, None) if groups is None else (groups[where & is_member], groups[where & ~is_member])
    p_mann_whitney = auc_p_value(members, nonmembers, member_groups=sides[0], nonmember_groups=sides[1])
    p_welch = _welch(members, nonmembers) if groups is None else math.nan
    found = auc_error(members, nonmembers, *sides)
    alone = auc_error(members, nonmembers).standard_error
    design_effect = (found.standard_error / alone) ** 2 if groups is not None and alone > 0 else 1.0
    return SetTest(is_second_half, p_mann_whitney, p_welch, n_to_detect(found.value, design_effect=design_effect))


def _welch(members: FloatArray, nonmembers: FloatArray) -> float:
    """One-sided p-value; NaN for a single record, for infinite scores and where neither side varies."""
    if any(len(side) < 2 or not np.isfinite(side).all() for side in (members, nonmembers)):
        return math.nan
    one, two = ((float(side.mean()), float(np.std(side, ddof=1)), len(side)) for side in (members, nonmembers))
    if one[1] == two[1] == 0:
        return math.nan
    return float(stats.ttest_ind_from_stats(*one, *two, equal_var=False, alternative="greater").pvalue)


def n_to_detect(area: float, *, design_effect: float = 1.0) -> int | None:
    """Records a side at which a one-sided Mann-Whitney test at 5 % finds this AUC with 80 % power.

    Args:
        area: AUC.
        design_effect: How many clustered records are worth one independent one.

    Returns:
        None where the AUC is at most 0.5.

    References:
        Noether 1987, Journal of the American Statistical Association 82(398).

    >>> n_to_detect(0.553)
    367
    """
    if math.isnan(area) or area <= 0.5 or math.isnan(design_effect):
        return None
    quantiles = float(stats.norm.ppf(1 - LEVEL) + stats.norm.ppf(POWER))
    return max(2, math.ceil(design_effect * quantiles**2 / (6 * (area - 0.5) ** 2)))


def detectable_auc(n_members: int, n_nonmembers: int, *, confidence: float = 0.95) -> float:
    """Smallest AUC whose two-sided interval is expected to exclude 0.5 with 80 % power.

    From the variance of the Mann-Whitney statistic when both sides are alike, (n1 + n0 + 1) / (12 n1 n0).

    >>> round(detectable_auc(200, 200), 3)
    0.581
    """
    quantiles = float(stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(POWER))
    error = math.sqrt((n_members + n_nonmembers + 1) / (12 * n_members * n_nonmembers))
    return min(1.0, 0.5 + quantiles * error)


def fewest_for_rate(fpr: float, *, confidence: float = 0.95) -> int:
    """Non-members below which no TPR at this FPR can be shown to be above chance.

    With fewer, none of them lies above the true threshold with probability (1 − FPR)^n > α/2, so every
    interval begins at 0.

    >>> fewest_for_rate(0.01)
    368
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log1p(-fpr)) if fpr < 1 else 1
