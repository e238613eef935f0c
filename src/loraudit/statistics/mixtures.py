"""Weighted sums of AUCs that were measured on the same records, with the error that records cause.

A row is one checkpoint of one run: the scores that an attack gave to all N records there. Weights over rows
state what is asked: one row, a place between two checkpoints, the mean over seeds, or (weights that sum to 0) the
difference between two tuning methods. What records contribute is worked out once for all rows; each question then
costs a product. `rate_mixtures` does the same for true-positive rates.

Every interval here holds the training runs fixed: it says how the number would move with other records.
`seeds` adds how it would move with other runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.auc import placements_of
from loraudit.statistics.intervals import Interval
from loraudit.types import BoolArray, FloatArray, IntArray

_ROUNDING = 1e-9
_NO_SPREAD = 1e-12
_N_HALVINGS = 50
UNKNOWN = Interval(math.nan, math.nan)


class Mixed(NamedTuple):
    """A weighted sum of AUCs or of rates.

    Attributes:
        value: NaN where refused, or where a row has no defined score on a side.
        standard_error: Over records; NaN where the sample does not tell.
        interval: Two-sided, training runs held fixed.
        p_value: Two-sided, of no difference; NaN unless the weights sum to 0.
        confidence: Of the interval.
        attainable: Sum of the negative and sum of the positive weights: the value lies between them.
        n_groups: Documents (records, where they stand alone) on the smaller side.
        n_undefined_members: Members without a score in some row that has a weight.
        n_undefined_nonmembers: Likewise.
        note: Why a number is refused, or what it rests on.
    """

    value: float
    standard_error: float
    interval: Interval
    p_value: float
    confidence: float
    attainable: Interval
    n_groups: int
    n_undefined_members: int
    n_undefined_nonmembers: int
    note: str | None = None

    @property
    def is_share(self) -> bool:
        """Whether the weights are those of a mean: none negative, and a sum of 1."""
        return self.attainable.lower == 0 and abs(self.attainable.upper - 1) < _ROUNDING

    @property
    def is_difference(self) -> bool:
        """Whether the weights sum to 0."""
        return abs(self.attainable.lower + self.attainable.upper) < _ROUNDING


def unanswered(
    weight: FloatArray, is_defined: BoolArray, is_member: BoolArray, groups: IntArray | None, *, confidence: float
) -> Mixed:
    """A `Mixed` with everything but its numbers.

    Args:
        weight: [R] of the rows that take part, none of them 0.
        is_defined: [R, N] which scores are.
        is_member: [N].
        groups: [N] or None.
        confidence: Two-sided.
    """
    is_known, is_missing = is_defined.any(axis=0), ~is_defined.all(axis=0)
    sides = is_known & is_member, is_known & ~is_member
    return Mixed(
        value=math.nan,
        standard_error=math.nan,
        interval=UNKNOWN,
        p_value=math.nan,
        confidence=confidence,
        attainable=Interval(float(weight[weight < 0].sum()), float(weight[weight > 0].sum())),
        n_groups=min(int(side.sum()) if groups is None else len(np.unique(groups[side])) for side in sides),
        n_undefined_members=int((is_missing & is_member).sum()),
        n_undefined_nonmembers=int((is_missing & ~is_member).sum()),
    )


def t_interval(mixed: Mixed, standard_error: float, degrees_of_freedom: float, *, confidence: float) -> Interval:
    """Value ± t quantile · standard error, on the logit scale for a share strictly between 0 and 1.

    Args:
        mixed: Gives the value and what is attainable.
        standard_error: 0 gives an interval of no width, whatever the degrees of freedom.
        degrees_of_freedom: Of the t quantile; need not be whole.
        confidence: Two-sided.
    """
    value = mixed.value
    half = float(stats.t.ppf(0.5 + confidence / 2, degrees_of_freedom)) * standard_error if standard_error else 0.0
    if not mixed.is_share or not 0 < value < 1:
        return Interval(max(mixed.attainable.lower, value - half), min(mixed.attainable.upper, value + half))
    centre, half = math.log(value / (1 - value)), half / (value * (1 - value))
    lower, upper = (1 / (1 + math.exp(-min(max(end, -700), 700))) for end in (centre - half, centre + half))
    return Interval(lower, upper)


def t_p_value(value: float, standard_error: float, degrees_of_freedom: float) -> float:
    """Two-sided, of a value of 0; 1 where the value is 0 and has no spread."""
    if standard_error == 0:
        return 1.0 if abs(value) < _ROUNDING else math.nan
    return min(1.0, 2 * float(stats.t.sf(abs(value) / standard_error, degrees_of_freedom)))


@dataclass(frozen=True, slots=True, eq=False)
class AucRows:
    """AUC of every row, and the influence of every record on it.

    The influence of a member on the AUC A of a row is (V − A) / n1, with V its placement (DeLong's structural
    component) and n1 the members whose score is defined in that row; likewise for non-members. A record without a
    score has influence 0. The variance of a weighted sum of AUCs is, for each side, G / (G − 1) · Σ_g (Σ_i∈g u_i)²
    with u_i the weighted sum of a record's influences and G the documents of that side.

    Attributes:
        auc: [M] NaN where a side has no defined score.
        influence: [M, N].
        is_defined: [M, N].
        is_member: [N].
        groups: [N] document of each record, or None.
    """

    auc: FloatArray
    influence: FloatArray
    is_defined: BoolArray
    is_member: BoolArray
    groups: IntArray | None

    @classmethod
    def of(cls, scores: FloatArray, is_member: BoolArray, groups: IntArray | None = None) -> AucRows:
        """Work out what every record contributes.

        Args:
            scores: [M, N] NaN = undefined; higher means more likely a member.
            is_member: [N].
            groups: [N] document of each record; None means every record stands alone.
        """
        is_defined = ~np.isnan(scores)
        areas = np.full(len(scores), np.nan)
        influence = np.zeros(scores.shape)
        for row, (values, defined) in enumerate(zip(scores, is_defined, strict=True)):
            sides = defined & is_member, defined & ~is_member
            if not all(side.any() for side in sides):
                continue
            placements = placements_of(values[sides[0]], values[sides[1]])
            areas[row] = placements.members.mean()
            for side, placed in zip(sides, placements, strict=True):
                influence[row, side] = (placed - placed.mean()) / len(placed)
        return cls(areas, influence, is_defined, is_member, groups)

    def value(self, weights: FloatArray) -> float:
        """The sum of weights [M] · AUC alone, as of a single run; rows of weight 0 take no part."""
        rows = np.flatnonzero(weights)
        return float(weights[rows] @ self.auc[rows])

    def mixed(self, weights: FloatArray, *, confidence: float = 0.95) -> Mixed:
        """The sum of weights · AUC, paired over the records that rows share.

        Interval and p-value: a t quantile with one degree of freedom less than there are documents on the smaller
        side; on the logit scale for a mean of AUCs (with one row, the interval of `auc_interval`), on its own scale
        for a difference. An AUC of exactly 0 or 1 has no spread of its own; the interval then reaches further by
        its weight times the exact bound of `auc_interval`. One bound serves all such rows together, since all of
        them separate m disjoint pairs with probability at most (mean of their AUCs)^m. Where other rows have a
        spread, the bound and the t interval take half of 1 − confidence each.

        Every row uses the records that it defines. Where these differ between rows, so may what is compared, and
        the counts of `Mixed` say for how many records.

        Args:
            weights: [M]; rows of weight 0 take no part.
            confidence: Two-sided.

        Returns:
            Where rows with a spread have the same ordering and cancel, a difference of exactly 0 with error 0.
            Error, ends and p-value are NaN where the sample does not tell: a side has fewer than two documents, or
            all of them agree exactly.

        References:
            DeLong et al. 1988, Biometrics 44(3); Obuchowski 1997, Biometrics 53(2) (clusters).
        """
        rows = np.flatnonzero(weights)
        weight, areas = weights[rows], self.auc[rows]
        mixed = unanswered(weight, self.is_defined[rows], self.is_member, self.groups, confidence=confidence)
        if not len(rows) or np.isnan(areas).any():
            return mixed
        at_one, at_zero = areas == 1, areas == 0
        is_open = ~at_one & ~at_zero
        spread = self._spread(weight @ self.influence[rows], np.any(self.is_defined[rows], axis=0))
        if not is_open.any():
            spread = 0.0
        elif spread <= _NO_SPREAD * float(np.abs(weight).sum()):
            is_cancelled = max(abs(weight[is_open].sum()), abs(weight[is_open] @ areas[is_open])) < _ROUNDING
            spread = 0.0 if is_cancelled else math.nan
        hidden = Interval(
            float(np.abs(weight[np.where(weight > 0, at_one, at_zero)]).sum()),
            float(np.abs(weight[np.where(weight > 0, at_zero, at_one)]).sum()),
        )
        mixed = mixed._replace(
            value=float(weight @ areas), standard_error=math.nan if spread == 0 and any(hidden) else spread
        )
        if math.isnan(spread):
            return mixed
        interval = _interval(mixed, spread, hidden, confidence)
        return mixed._replace(
            interval=interval, p_value=_p_value(mixed, spread, hidden) if mixed.is_difference else math.nan
        )

    def _spread(self, influence: FloatArray, is_known: BoolArray) -> float:
        """Standard error of a sum with these influences [N]; NaN where a side has fewer than two documents."""
        variance = 0.0
        for side in (is_known & self.is_member, is_known & ~self.is_member):
            sums = influence[side]
            if self.groups is not None:
                _, index = np.unique(self.groups[side], return_inverse=True)
                sums = np.bincount(index, weights=sums)
            if len(sums) < 2:
                return math.nan
            variance += len(sums) / (len(sums) - 1) * float(sums @ sums)
        return math.sqrt(variance)


def mixed_auc(
    scores: FloatArray,
    weights: FloatArray,
    is_member: BoolArray,
    groups: IntArray | None = None,
    *,
    confidence: float = 0.95,
) -> Mixed:
    """One weighted sum of AUCs; to ask several things of the same rows keep an `AucRows`.

    Args:
        scores: [M, N] NaN = undefined.
        weights: [M].
        is_member: [N].
        groups: [N] document of each record; None means every record stands alone.
        confidence: Two-sided.

    >>> scores = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 1.0, 2.0]])
    >>> mixed_auc(scores, np.array([1.0, -1.0]), np.array([True, True, False, False])).value
    0.625
    """
    return AucRows.of(scores, is_member, groups).mixed(weights, confidence=confidence)


def _interval(mixed: Mixed, spread: float, hidden: Interval, confidence: float) -> Interval:
    """The t interval and, beyond it, what rows at 0 and 1 may hide: `hidden` is their weight towards either end."""
    level = 1 - confidence
    if any(hidden) and spread:
        level /= 2
    slack = 1 - (level / 2) ** (1 / mixed.n_groups)
    inner = t_interval(mixed, spread, mixed.n_groups - 1, confidence=1 - level)
    lower = max(mixed.attainable.lower, inner.lower - slack * hidden.lower)
    upper = min(mixed.attainable.upper, inner.upper + slack * hidden.upper)
    return Interval(lower, upper)


def _p_value(mixed: Mixed, spread: float, hidden: Interval) -> float:
    """Level at which the interval of a difference would just touch 0."""
    if not any(hidden):
        return t_p_value(mixed.value, spread, mixed.n_groups - 1)

    def holds_zero(level: float) -> bool:
        lower, upper = _interval(mixed, spread, hidden, 1 - level)
        return lower <= 0 <= upper

    return smallest_level(holds_zero)


def smallest_level(is_accepted: Callable[[float], bool]) -> float:
    """Smallest level in (0, 1] at which a hypothesis is rejected; 1 if it is accepted at every level."""
    low, high = 0.0, 1.0
    for _ in range(_N_HALVINGS):
        level = (low + high) / 2
        low, high = (level, high) if is_accepted(level) else (low, level)
    return high
