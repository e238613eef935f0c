"""Activation clustering: a class that poison was added to falls into two clusters, the smaller one poisoned."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from loraudit.poisoning.detection.detector import Observed, centred, detector, given, usable_classes
from loraudit.types import BoolArray, FloatArray

N_COMPONENTS = 10
_ROUNDS = 100
_ROWS_AT_ONCE = 512
_TAIL = 0.1


@detector(
    "activation_clustering",
    requires=frozenset({"representations"}),
    finds=("training records",),
    tasks=frozenset({"classification", "causal_lm"}),
    source="Chen et al. 2018, arXiv:1811.03728; starts that need no chance and the margin as score are ours",
    summary="How clearly a record lies in the smaller of its class's two clusters.",
    blind_to="Poisons that are half of a class or more, or that lie among its clean records.",
)
def activation_clustering(observed: Observed) -> FloatArray:
    """Margin towards the smaller cluster, times how clearly there are two.

    Of each class, centred and reduced to its first ten principal components of variance 1, 2-means gives centres a (of
    the larger cluster) and b. The paper's ten independent components are a rotation of these, which 2-means does not
    see; at their own scale the axis between the classes would hide the others. The score is
    silhouette · (|x − a| − |x − b|) / |a − b|, at most 1 in size: the paper judges clusters by size and mean
    silhouette, and this lets both decide the order of single records.

    Returns:
        [N]; NaN in classes of fewer than three records, of equal records, and where both clusters are equally large.
    """
    scores = np.full(len(observed.labels), np.nan)
    is_defined = np.asarray(np.isfinite(given(observed.representations)).all(axis=1))
    for members in usable_classes(observed.labels, is_defined):
        rows = centred(given(observed.representations)[members])
        if rows.any():
            scores[members] = _margins(_principal(rows))
    return scores


def _principal(rows: FloatArray) -> FloatArray:
    """[n, at most N_COMPONENTS] coordinates along the principal components, each of variance 1."""
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    kept = values > 1e-9 * values[0]
    return left[:, kept][:, :N_COMPONENTS] * np.sqrt(len(rows))


def _margins(rows: FloatArray) -> FloatArray:
    is_second = _two_means(rows)
    n_second = int(is_second.sum())
    if n_second * 2 == len(rows):
        return np.full(len(rows), np.nan)
    is_small = is_second if n_second * 2 < len(rows) else ~is_second
    large, small = rows[~is_small].mean(axis=0), rows[is_small].mean(axis=0)
    gap = np.linalg.norm(large - small)
    margins = (np.linalg.norm(rows - large, axis=1) - np.linalg.norm(rows - small, axis=1)) / gap
    return mean_silhouette(rows, is_small) * margins


def _two_means(rows: FloatArray) -> BoolArray:
    """The best of Lloyd's solutions from splits along each component: at the mean, and of either tail.

    Starts from the data's own axes make the answer independent of chance and of the order of the records.
    """
    best, found = np.inf, rows[:, 0] > 0
    for column in rows.T:
        low, high = np.quantile(column, [_TAIL, 1 - _TAIL])
        for start in (column > 0, column >= high, column <= low):
            if not start.any() or start.all():
                continue
            inertia, split = _lloyd(rows, start)
            if inertia < best * (1 - 1e-9):
                best, found = inertia, split
    return found


def _lloyd(rows: FloatArray, is_second: BoolArray) -> tuple[float, BoolArray]:
    """Sum of squared distances to the centres, and who belongs to the second; neither cluster ever empties."""
    inertia = np.inf
    for _ in range(_ROUNDS):
        centres = np.stack([rows[~is_second].mean(axis=0), rows[is_second].mean(axis=0)])
        squares = np.square(rows[:, None] - centres).sum(axis=2)
        moved = squares[:, 1] < squares[:, 0]
        inertia = float(squares.min(axis=1).sum())
        if not moved.any() or moved.all() or (moved == is_second).all():
            break
        is_second = moved
    return inertia, is_second


def mean_silhouette(rows: FloatArray, is_small: BoolArray) -> float:
    """Mean over records of (b − a) / max(a, b): a to the own cluster's others, b to the other cluster.

    A record alone in its cluster counts 0, as defined.

    References:
        Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7.
    """
    total = 0.0
    sizes = np.array([np.sum(~is_small), np.sum(is_small)])
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        distances = cdist(rows[part], rows)
        sums = np.stack([distances[:, ~is_small].sum(axis=1), distances[:, is_small].sum(axis=1)], axis=1)
        own = is_small[part].astype(np.int64)
        at = np.arange(len(own))
        within = sums[at, own] / np.maximum(sizes[own] - 1, 1)
        across = sums[at, 1 - own] / sizes[1 - own]
        largest = np.maximum(within, across)
        values = np.divide(across - within, largest, out=np.zeros_like(largest), where=largest > 0)
        total += float(np.where(sizes[own] > 1, values, 0.0).sum())
    return total / len(rows)
