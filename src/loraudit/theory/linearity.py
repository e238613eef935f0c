"""Whether a kernel may be believed: real steps against what it predicts of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loraudit.errors import ConfigError, DataError
from loraudit.statistics import Interval
from loraudit.theory.estimates import Estimate, jackknife
from loraudit.types import FloatArray, IntArray

_SHARES = Interval(0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Linearity:
    """Linearisation errors by step size, and what follows.

    Attributes:
        errors: By learning rate of the step, ascending.
        limit: Largest error at which a prediction is shown.
    """

    errors: Mapping[float, Estimate]
    limit: float

    @property
    def largest_trusted(self) -> float | None:
        """Largest step whose error is within the limit; None where none is. An undefined error is not within it."""
        return max((step for step, error in self.errors.items() if error.value <= self.limit), default=None)

    def refusal(self, step: float) -> str | None:
        """Why a prediction for training with this step is not shown; None where it may be.

        It may be where the smallest step that was tried and is at least as large is within the limit: errors of steps
        that were not tried are not guessed beyond them. At very small steps rounding of f makes an error of its own,
        which is no reason to refuse larger ones.

        Args:
            step: Learning rate of the training that is predicted.
        """
        tried = [size for size in self.errors if size >= step]
        if not tried:
            return (
                f"Step {step:g} was not tried: the largest real step was {max(self.errors):g}. Expected a check at "
                "this step or a larger one. Check it."
            )
        error = self.errors[tried[0]]
        if error.value <= self.limit:
            return None
        shown = "undefined: f did not move" if math.isnan(error.value) else f"{error.value:.2f}"
        trusted = self.largest_trusted
        known = "No step that was tried is within it." if trusted is None else f"Up to a step of {trusted:g} it is."
        return (
            f"The linearisation error of a step of {tried[0]:g} is {shown} over {error.n} records. Expected at most "
            f"{self.limit:g}. {known} Lower the learning rate, or take the measured run instead."
        )


def predicted_change(
    cross: FloatArray, residual: FloatArray, *, learning_rate: float, is_mean: bool = True
) -> FloatArray:
    """[p] η K(X*, X) residual: what one small step of gradient descent changes in f.

    Args:
        cross: [p, n] K(X*, X).
        residual: [n] −∂loss/∂f of each trained record: y − f for the squared loss, y σ(−y f) for the logistic one.
        learning_rate: η.
        is_mean: Whether the loss is divided by n.

    Raises:
        DataError: Shapes do not fit.
    """
    if cross.ndim != 2 or residual.shape != cross.shape[1:]:
        raise DataError(
            f"Kernel of shape {list(cross.shape)} and residuals of shape {list(residual.shape)} do not fit. Expected "
            "[p, n] and [n]. Give one residual per trained record."
        )
    return (learning_rate / len(residual) if is_mean else learning_rate) * (cross @ residual)


def linearisation_error(
    before: FloatArray,
    after: FloatArray,
    predicted: FloatArray,
    *,
    confidence: float = 0.95,
    groups: IntArray | None = None,
) -> Estimate:
    """‖Δf − predicted‖ / ‖Δf‖ with Δf = after − before, over records; 0 = exactly linear, 1 = as bad as no prediction.

    Args:
        before: [m] f before a real step.
        after: [m] f after it.
        predicted: [m] the change that the kernel predicts.
        confidence: Two-sided; jackknife over records, or documents.
        groups: [m] document of each record; None where each is its own.

    Returns:
        NaN where f did not move at all.

    Raises:
        DataError: Shapes differ, there is no record, or a number is not finite.
    """
    if before.ndim != 1 or not before.size or not before.shape == after.shape == predicted.shape:
        raise DataError(
            f"Outputs of shapes {list(before.shape)} and {list(after.shape)} and a change of shape "
            f"{list(predicted.shape)} do not fit. Expected [m] each. Measure the same records."
        )
    if not all(np.isfinite(values).all() for values in (before, after, predicted)):
        raise DataError("A check of linearity holds values that are not finite. Expected numbers. Take a smaller step.")
    moved = np.asarray(after, dtype=np.float64) - before
    missed, length = (moved - predicted) ** 2, moved**2

    def of_kept(kept: IntArray) -> float:
        whole = float(length[kept].sum())
        return math.sqrt(float(missed[kept].sum()) / whole) if whole > 0 else math.nan

    return jackknife(of_kept, len(moved), confidence=confidence, attainable=_SHARES, groups=groups)


def check_linearity(
    before: FloatArray,
    after: Mapping[float, FloatArray],
    predicted: Mapping[float, FloatArray],
    *,
    limit: float,
    confidence: float = 0.95,
) -> Linearity:
    """Linearisation errors of real steps of several sizes, each taken from the same start.

    Args:
        before: [m] f at the start.
        after: By learning rate, [m] f after one real step.
        predicted: By the same learning rates, [m] the change that the kernel predicts.
        limit: Largest error at which a prediction is shown.
        confidence: Two-sided.

    Raises:
        ConfigError: No step was taken, a step is not above 0, or the limit is not above 0.
        DataError: Steps and predictions are of different sizes, or as `linearisation_error`.
    """
    if not after or not all(math.isfinite(step) and step > 0 for step in after):
        raise ConfigError(f"Steps {sorted(after)} cannot be used. Expected learning rates above 0. Give at least one.")
    if not limit > 0:
        raise ConfigError(f"Limit {limit} of the linearisation error is not above 0. Expected a share. Give another.")
    if after.keys() != predicted.keys():
        raise DataError(
            f"Real steps {sorted(after)} and predicted ones {sorted(predicted)} differ. Expected the same. Predict "
            "each step that was taken."
        )
    errors = {
        step: linearisation_error(before, after[step], predicted[step], confidence=confidence) for step in sorted(after)
    }
    return Linearity(errors, limit)
