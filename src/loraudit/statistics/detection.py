"""How well a detector tells poisoned records from clean ones."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from loraudit.statistics.leakage import AUC, measure, rate_metric
from loraudit.types import BoolArray, Finding, FloatArray


class DetectionFindings(NamedTuple):
    """Poisoned records are counted as members, clean ones as non-members.

    Attributes:
        auroc: Area under the ROC curve.
        tpr: Share of the poisoned records that are found at the false-positive rate asked for; its value is None where
            the clean records cannot resolve that rate, and the note says why.
    """

    auroc: Finding
    tpr: Finding


def detection_findings(
    scores: FloatArray,
    is_poisoned: BoolArray,
    *,
    confidence: float,
    n_resamples: int,
    rng: np.random.Generator,
    fpr: float = 0.01,
) -> DetectionFindings:
    """AUROC and true-positive rate of a detector, with the intervals of `measure`.

    Args:
        scores: [N] NaN = undefined, which is counted; higher means more likely poisoned.
        is_poisoned: [N].
        confidence: Two-sided.
        n_resamples: Bootstrap resamples.
        rng: Their source.
        fpr: Share of clean records that may be flagged, in (0, 1].
    """
    found = measure(
        {"detector": scores}, is_poisoned, fprs=[fpr], n_resamples=n_resamples, confidence=confidence, rng=rng
    )["detector"]
    return DetectionFindings(*(_in_words(found[name]) for name in (AUC, rate_metric(fpr))))


def _in_words(found: Finding) -> Finding:
    """The note in the words of detection, where the false-positive rate is no flag."""
    if found.note is None:
        return found
    note = found.note.replace("non-members", "clean records").replace("members", "poisoned records")
    return replace(found, note=note.replace(" or ask for a larger --fpr", ""))
