"""Spectral signatures: what poisoned records of a class have in common shows in its top singular direction."""

from __future__ import annotations

import numpy as np

from loraudit.poisoning.detection.detector import Observed, centred, detector, given, usable_classes
from loraudit.types import FloatArray, IntArray


@detector(
    "spectral_signatures",
    requires=frozenset({"representations"}),
    finds=("training records",),
    tasks=frozenset({"classification", "causal_lm"}),
    source="Tran et al. 2018, arXiv:1811.00636 (a language model's records are one class: ours)",
    summary="Squared projection on the top singular direction of the record's class, centred.",
    blind_to="Poisons too few, or too like the rest, to bend that direction; natural subgroups of a class look alike.",
)
def spectral_signatures(observed: Observed) -> FloatArray:
    """[N] in squared units of the representation."""
    return spectral_scores(given(observed.representations), observed.labels)


def spectral_scores(representations: FloatArray, labels: IntArray, *, n_directions: int = 1) -> FloatArray:
    """Squared length of each record's projection on the top singular directions of its class.

    Features are centred class by class first: otherwise the top direction is the class's mean, in which a record
    stands out by its length alone.

    Args:
        representations: [N, d]; a row with NaN has no score and no part in its class.
        labels: [N].
        n_directions: Of the paper 1.

    Returns:
        [N]; NaN in classes of fewer than three records, and where all records of a class are equal.
    """
    scores = np.full(len(labels), np.nan)
    is_defined = np.asarray(np.isfinite(representations).all(axis=1))
    for members in usable_classes(labels, is_defined):
        rows = centred(representations[members])
        if not rows.any():
            continue
        directions = np.linalg.svd(rows, full_matrices=False)[2][:n_directions]
        scores[members] = np.square(rows @ directions.T).sum(axis=1)
    return scores
