"""From single pairs of units that are alike to passages: recursive clustering, validation and overlaps.

A case is a row of four numbers: first and last unit here, first and last unit of the source.

References:
    Sanchez-Perez, Sidorov and Gelbukh 2014, The winning approach to text alignment for text reuse detection at
        PAN 2014.
"""

from __future__ import annotations

import numpy as np

from loraudit.memorization.plagiarism.similarity import ROUNDING, Compared
from loraudit.types import BoolArray, FloatArray, IntArray


def extend(compared: Compared, *, gap: int, validation: float) -> IntArray:
    """[C, 4] cases: seeds that stand close together on both sides, and whose passages are alike as a whole.

    Args:
        compared: With its seeds.
        gap: Most units between neighbouring seeds of a case, on either side. A case that is not alike as a whole is cut
            again with a smaller gap, down to 0.
        validation: The cosine of the two passages must be over it.
    """
    seeds, allowed = compared.seeds, gap
    labels = np.zeros(len(seeds), dtype=np.int64)
    cases: list[IntArray] = [np.empty((0, 4), dtype=np.int64)]
    while len(seeds) and allowed >= 0:
        labels = cluster(seeds, labels, allowed)
        found = _bounds(seeds, labels)
        is_alike = compared.fragment_cosines(found) > validation + ROUNDING
        cases.append(found[is_alike])
        is_open = ~is_alike[labels]
        seeds, labels = seeds[is_open], labels[is_open]
        allowed = widest_gap(seeds, labels) - 1  # any gap in between would leave all clusters as they are
    return np.concatenate(cases)


def cluster(seeds: IntArray, labels: IntArray, gap: int) -> IntArray:
    """[S] finer labels 0, 1, …: no cluster has more than `gap` units without a seed between its seeds, on any side.

    Args:
        seeds: [S, 2] pairs of units.
        labels: [S] clusters so far; a new one lies inside one of them.
        gap: In units.
    """
    if len(seeds) < 2:
        return np.zeros(len(seeds), dtype=np.int64)
    n_clusters = 0
    while True:
        for side in (0, 1):
            labels = _split(labels, seeds[:, side], gap)
        if int(labels.max(initial=-1)) + 1 == n_clusters:
            return labels
        n_clusters = int(labels.max(initial=-1)) + 1


def widest_gap(seeds: IntArray, labels: IntArray) -> int:
    """Most units without a seed between neighbouring seeds of a cluster, on any side; −1 for none."""
    widest = -1
    for positions in seeds.T if len(seeds) > 1 else ():
        order = np.lexsort((positions, labels))
        steps = np.diff(positions[order])[np.diff(labels[order]) == 0]
        widest = max(widest, int(steps.max(initial=0)) - 1)
    return widest


def _split(labels: IntArray, positions: IntArray, gap: int) -> IntArray:
    order = np.lexsort((positions, labels))
    is_new: BoolArray = (np.diff(labels[order]) > 0) | (np.diff(positions[order]) > gap + 1)
    finer = np.zeros(len(labels), dtype=np.int64)
    finer[order[1:]] = np.cumsum(is_new)
    return finer


def _bounds(seeds: IntArray, labels: IntArray) -> IntArray:
    """[C, 4] first and last unit of each cluster on both sides."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    ends = [(np.minimum.reduceat(s, starts), np.maximum.reduceat(s, starts)) for s in seeds[order].T]
    return np.stack([*ends[0], *ends[1]], axis=1)


def without_overlaps(compared: Compared, cases: IntArray) -> IntArray:
    """[≤ C, 4] the cases from left to right; of two that share a unit here, the better one.

    Args:
        compared: Of which they are cases.
        cases: [C, 4].
    """
    kept: list[IntArray] = []
    for case in cases[np.lexsort(cases.T[::-1])]:
        if not kept or case[0] > kept[-1][1]:
            kept.append(case)
        elif quality(compared, case, kept[-1]) > quality(compared, kept[-1], case) + ROUNDING:
            kept[-1] = case
    return np.array(kept, dtype=np.int64).reshape(-1, 4)


def quality(compared: Compared, case: IntArray, other: IntArray) -> float:
    """The quality o + (1 − o) n of a case that shares units here with another.

    o is over the units that they share, n over those that it has alone: means of the largest cosine with a unit of the
    case's source; n is 0 where it has nothing alone.
    """
    here: IntArray = np.arange(int(case[0]), int(case[1]) + 1)
    cosines = compared.cosines(range(int(case[0]), int(case[1]) + 1), range(int(case[2]), int(case[3]) + 1))
    best: FloatArray = cosines.max(axis=1)
    is_shared: BoolArray = (here >= other[0]) & (here <= other[1])
    shared = float(best[is_shared].mean())
    alone = float(best[~is_shared].mean()) if not is_shared.all() else 0.0
    return shared + (1 - shared) * alone
