"""How much the fit of each record rests on the record itself, as far as a kernel tells: predicted memorization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loraudit.errors import ConfigError, DataError
from loraudit.statistics import RankCorrelation, rank_correlation
from loraudit.theory.decomposition import Decomposition, symmetric
from loraudit.theory.prediction import learned
from loraudit.types import FloatArray, IntArray

ComplexArray = NDArray[np.complexfloating[Any, Any]]

_NODES = 24
"""Of the inverse Laplace transform: its error shrinks as 3.89^−nodes, to that of double precision."""


def self_influence(kernel: FloatArray) -> FloatArray:
    """[m] K_ii, the squared length of each record's gradient: how far a step on a record moves its own output.

    Raises:
        DataError: The kernel is not square, finite or symmetric.
    """
    return np.diag(symmetric(kernel)).copy()


def left_out_changes(
    kernel: Decomposition, residual: FloatArray, *, times: FloatArray, learning_rate: float, is_mean: bool = True
) -> FloatArray:
    """[T, n] f_i(t) trained with all n records minus f_i(t) trained without record i, for the squared loss.

    Nothing is trained and no record is really left out. Training without record i for the time t is the inverse
    Laplace transform of ridge regression without it: ∫ e^{−sτ} (1 − e^{−λτ}) / λ dτ = 1 / (s (s + λ)) for τ = η t, and
    with C_s = (K + s)⁻¹ and r = y − f_0 ridge regression without record i misses it by (C_s r)_i / (C_s)_ii. So

        f_i without i = y_i − (1 / 2πi) ∫ e^{sτ} (C_s r)_i / (s (C_s)_ii) ds.

    Every pole lies at or below 0, and a cotangent contour of 24 nodes gives the integral for all records at once, to
    1e-11 of the residuals up to τ λ_max of 10⁴ and 1e-8 up to 10⁶ (rounding of eigenvalues near 0 grows with τ). The
    other records keep their weight: with `is_mean` both runs divide by n.

    Args:
        kernel: `decompose` of K(X, X) [n, n].
        residual: [n] y − f_0(X).
        times: [T] steps, above 0; at 0 nothing has changed.
        learning_rate: η.
        is_mean: Whether the loss is divided by n.

    Returns:
        In the units of f; above 0 where the record moved its own output upwards. Times its label it is by how much
        the record is fitted better for having been trained on.

    Raises:
        DataError: The residuals do not fit the kernel or are not finite.
        ConfigError: A time is below 0 or not finite, or the learning rate is not above 0.

    References:
        Trefethen, Weideman and Schmelzer 2006, BIT 46(3) (contour); Rasmussen and Williams 2006, section 5.4.2 (ridge
        regression without a record).
    """
    _check_residual(kernel, residual)
    _check_times(times, learning_rate)
    n = len(residual)
    rate = learning_rate / n if is_mean else learning_rate
    projected = kernel.vectors.T @ residual
    factors = learned(kernel.values, times, rate=rate)
    with_all = (factors * kernel.values * projected) @ kernel.vectors.T
    without = np.zeros((len(times), n))
    for row, time in enumerate(times):
        if time > 0:
            without[row] = residual - _missed_without(kernel, projected, rate * float(time))
    return with_all - without


def changes_with_share(
    kernel: Decomposition,
    cross: FloatArray,
    residual: FloatArray,
    *,
    times: FloatArray,
    learning_rate: float,
    share: float,
) -> FloatArray:
    """[T, n] what training does to one output of each record when that record counts a share of what others count.

    A run on N records of which n are known is followed with each of these standing for (N − 1) / (n − 1) records,
    except for the one that is looked at, which stands for itself: its share is (n − 1) / (N − 1). A share of 1 is
    training with it as with all others, 0 is training without it. For the squared loss ½ Σ (f − y)², with
    C_s = (K + s)⁻¹, τ = η t and k_i the kernel of the output with all records, the Laplace transform of the change is

        k_i C_s r / s − (1 − share) E_i k_i C_s e_i,    E_i = (C_s r)_i / (share + (1 − share) s (C_s)_ii),

    by Sherman and Morrison; it is inverted as in `left_out_changes`.

    Args:
        kernel: `decompose` of K(X, X) [n, n].
        cross: [n, n] row i is the kernel of an output of record i, f_i itself or that of a part of it, with all of X.
        residual: [n] y − f_0(X).
        times: [T] steps.
        learning_rate: η of a loss that is a sum.
        share: In [0, 1].

    Returns:
        Output after training minus output before, in its units.

    Raises:
        DataError: Shapes do not fit, or a number is not finite.
        ConfigError: A time is below 0 or not finite, the learning rate is not above 0, or the share is out of range.

    References:
        Trefethen, Weideman and Schmelzer 2006, BIT 46(3) (contour).
    """
    _check_residual(kernel, residual)
    _check_times(times, learning_rate)
    n = len(residual)
    if cross.shape != (n, n) or not np.isfinite(cross).all():
        raise DataError(
            f"Kernel of shape {list(cross.shape)} between outputs and {n} trained records does not fit. Expected "
            "[n, n], all finite. Give one output per trained record."
        )
    if not 0 <= share <= 1:
        raise ConfigError(f"Share {share} of a record is out of range. Expected 0 to 1. Give another.")
    projected, turned = kernel.vectors.T @ residual, cross @ kernel.vectors
    whole = (learned(kernel.values, times, rate=learning_rate) * projected) @ turned.T
    if share == 1:
        return whole
    nodes, weights = _contour()
    for row, time in enumerate(times):
        reach = learning_rate * float(time)
        if reach > 0:
            resolvent = 1 / (reach * kernel.values[:, None] + nodes)
            own = kernel.vectors**2 @ resolvent
            error = (kernel.vectors @ (projected[:, None] * resolvent)) / (share + (1 - share) * nodes * own)
            back = (turned * kernel.vectors) @ resolvent
            whole[row] -= (1 - share) * reach * (2 / _NODES) * np.imag((error * back) @ weights)
    return whole


def _missed_without(kernel: Decomposition, projected: FloatArray, reach: float) -> FloatArray:
    """[n] y_i − f_i after training for τ = `reach` on all records but i."""
    nodes, weights = _contour()
    # In units of 1 / τ the contour is the same for every time.
    resolvent = 1 / (reach * kernel.values[:, None] + nodes)
    misses = (kernel.vectors @ (projected[:, None] * resolvent)) / (kernel.vectors**2 @ resolvent)
    return (2 / _NODES) * np.imag(misses @ (weights / nodes))


def _contour() -> tuple[ComplexArray, ComplexArray]:
    """Nodes z of the inverse Laplace transform at time 1, and e^z dz at each."""
    angles = np.pi * (2 * np.arange(_NODES // 2) + 1) / _NODES  # the other half are complex conjugates
    nodes = _NODES * (0.5017 * angles / np.tan(0.6407 * angles) - 0.6122 + 0.2645j * angles)
    turning = 0.6407 * angles / np.sin(0.6407 * angles) ** 2
    slopes = _NODES * (0.5017 / np.tan(0.6407 * angles) - 0.5017 * turning + 0.2645j)
    return nodes, np.exp(nodes) * slopes


def left_out_changes_of_ridge(kernel: Decomposition, residual: FloatArray, *, ridge: float) -> FloatArray:
    """[n] the same at the end of training with weight decay: kernel ridge regression with and without each record.

    With C = (K + γ)⁻¹ and r = y − f_0: f_i − f_i without i = (C r)_i / C_ii − γ (C r)_i.

    Args:
        kernel: `decompose` of K(X, X) [n, n].
        residual: [n] y − f_0(X).
        ridge: γ, in the units of the kernel, above 0; 0 would fit every record whatever the kernel.

    Raises:
        DataError: The residuals do not fit the kernel or are not finite.
        ConfigError: The ridge is not above 0.

    References:
        Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 5.4.2.
    """
    _check_residual(kernel, residual)
    if not (math.isfinite(ridge) and ridge > 0):
        raise ConfigError(f"Ridge {ridge} is not above 0. Expected a positive number. Give another.")
    inverse = 1 / (kernel.values + ridge)
    dual = kernel.vectors @ (inverse * (kernel.vectors.T @ residual))
    return dual / (kernel.vectors**2 @ inverse) - ridge * dual


def agreement(
    predicted: FloatArray, measured: FloatArray, groups: IntArray | None = None, *, confidence: float = 0.95
) -> RankCorrelation:
    """Spearman's correlation of what is predicted of records with what was measured of them, with its interval.

    Args:
        predicted: [n] NaN = undefined; such a record is left out and not in n.
        measured: [n] likewise, as of a membership attack.
        groups: [n] document of each record.
        confidence: Two-sided.

    Raises:
        DataError: Both are not of the same records.
    """
    if predicted.ndim != 1 or predicted.shape != measured.shape:
        raise DataError(
            f"Predictions of shape {list(predicted.shape)} and measurements of shape {list(measured.shape)} do not "
            "fit. Expected [n] both. Give one of each per record."
        )
    return rank_correlation(predicted, measured, groups, confidence=confidence)


def _check_times(times: FloatArray, learning_rate: float) -> None:
    if times.ndim != 1 or not np.isfinite(times).all() or (times < 0).any():
        raise ConfigError(
            f"Times {times.tolist()} cannot be used. Expected finite numbers of steps from 0. Give others."
        )
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ConfigError(f"Learning rate {learning_rate} is not above 0. Expected a positive number. Give another.")


def _check_residual(kernel: Decomposition, residual: FloatArray) -> None:
    n = len(kernel.values)
    if residual.shape != (n,) or not np.isfinite(residual).all():
        raise DataError(
            f"Residuals of shape {list(residual.shape)} do not go with a kernel over {n} records. Expected one "
            "finite number per record. Give targets minus outputs of the trained records."
        )
