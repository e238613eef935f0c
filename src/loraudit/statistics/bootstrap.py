"""Stratified, clustered bootstrap of the rates of many attacks at once.

Every attack sees the same resamples. A resample is a vector of weights (how often each record
was drawn), so the scores are sorted once per attack and each resample costs two cumulative sums
over the part of the ranking that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.statistics.auc import placements_of
from loraudit.statistics.rates import allowed_false_positives, standardised_partial_area
from loraudit.types import BoolArray, FloatArray, IntArray

_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class ResampledRates:
    """Bootstrap distributions of one attack's rates.

    Attributes:
        tpr: [len(fprs), B].
        partial_auc: [B] standardised, up to the `max_fpr` asked for.
        auc: [B] linearised: the AUC plus the resampled means of DeLong's placements about it.
    """

    tpr: FloatArray
    partial_auc: FloatArray
    auc: FloatArray


def resample_rates(
    scores: Mapping[str, FloatArray],
    is_member: BoolArray,
    *,
    fprs: Sequence[float],
    max_fpr: float,
    n_resamples: int,
    rng: np.random.Generator,
    groups: IntArray | None = None,
) -> dict[str, ResampledRates]:
    """Bootstrap distributions of TPR at each FPR and of the partial AUC.

    Members and non-members are resampled apart; whole groups where `groups` is given. The number
    of false positives allowed is recomputed in every resample.

    Args:
        scores: [N] per attack; NaN records take no part in that attack.
        is_member: [N].
        fprs: In [0, 1].
        max_fpr: In (0, 1].
        n_resamples: B.
        rng: Source of the resamples.
        groups: [N] document of each record.
    """
    rankings = {
        name: _Ranking.of(values, is_member, max_share=max([*fprs, max_fpr])) for name, values in scores.items()
    }
    tpr: dict[str, list[FloatArray]] = {name: [] for name in rankings}
    area: dict[str, list[FloatArray]] = {name: [] for name in rankings}
    whole: list[FloatArray] = []
    influence = _Influence.of(scores, is_member)
    where = np.flatnonzero(is_member), np.flatnonzero(~is_member)
    for member_weights, nonmember_weights in _weights(where, groups, n_resamples, rng):
        for name, ranking in rankings.items():
            rates, areas = ranking.rates(member_weights, nonmember_weights, fprs, max_fpr)
            tpr[name].append(rates)
            area[name].append(areas)
        whole.append(influence.areas(member_weights, nonmember_weights))
    auc = np.concatenate(whole)
    return {
        name: ResampledRates(np.concatenate(tpr[name], axis=1), np.concatenate(area[name]), auc[:, column])
        for column, name in enumerate(rankings)
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Influence:
    """What each record contributes to each attack's AUC: a resample then costs one product of matrices.

    Attributes:
        auc: [M] of the sample, NaN where a side is empty.
        members: [n1, M] placements about the AUC, 0 where the score is undefined.
        nonmembers: [n0, M] likewise.
        is_defined: [n1, M] and [n0, M] which scores are.
    """

    auc: FloatArray
    members: FloatArray
    nonmembers: FloatArray
    is_defined: tuple[FloatArray, FloatArray]

    @classmethod
    def of(cls, scores: Mapping[str, FloatArray], is_member: BoolArray) -> _Influence:
        n_members = int(is_member.sum())
        areas = np.full(len(scores), np.nan)
        sides = [np.zeros((n, len(scores)), dtype=np.float32) for n in (n_members, len(is_member) - n_members)]
        defined = [np.zeros_like(side) for side in sides]
        for column, values in enumerate(scores.values()):
            of_side = [values[is_member], values[~is_member]]
            known = [~np.isnan(side) for side in of_side]
            if not all(side.any() for side in known):
                continue
            found = placements_of(of_side[0][known[0]], of_side[1][known[1]])
            areas[column] = found.members.mean()
            for side, mask, which, placed in zip(sides, known, defined, found, strict=True):
                side[mask, column] = placed - areas[column]
                which[:, column] = mask
        return cls(areas, sides[0], sides[1], (defined[0], defined[1]))

    def areas(self, member_weights: IntArray, nonmember_weights: IntArray) -> FloatArray:
        """[b, M] resampled AUCs."""
        total = np.broadcast_to(self.auc, (len(member_weights), len(self.auc)))
        pairs = zip((member_weights, nonmember_weights), (self.members, self.nonmembers), self.is_defined, strict=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            for weights, placed, defined in pairs:
                drawn = weights.astype(np.float32)
                total = total + (drawn @ placed) / (drawn @ defined)
        return total.astype(np.float64)


def _weights(
    sides: tuple[IntArray, IntArray], groups: IntArray | None, n_resamples: int, rng: np.random.Generator
) -> Iterator[tuple[IntArray, IntArray]]:
    """Blocks of [b, n] weights for members and for non-members."""
    units: list[tuple[IntArray | None, int]] = []
    for side in sides:
        if groups is None:
            units.append((None, len(side)))
        else:
            _, index = np.unique(groups[side], return_inverse=True)
            units.append((index, int(index.max()) + 1))
    block = max(1, _CELLS_AT_ONCE // max(len(side) for side in sides))
    for start in range(0, n_resamples, block):
        size = min(block, n_resamples - start)
        drawn: list[IntArray] = []
        for index, n_units in units:
            weights = np.empty((size, n_units), dtype=np.uint16)
            for row in weights:
                row[:] = np.bincount(rng.integers(0, n_units, n_units), minlength=n_units)
            drawn.append(weights if index is None else weights[:, index])
        yield drawn[0], drawn[1]


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """One attack's scores, sorted once.

    Attributes:
        members: [n1'] positions among the members, highest score first, NaN left out.
        nonmembers: [n0'] likewise.
        n_above: [n0'] members strictly above each non-member in that order.
        n_not_below: [n0'] members at or above it.
        block_ends: [U] last position of each run of equal non-member scores.
        n_leading: How many leading non-members are expected to decide every rate.
        n_above_all: Members above −inf, the threshold when every non-member may be a false positive.
    """

    members: IntArray
    nonmembers: IntArray
    n_above: IntArray
    n_not_below: IntArray
    block_ends: IntArray
    n_leading: int
    n_above_all: int

    @classmethod
    def of(cls, values: FloatArray, is_member: BoolArray, max_share: float) -> _Ranking:
        sides: list[IntArray] = []
        for side in (values[is_member], values[~is_member]):
            order = np.argsort(-side, kind="stable")  # NaN sorts last
            sides.append(order[: len(side) - int(np.isnan(side).sum())])
        members, nonmembers = sides
        ascending = values[is_member][members][::-1]
        ranked = values[~is_member][nonmembers]
        n_nonmembers = len(nonmembers)
        block_ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), n_nonmembers - 1)
        spread = 8 * np.sqrt(max(n_nonmembers, 1) * max_share * (1 - max_share)) + 20
        expected = min(n_nonmembers, int(n_nonmembers * max_share + spread))
        # Up to the end of a run of ties: part of a run would count as a shorter run.
        n_leading = int(block_ends[np.searchsorted(block_ends, expected - 1)]) + 1 if n_nonmembers else 0
        return cls(
            members,
            nonmembers,
            len(members) - np.searchsorted(ascending, ranked, side="right"),
            len(members) - np.searchsorted(ascending, ranked, side="left"),
            block_ends,
            n_leading,
            int(np.sum(ascending > -np.inf)),
        )

    def rates(
        self, member_weights: IntArray, nonmember_weights: IntArray, fprs: Sequence[float], max_fpr: float
    ) -> tuple[FloatArray, FloatArray]:
        """[len(fprs), b] and [b]; NaN where a resample left a side empty."""
        n_resamples = len(member_weights)
        if len(self.members) == 0 or len(self.nonmembers) == 0:
            return np.full((len(fprs), n_resamples), np.nan), np.full(n_resamples, np.nan)
        n_drawn = _total(nonmember_weights, self.nonmembers)
        n_members = _total(member_weights, self.members)
        leading = self.n_leading
        drawn_by = _cumulative(nonmember_weights, self.nonmembers[:leading])
        if (drawn_by[:, -1] <= max([*fprs, max_fpr]) * n_drawn + 1).any():
            # Rare, or small or clustered samples: some resample reaches beyond the leading part.
            leading = len(self.nonmembers)
            drawn_by = _cumulative(nonmember_weights, self.nonmembers)
        last_block = int(np.searchsorted(self.block_ends, leading - 1))
        ends = np.minimum(self.block_ends[: last_block + 1], leading - 1)
        hits_by = _cumulative(member_weights, self.members[: int(self.n_not_below[ends[-1]])])
        hits_by = np.concatenate([np.zeros((n_resamples, 1), dtype=hits_by.dtype), hits_by], axis=1)
        rows = np.arange(n_resamples)
        everybody = _total(member_weights, self.members[: self.n_above_all])
        with np.errstate(invalid="ignore", divide="ignore"):
            tpr = np.empty((len(fprs), n_resamples))
            for i, fpr in enumerate(fprs):
                allowed = allowed_false_positives(n_drawn, fpr)
                position = (drawn_by <= allowed[:, None]).sum(axis=1)
                is_open = position >= leading
                found = hits_by[rows, self.n_above[np.minimum(position, leading - 1)]]
                tpr[i] = np.where(is_open, everybody, found) / n_members
            before = np.concatenate([np.zeros((n_resamples, 1)), drawn_by[:, ends[:-1]]], axis=1)
            width = drawn_by[:, ends] - before
            limit = (max_fpr * n_drawn)[:, None]
            share = np.where(width > 0, np.clip((limit - before) / width, 0, 1), 0)
            height = hits_by[:, self.n_above[ends]]
            rise = hits_by[:, self.n_not_below[ends]] - height
            area = (width * share * (height + share * rise / 2)).sum(axis=1) / (n_drawn * n_members)
        empty = (n_drawn == 0) | (n_members == 0)
        tpr[:, empty] = np.nan
        return tpr, np.asarray(standardised_partial_area(area, max_fpr))


def _total(weights: IntArray, columns: IntArray) -> FloatArray:
    if len(columns) == weights.shape[1]:
        return weights.sum(axis=1, dtype=np.float64)
    return weights[:, columns].sum(axis=1, dtype=np.float64)


def _cumulative(weights: IntArray, columns: IntArray) -> IntArray:
    return np.cumsum(weights[:, columns], axis=1, dtype=np.int32)
