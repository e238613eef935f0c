"""Spectral entropy of gradients: records that pull the same way narrow the spectrum of their class."""

from __future__ import annotations

import numpy as np

from loraudit.poisoning.detection.detector import (
    Observed,
    centred,
    detector,
    given,
    usable_classes,
    without_excess_dimensions,
)
from loraudit.types import FloatArray

_NUMBERS_AT_ONCE = 1 << 22


@detector(
    "gradient_spectral_entropy",
    requires=frozenset({"gradients"}),
    finds=("training records",),
    tasks=frozenset({"classification", "causal_lm"}),
    source="Ours, after the covariance's von Neumann entropy; centring as of arXiv:1811.00636",
    summary="How much the spectral entropy of the class's gradients rises when the record is left out.",
    blind_to="Poisons too few to hold more of the gradients' energy than an even share of the directions.",
)
def gradient_spectral_entropy(observed: Observed) -> FloatArray:
    """Rise of the spectral entropy of a class's gradients without the record.

    Of the gradients of a class, each brought to length 1 and the class's mean of those taken off, the spectrum is the
    eigenvalues of Σ g gᵀ divided by their sum, and its entropy −Σ p log p, in nats. Records that all pull one way put
    energy into few directions: the entropy is low, and rises when one of them is left out. A record with a way of its
    own widens the spectrum: without it the entropy falls. Each record is left out exactly, not to first order; the
    centre stays that of the whole class.

    Returns:
        [N] nats; NaN in classes of fewer than three records, where all gradients agree, and for a gradient of 0.
    """
    gradients = given(observed.gradients).astype(np.float64)
    lengths = np.linalg.norm(gradients, axis=1)
    scores = np.full(len(lengths), np.nan)
    is_defined = np.isfinite(lengths) & (lengths > 0)
    for members in usable_classes(observed.labels, is_defined):
        rows = centred(gradients[members] / lengths[members, None])
        if rows.any():
            scores[members] = entropy_rises(without_excess_dimensions(rows))
    return scores


def entropy_rises(rows: FloatArray) -> FloatArray:
    """[n] spectral entropy of `rows` [n, k] without each row, minus that with all; NaN where nothing is left."""
    whole = rows.T @ rows
    entropy = float(spectral_entropy(np.linalg.eigvalsh(whole)[None])[0])
    size = max(1, _NUMBERS_AT_ONCE // whole.size)
    parts: list[FloatArray] = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        without = whole - some[:, :, None] * some[:, None, :]
        parts.append(spectral_entropy(np.linalg.eigvalsh(without)) - entropy)
    return np.concatenate(parts)


def spectral_entropy(eigenvalues: FloatArray) -> FloatArray:
    """[n] −Σ p log p, nats, of p = eigenvalues / their sum.

    Args:
        eigenvalues: [n, k]; below 0 by rounding counts as 0.

    Returns:
        NaN where all are 0.
    """
    values = np.maximum(eigenvalues, 0.0)
    total = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, total, out=np.full_like(values, np.nan), where=total > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(axis=1)
