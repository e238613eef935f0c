"""Whether a classifier has learned anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def is_most_frequent(label: str, counts: Mapping[str, int]) -> bool:
    """Whether a label is strictly more frequent than every other, so that a guess of it is the best there is.

    Args:
        label: One that has no count is not.
        counts: Records of each label.

    >>> is_most_frequent("a", {"a": 3, "b": 2}), is_most_frequent("a", {"a": 3, "b": 3})
    (True, False)
    """
    others = [n for other, n in counts.items() if other != label]
    return label in counts and bool(others) and counts[label] > max(others)


def collapsed(predictions: NDArray[Any], labels: NDArray[Any], *, confidence: float = 0.95) -> bool:
    """Whether a run predicts one class only, or is not shown to be better than guessing the commonest class.

    Better is judged on the records where just one of the two is right, the run's prediction or the guess: the run
    must win so many of them that a fair coin would with probability at most 1 − confidence (exact sign test, one
    tail). So an accuracy a hair above the commonest class's share is collapsed, and on few records a working
    classifier may be called so too: 14 of 20 right where classes are even.

    Args:
        predictions: [N] classes, as numbers or names.
        labels: [N] true classes. The commonest is taken from them; of several the first in order.
        confidence: Of that test.

    Raises:
        ValueError: There is no record, or as many predictions as labels there are not.

    References:
        Dixon and Mood 1946, Journal of the American Statistical Association 41(236) (sign test).

    >>> labels = np.array([0, 1] * 10)
    >>> collapsed(np.zeros(20), labels), collapsed(labels, labels)
    (True, False)
    """
    if predictions.shape != labels.shape or not len(labels):
        raise ValueError(
            f"{len(predictions)} predictions cannot be judged by {len(labels)} labels. "
            "Expected one of each per record, and at least one record."
        )
    if len(np.unique(predictions)) == 1:
        return True
    classes, counts = np.unique(labels, return_counts=True)
    is_right, is_guessed = predictions == labels, labels == classes[counts.argmax()]
    n_won, n_lost = int((is_right & ~is_guessed).sum()), int((~is_right & is_guessed).sum())
    return bool(stats.binom.sf(n_won - 1, n_won + n_lost, 0.5) > 1 - confidence)
