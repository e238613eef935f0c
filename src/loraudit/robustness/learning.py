"""Which methods learn the task at all: the others would pull all of them back to where nobody has learned it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loraudit.statistics import reach
from loraudit.types import FloatArray

LEAST_GAIN = 0.1
"""Of what the best method gains in validation loss, the share that a method has to gain itself."""


class Learning(NamedTuple):
    """What the clean arms of the methods gain over the untouched base.

    Attributes:
        lowest: Of each method that learns, the best validation loss that all of its clean runs reach, nats.
        warnings: On each method that learns next to nothing.
    """

    lowest: dict[str, float]
    warnings: list[str]


def learning_of(clean: Mapping[str, Sequence[FloatArray]]) -> Learning:
    """Methods whose every clean run gains something worth the name.

    A run's gain is its validation loss before the first step minus its lowest one; that of a method is the smallest of
    its runs. Where it is at most `LEAST_GAIN` of the best method's, and where it is none, the method is left out.

    Args:
        clean: By method, [K] validation loss of each clean run at its checkpoints, the untouched base first.

    >>> import numpy as np
    >>> fits = {"full": [np.array([0.7, 0.3])], "head": [np.array([0.7, 0.66])]}
    >>> learning_of(fits).lowest
    {'full': 0.3}
    """
    gains: dict[str, float] = {}
    lowest: dict[str, float] = {}
    for method, fits in clean.items():
        passed = [reach(fit) for fit in fits]
        known = [levels for levels in passed if levels is not None]
        if known and len(known) == len(passed):
            gains[method] = min(levels.highest - levels.lowest for levels in known)
            lowest[method] = max(levels.lowest for levels in known)
    best = max(gains.values(), default=0.0)
    learned = {method: level for method, level in lowest.items() if gains[method] > LEAST_GAIN * best}
    return Learning(learned, [_words(method, gains.get(method), best) for method in clean if method not in learned])


def _words(method: str, gain: float | None, best: float) -> str:
    if gain is None:
        return f"{method} has no validation loss: it is not compared at the same clean fit."
    if best <= 0:
        return f"{method} learns nothing: no clean validation loss below that of the untouched base is reached."
    return (
        f"{method} learns next to nothing: its clean validation loss falls by {gain:.3f} nats where that of the best "
        f"method falls by {best:.3f}. It is left out of the comparison at the same clean fit."
    )
