"""Where along training runs are compared: at the same fit, or after the same number of epochs.

A place along a run is a vector of weights over its checkpoints: one entry of 1 at a checkpoint, or two entries
that sum to 1 between two of them. Whatever was measured at the checkpoints, epochs and leakage alike, is then
read off by `weights @ values`: a straight line between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from loraudit.types import FloatArray

_ROUNDING = 1e-9


class Reach(NamedTuple):
    """The levels of fit that one run passes on its way down.

    Attributes:
        lowest: Best fit of any checkpoint.
        highest: Fit of the first checkpoint that has one; before it nothing is known.
    """

    lowest: float
    highest: float


def reach(fit: FloatArray) -> Reach | None:
    """The levels at which a run has a place; None if no checkpoint has a fit.

    Args:
        fit: [K] loss of each checkpoint in the order of training, lower = better. A checkpoint whose fit is not
            finite is taken as not saved.
    """
    known = fit[np.isfinite(fit)]
    return Reach(float(known.min()), float(known[0])) if len(known) else None


def crossing(fit: FloatArray, level: float) -> FloatArray | None:
    """Place where a run first reaches this level of fit, coming from above.

    With k the first checkpoint at or below the level and j the last one before it, the weights are
    w_j = (level − fit_k) / (fit_j − fit_k) and w_k = 1 − w_j. What the fit does afterwards, as when the run
    overfits, does not matter.

    Args:
        fit: [K] loss of each checkpoint in the order of training, lower = better. A checkpoint whose fit is not
            finite is taken as not saved.
        level: On the scale of `fit`.

    Returns:
        [K] weights of at most two checkpoints, which sum to 1; None where the run never gets so low, or where
        its first checkpoint is already below the level.

    >>> crossing(np.array([4.0, 3.0, 2.0, 2.5]), 2.25).tolist()
    [0.0, 0.25, 0.75, 0.0]
    """
    passed = reach(fit)
    if passed is None or not passed.lowest <= level <= passed.highest:
        return None
    known = np.flatnonzero(np.isfinite(fit))
    first = int(np.argmax(fit[known] <= level))
    weights = np.zeros(len(fit))
    if fit[known[first]] == level:
        weights[known[first]] = 1.0
        return weights
    before, after = known[first - 1], known[first]
    weights[before] = (level - fit[after]) / (fit[before] - fit[after])
    weights[after] = 1 - weights[before]
    return weights


def common_level(fits: Iterable[FloatArray]) -> float | None:
    """The best fit that every run reaches: the largest of their lowest losses.

    It is picked from the same runs, and a loss measured on few validation tokens is not exact; neither is in the
    intervals of what is compared there.

    Args:
        fits: [K] of each run, as in `crossing`; K may differ.

    Returns:
        None where no level is passed by all: a run has no fit at all, or begins below where another ends.

    >>> common_level([np.array([4.0, 2.0, 2.5]), np.array([4.0, 3.0])])
    3.0
    """
    passed = [reach(fit) for fit in fits]
    known = [levels for levels in passed if levels is not None]
    if not known or len(known) < len(passed):
        return None
    level = max(levels.lowest for levels in known)
    return level if level <= min(levels.highest for levels in known) else None


def at_epoch(epochs: FloatArray, epoch: float) -> FloatArray | None:
    """Place of the checkpoint saved at this epoch.

    Args:
        epochs: [K] passes over the training set before each checkpoint.
        epoch: One of them.

    Returns:
        [K] weights with a single 1; None if no checkpoint was saved then.

    >>> at_epoch(np.array([0.0, 1.0, 2.0]), 1).tolist()
    [0.0, 1.0, 0.0]
    """
    found = np.flatnonzero(np.abs(epochs - epoch) < _ROUNDING)
    if not len(found):
        return None
    weights = np.zeros(len(epochs))
    weights[found[0]] = 1.0
    return weights


def between(epochs: FloatArray, epoch: float) -> FloatArray | None:
    """Place at an epoch that need not be that of a checkpoint; a run that ended earlier is read where it ended.

    Args:
        epochs: [K] passes over the training set before each checkpoint, rising.
        epoch: Any.

    Returns:
        [K] weights of at most two neighbouring checkpoints, which sum to 1; None before the first.

    >>> between(np.array([0.0, 1.0, 2.0]), 1.25).tolist()
    [0.0, 0.75, 0.25]
    """
    if epoch < epochs[0] - _ROUNDING:
        return None
    weights = np.zeros(len(epochs))
    after = int(np.searchsorted(epochs, epoch - _ROUNDING))
    if after == len(epochs) or abs(epochs[after] - epoch) <= _ROUNDING:
        weights[min(after, len(epochs) - 1)] = 1.0
        return weights
    weights[after] = (epoch - epochs[after - 1]) / (epochs[after] - epochs[after - 1])
    weights[after - 1] = 1 - weights[after]
    return weights


def mean_over_runs(places: Sequence[FloatArray], first_rows: Sequence[int], n_rows: int) -> FloatArray:
    """Weights that average several runs, each at its own place, over the checkpoints of all runs.

    The difference between two tuning methods is `mean_over_runs(…) - mean_over_runs(…)`.

    Args:
        places: [K] weights of each of S runs.
        first_rows: Row at which the checkpoints of each run begin.
        n_rows: M, checkpoints of all runs together.

    Returns:
        [M] weights that sum to 1.

    >>> mean_over_runs([np.array([0.0, 1.0]), np.array([0.5, 0.5])], [0, 2], 4).tolist()
    [0.0, 0.5, 0.25, 0.25]
    """
    weights = np.zeros(n_rows)
    for place, first in zip(places, first_rows, strict=True):
        weights[first : first + len(place)] += place / len(places)
    return weights
