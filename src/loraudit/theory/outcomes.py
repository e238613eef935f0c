"""What predicted outputs mean: loss on clean records, the time of equal loss, accuracy, attack success."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from scipy import optimize, stats

from loraudit.errors import ConfigError, DataError, unknown_name
from loraudit.statistics import wilson
from loraudit.theory.estimates import Curve
from loraudit.theory.prediction import check_signs, targets_of
from loraudit.types import BoolArray, FloatArray

Loss = Literal["logistic", "squared"]


def clean_loss(
    outputs: FloatArray, labels: FloatArray, *, loss: Loss = "logistic", scale: float = 1.0, confidence: float = 0.95
) -> Curve:
    """[T] mean loss over clean records as a function of time, with Student's t over records.

    Args:
        outputs: [T, p] predicted f of each record.
        labels: [p] −1 or 1, those without poison.
        loss: "logistic", log(1 + e^{−y f}) in nats; or "squared", ½ (f − scale · y)².
        scale: Of the targets of the squared loss.
        confidence: Two-sided.

    Raises:
        DataError: Labels do not fit the outputs or are neither −1 nor 1.
        ConfigError: The loss is unknown, or the scale not above 0.
    """
    _check(outputs, labels)
    if loss not in get_args(Loss):
        raise unknown_name("loss", loss, get_args(Loss))
    if loss == "logistic":
        losses = np.logaddexp(0.0, -labels * outputs)
    else:
        losses = (outputs - targets_of(labels, scale=scale)) ** 2 / 2
    n, empty = len(labels), np.full(len(outputs), np.nan)
    if n == 0:
        return Curve(empty, empty, empty, 0)
    means = losses.mean(axis=1)
    if n == 1:
        return Curve(means, empty, empty, 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * losses.std(axis=1, ddof=1) / math.sqrt(n)
    return Curve(means, np.maximum(means - half, 0.0), means + half, n)


def time_at_loss(loss_at: Callable[[FloatArray], FloatArray], level: float, *, times: FloatArray) -> float | None:
    """The first time at which the loss falls to a level: where tuning methods are compared at equal fit.

    The first of `times` at or below the level brackets it, and a root finder finds it between. A dip to the level
    between two neighbouring times is not seen: give them close together.

    Args:
        loss_at: [k] times → [k] losses, continuous in time.
        level: On the scale of the loss.
        times: [T] ascending, from the beginning to the latest that counts.

    Returns:
        None where it never falls so far, or is below the level from the beginning. A loss that is not finite is taken
        as above the level; where one stands just before, there is nothing to search between and the later time counts.

    Raises:
        ConfigError: The level is not finite.

    >>> time_at_loss(lambda t: np.exp(-t), 0.5, times=np.array([0.0, 1.0, 2.0]))
    0.6931471805599453
    """
    if not math.isfinite(level):
        raise ConfigError(f"Level {level} of the loss is not finite. Expected a number. Give another.")
    losses = loss_at(times)
    reached = np.flatnonzero(losses <= level)
    if not len(reached):
        return None
    first = int(reached[0])
    latest = float(times[first])
    if losses[first] == level:
        return latest
    if first == 0:
        return None
    if not np.isfinite(losses[first - 1]):
        return latest

    def above(time: float) -> float:
        return float(loss_at(np.array([time]))[0]) - level

    return float(optimize.brentq(above, float(times[first - 1]), latest, xtol=1e-12 * latest))


def predicted_accuracy(outputs: FloatArray, labels: FloatArray, *, confidence: float = 0.95) -> Curve:
    """[T] share of records whose output has the sign of their label, with Wilson's interval over records.

    An output of 0 decides nothing and is counted as wrong.

    Args:
        outputs: [T, p] predicted f.
        labels: [p] −1 or 1.
        confidence: Two-sided.

    Returns:
        NaN without records.

    Raises:
        DataError: Labels do not fit the outputs or are neither −1 nor 1.
    """
    _check(outputs, labels)
    return _shares(outputs * labels > 0, confidence)


def predicted_success(
    outputs: FloatArray, labels: FloatArray, *, target: Literal[-1, 1], confidence: float = 0.95
) -> Curve:
    """[T] share of triggered records of other classes that are predicted to become the target.

    Args:
        outputs: [T, p] predicted f of records that hold the trigger.
        labels: [p] their labels without poison; those of the target are left out and not in n.
        target: Class of the attack.
        confidence: Two-sided; Wilson's interval over records.

    Returns:
        NaN where every record is of the target's class.

    Raises:
        DataError: Labels do not fit the outputs or are neither −1 nor 1.
        ConfigError: The target is neither −1 nor 1.
    """
    _check(outputs, labels)
    if target not in (-1, 1):
        raise ConfigError(f"Target {target} is no class. Expected -1 or 1. Give one of them.")
    return _shares(outputs[:, labels != target] * target > 0, confidence)


def _shares(hits: BoolArray, confidence: float) -> Curve:
    n = hits.shape[1]
    if n == 0:
        empty = np.full(len(hits), np.nan)
        return Curve(empty, empty, empty, 0)
    counts = hits.sum(axis=1)
    ends = np.array([wilson(float(count), n, confidence=confidence) for count in counts]).reshape(-1, 2)
    return Curve(counts / n, ends[:, 0], ends[:, 1], n)


def _check(outputs: FloatArray, labels: FloatArray) -> None:
    if outputs.ndim != 2 or labels.shape != outputs.shape[1:]:
        raise DataError(
            f"Outputs of shape {list(outputs.shape)} and labels of shape {list(labels.shape)} do not fit. Expected "
            "[T, p] and [p]. Give one label per record."
        )
    if not np.isfinite(outputs).all():
        raise DataError("Outputs hold values that are not finite. Expected numbers. Predict shorter times.")
    check_signs(labels)
