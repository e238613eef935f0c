"""One score out of many: a logistic model of them, learned with the labels on other documents.

Nobody outside has the labels of the records they ask about, so this is no attack. It says how much the scores
hold together, of which each attack reads its own part.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from loraudit.statistics.intervals import Interval
from loraudit.types import BoolArray, FloatArray, IntArray

N_FOLDS = 5
FEWEST_DOCUMENTS = 100
"""On each side. Weights are learned, so that what the fusion shows grows with the documents: where the signal lies in
what sets scores apart, 400 show nine tenths of what they hold beyond guessing, 100 nearly half, 50 a sixth
(benchmarks/fusion.py), and that is no bound."""
_INVERSE_PENALTY = 0.1
"""scikit-learn's C. Ten times its default penalty: attacks read one evidence and are much alike, and without it few
records are enough to set one against another (measured: docs/statistics.md)."""
_GRADIENT = 1e-8
_SCORE_DIGITS = 6
_GAIN_DIGITS = 9
_NO_SPREAD = 1e-9


def cross_fitting_factor(n_folds: int) -> float:
    """Factor on the standard error of what is measured on cross-fitted scores.

    Every record that tests one model trains the others, so folds err together (Nadeau and Bengio 2003,
    Machine Learning 52(3), for K folds).

    >>> cross_fitting_factor(5)
    1.5
    """
    return math.sqrt(1 + n_folds / (n_folds - 1)) if n_folds > 1 else math.nan


def widened(value: float, interval: Interval, factor: float, *, lowest: float, highest: float = 1.0) -> Interval:
    """An interval with ends `factor` times as far from the value, and within what the number can be.

    >>> widened(0.5, Interval(0.4, 0.9), 1.5, lowest=0.0)
    Interval(lower=0.35, upper=1.0)
    """
    if math.isnan(interval.lower) or math.isnan(interval.upper):
        return interval
    lower, upper = (value + factor * (end - value) for end in interval)
    return Interval(max(lowest, lower), min(highest, upper))


def disjoint_folds(
    is_member: BoolArray, groups: IntArray | None, *, rng: np.random.Generator, n_folds: int = N_FOLDS
) -> IntArray:
    """[N] the fold of each record: whole documents, and of each side about as many records in every fold.

    Documents are dealt in random order, the larger first, each to the fold that has the fewest records of its side.

    Args:
        is_member: [N].
        groups: [N] document of each record, or None where each stands alone.
        rng: Source of the order.
        n_folds: K.
    """
    n_records = len(is_member)
    units = np.arange(n_records) if groups is None else np.unique(groups, return_inverse=True)[1]
    # [documents, 2] records of each on either side
    sizes = np.stack([np.bincount(units, weights=side) for side in (is_member, ~is_member)], axis=1).astype(int)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order].sum(axis=1), kind="stable")]
    held = [[0, 0] for _ in range(n_folds)]
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for unit, (n_members, n_nonmembers) in zip(order.tolist(), sizes[order].tolist(), strict=True):
        loads = [(n_members > 0) * fold[0] + (n_nonmembers > 0) * fold[1] for fold in held]
        lightest = loads.index(min(loads))
        fold_of[unit] = lightest
        held[lightest][0] += n_members
        held[lightest][1] += n_nonmembers
    return fold_of[units]


class _Design(NamedTuple):
    """What one fold's model reads.

    Attributes:
        matrix: [N, F] features of all records.
        owners: [F] the attack that each feature is made of, as a position among the names.
        is_training: [N].
    """

    matrix: FloatArray
    owners: IntArray
    is_training: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """Several scores of the same records, ready to be fused, all of them or some.

    Attributes:
        names: Scores that take more than one value, in the order of the alphabet, which decides nothing.
        n_folds: K.
        reason: Why nothing is fused, in words; None where it is.
    """

    names: tuple[str, ...]
    n_folds: int
    reason: str | None
    _columns: Mapping[str, FloatArray]
    _is_member: BoolArray
    _designs: Sequence[_Design]

    @classmethod
    def of(
        cls,
        columns: Mapping[str, FloatArray],
        is_member: BoolArray,
        *,
        groups: IntArray | None = None,
        folds: IntArray,
        fewest: int = FEWEST_DOCUMENTS,
    ) -> Fusion:
        """Scores to be fused.

        Args:
            columns: [N] per attack; NaN = undefined, infinite values are as good as others.
            is_member: [N].
            groups: [N] document of each record, or None where each stands alone.
            folds: [N] see `disjoint_folds`.
            fewest: Documents that each side must have.
        """
        # A score that is undefined for some and the same for the rest tells them apart; NaN counts as one value.
        names = tuple(name for name in sorted(columns) if len(np.unique(columns[name])) > 1)
        used = {name: columns[name] for name in names}
        n_folds = int(folds.max(initial=-1)) + 1
        reason = _unfusable(used, is_member, groups, fewest)
        numbers = () if reason else range(n_folds)
        return cls(names, n_folds, reason, used, is_member, [_design(used, folds != fold) for fold in numbers])

    def scores(self, names: Collection[str] | None = None) -> FloatArray:
        """[N] how much a logistic model of these scores, learned on the other folds, takes each record for a member.

        Each score is replaced by the normal quantile of its place among the training folds', which no outlier
        moves, and standardised there; an undefined one by the middle, with a column that says so. The model has an
        L2 penalty and weighs both sides alike, so that its log-odds estimate one quantity, the log likelihood ratio
        of member against non-member, whichever fold it learned on: scores of all folds form one ranking, without
        the ties at the top that ranks within folds would have.

        Args:
            names: Some of `names`; None means all.

        Returns:
            Log-odds to six digits, so that equal records stay equal. NaN where none of the scores is defined, and
            everywhere if there is a `reason`.
        """
        wanted = set(self.names if names is None else names)
        fused = np.full(len(self._is_member), np.nan)
        if self.reason is not None or not wanted:
            return fused
        chosen = np.array([name in wanted for name in self.names])
        for design in self._designs:
            features = design.matrix[:, chosen[design.owners]]
            is_training = design.is_training
            model = _fitted(features[is_training], self._is_member[is_training])
            fused[~is_training] = model.decision_function(features[~is_training])
        is_undefined = np.all([np.isnan(self._columns[name]) for name in wanted], axis=0)
        return np.where(is_undefined, np.nan, np.round(fused, _SCORE_DIGITS))

    def order(self, n_first: int) -> list[str]:
        """Names in the order in which least squares would take them: each adds most to those before it.

        All labels are used for it, so that it is chosen with hindsight.

        Args:
            n_first: So many at most; fewer where the rest add nothing.
        """
        if self.reason is not None:
            return []
        everyone = np.ones(len(self._is_member), dtype=bool)
        rest = np.stack([_quantiles(self._columns[name], everyone) for name in self.names], axis=1)
        rest -= rest.mean(axis=0)
        target = self._is_member - self._is_member.mean()
        n_records, total = len(target), float(target @ target)
        found: list[int] = []
        for _ in range(min(n_first, len(self.names))):
            spread = (rest**2).sum(axis=0)
            gains = np.zeros(len(self.names))
            np.divide((rest.T @ target) ** 2, spread * total, out=gains, where=spread > _NO_SPREAD * n_records)
            gains[found] = 0
            best = int(np.argmax(np.round(gains, _GAIN_DIGITS)))  # of equal ones the first, on every processor
            if gains[best] <= _NO_SPREAD:
                break
            found.append(best)
            direction = rest[:, best] / math.sqrt(spread[best])
            target = target - direction * (direction @ target)
            rest = rest - np.outer(direction, direction @ rest)
        return [self.names[position] for position in found]


def _unfusable(
    columns: Mapping[str, FloatArray], is_member: BoolArray, groups: IntArray | None, fewest: int
) -> str | None:
    """Why these scores cannot be fused."""
    if not columns:
        return "no score takes more than one value"
    is_scored = ~np.all([np.isnan(values) for values in columns.values()], axis=0)
    units = np.arange(len(is_member)) if groups is None else groups
    counts = [len(np.unique(units[is_scored & side])) for side in (is_member, ~is_member)]
    if min(counts) >= fewest:
        return None
    what = "records" if groups is None else "documents"
    return (
        f"{counts[0]:,} {what} of members and {counts[1]:,} of non-members have a score; weights learned from fewer "
        f"than {fewest} a side would show little of what the scores hold"
    )


def _design(columns: Mapping[str, FloatArray], is_training: BoolArray) -> _Design:
    features: list[FloatArray] = []
    owners: list[int] = []
    for position, values in enumerate(columns.values()):
        features.append(_quantiles(values, is_training))
        is_undefined = np.isnan(values)
        if is_undefined.any():
            features.append(is_undefined.astype(np.float64))
        owners += [position] * (len(features) - len(owners))
    return _Design(np.stack(features, axis=1), np.array(owners), is_training)


def _quantiles(values: FloatArray, is_training: BoolArray) -> FloatArray:
    """[N] normal quantiles of the places among the training records, standardised there; 0 before that if NaN."""
    is_undefined = np.isnan(values)
    known = np.sort(values[is_training & ~is_undefined])
    # Ties share the middle of their places; ends are half a place from 0 and 1.
    place = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / 2
    normal = np.where(is_undefined, 0.0, special.ndtri((place + 0.5) / (len(known) + 1)))
    spread = float(normal[is_training].std())
    return (normal - normal[is_training].mean()) / (spread if spread > _NO_SPREAD else 1.0)


def _fitted(features: FloatArray, is_member: BoolArray) -> Any:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    # Newton's method: exact to the last digits that count on any processor, in half a dozen steps.
    model: Any = LogisticRegression(
        C=_INVERSE_PENALTY, solver="newton-cholesky", tol=_GRADIENT, class_weight="balanced"
    )
    return model.fit(features, is_member)
