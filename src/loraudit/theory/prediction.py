"""Outputs during training, as far as the kernel at the start tells them.

While the kernel stays what it was at the start, gradient descent of small steps on a loss of the outputs f follows
df/dt = −η K ∂loss/∂f, for the trained records and, through K(X*, X), for any other. Time is counted in steps, which
need not be whole, and η is the learning rate. With `is_mean` the loss is a mean over the n trained records, as training
takes it, else a sum; steps on random batches follow the mean. Momentum and Adam's rescaling are not in it.

K(X, X) and K(X*, X) must be blocks of one kernel: where an eigenvalue of K(X, X) is 0, nothing of K(X*, X) lies in its
direction then.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import integrate, special

from loraudit.errors import ConfigError, DataError
from loraudit.theory.decomposition import Decomposition, symmetric
from loraudit.types import FloatArray

_RELATIVE, _ABSOLUTE = 1e-8, 1e-9  # tolerances of the logistic flow, in logits of a kernel of size 1


def learned(eigenvalues: FloatArray, times: FloatArray, *, rate: float) -> FloatArray:
    """[T, n] t·η·φ₁(−η λ t) = (1 − e^{−ηλt}) / λ: how far each direction has been learned. No inverse is taken.

    φ₁(z) = (e^z − 1) / z, which is 1 at 0: a direction of eigenvalue 0 has t·η.

    Args:
        eigenvalues: [n] λ, not below 0.
        times: [T].
        rate: η, divided by the number of records where the loss is a mean.

    >>> learned(np.array([0.0, 2.0]), np.array([1.5]), rate=2.0).round(6).tolist()
    [[3.0, 0.498761]]
    """
    z = rate * np.multiply.outer(times, eigenvalues)
    phi = np.divide(-np.expm1(-z), z, out=np.ones_like(z), where=z > 0)
    return rate * times[:, None] * phi


def squared_flow(
    kernel: Decomposition,
    cross: FloatArray,
    *,
    targets: FloatArray,
    initial_train: FloatArray,
    initial: FloatArray,
    times: FloatArray,
    learning_rate: float,
    is_mean: bool = True,
) -> FloatArray:
    """[T, p] f_t(X*) = f_0(X*) + K(X*, X) [t η φ₁(−ηKt)] (y − f_0(X)), for the squared loss ½ Σ (f − y)².

    The decomposition serves every set of targets, as of every dose of label poison.

    Args:
        kernel: `decompose` of K(X, X) [n, n].
        cross: [p, n] K(X*, X).
        targets: [n] y, as `targets_of` gives them.
        initial_train: [n] f_0(X), the random head included.
        initial: [p] f_0(X*).
        times: [T] steps, ascending.
        learning_rate: η.
        is_mean: Whether the loss is divided by n.

    Raises:
        DataError: Shapes do not fit, or a number is not finite.
        ConfigError: Times do not ascend from 0, or the learning rate is not above 0.

    References:
        Jacot et al. 2018, arXiv:1806.07572; Lee et al. 2019, arXiv:1902.06720.
    """
    n = len(kernel.values)
    _check(n, cross, initial, times, learning_rate, targets=targets, initial_train=initial_train)
    factors = learned(kernel.values, times, rate=learning_rate / n if is_mean else learning_rate)
    residual = kernel.vectors.T @ (targets - initial_train)
    return initial + factors @ (residual[:, None] * (cross @ kernel.vectors).T)


def logistic_flow(
    kernel: FloatArray,
    cross: FloatArray,
    *,
    labels: FloatArray,
    initial_train: FloatArray,
    initial: FloatArray,
    times: FloatArray,
    learning_rate: float,
    is_mean: bool = True,
) -> FloatArray:
    """[T, p] outputs under the logistic loss Σ log(1 + e^{−y f}), which training of classifiers takes.

    f = f_0 + K a with da/dt = η y σ(−y f), integrated numerically; a is [n], whatever the number of parameters.

    Args:
        kernel: [n, n] K(X, X).
        cross: [p, n] K(X*, X).
        labels: [n] y, −1 or 1.
        initial_train: [n] f_0(X).
        initial: [p] f_0(X*).
        times: [T] steps, ascending.
        learning_rate: η.
        is_mean: Whether the loss is divided by n.

    Raises:
        DataError: Shapes do not fit, a number is not finite, a label is neither −1 nor 1, or numbers
            overflow.
        ConfigError: Times do not ascend from 0, or the learning rate is not above 0.
    """
    gram = symmetric(kernel)
    _check(len(gram), cross, initial, times, learning_rate, labels=labels, initial_train=initial_train)
    check_signs(labels)
    size = float(np.abs(gram).max()) or 1.0
    rate = size * (learning_rate / len(gram) if is_mean else learning_rate)
    latest = float(times[-1]) if len(times) else 0.0
    if latest == 0.0:
        return np.tile(initial, (len(times), 1)).astype(np.float64)
    found = _integrated(gram / size, labels, initial_train, rate * times) if math.isfinite(rate * latest) else None
    if found is None:
        raise DataError(
            f"The logistic flow cannot be followed for {latest:g} steps at the learning rate {learning_rate:g}. "
            f"Expected a product of steps, learning rate and kernel ({size:g}) within the numbers there are. Lower one."
        )
    return initial + found.T @ cross.T / size


def _integrated(unit: FloatArray, labels: FloatArray, initial: FloatArray, times: FloatArray) -> FloatArray | None:
    """[n, T] dual coefficients v with f = f_0 + K v for a kernel of size 1; None where the solver gives up."""

    def change(_: float, dual: FloatArray) -> FloatArray:
        return labels * special.expit(-labels * (initial + unit @ dual))

    def jacobian(_: float, dual: FloatArray) -> FloatArray:
        outputs = initial + unit @ dual
        return (special.expit(outputs) * special.expit(-outputs))[:, None] * -unit

    found = integrate.solve_ivp(
        change,
        (0.0, float(times[-1])),
        np.zeros(len(unit)),
        method="BDF",
        t_eval=times,
        jac=jacobian,
        rtol=_RELATIVE,
        atol=_ABSOLUTE,
    )
    return np.asarray(found.y, dtype=np.float64) if found.success else None


def targets_of(labels: FloatArray, *, scale: float = 1.0) -> FloatArray:
    """[n] targets ±`scale` of the squared loss: the margin, in logits, that counts as learned.

    Args:
        labels: [n] −1 or 1.
        scale: In logits, above 0.

    Raises:
        DataError: A label is neither −1 nor 1.
        ConfigError: The scale is not above 0.
    """
    check_signs(labels)
    if not (math.isfinite(scale) and scale > 0):
        raise ConfigError(f"Scale {scale} of targets is not above 0. Expected a number of logits. Give another.")
    return scale * np.asarray(labels, dtype=np.float64)


def check_signs(labels: FloatArray) -> None:
    """Refuse labels other than −1 and 1.

    Raises:
        DataError: There are some.
    """
    n_other = int((~np.isin(labels, (-1, 1))).sum())
    if n_other:
        raise DataError(f"{n_other} of {labels.size} labels are neither -1 nor 1. Expected two classes. Recode them.")


def _check(
    n: int, cross: FloatArray, initial: FloatArray, times: FloatArray, learning_rate: float, **of_trained: FloatArray
) -> None:
    """Refuse what cannot be a prediction over n trained records, with every problem with the arrays at once."""
    problems: list[str] = []
    n_asked = len(initial) if initial.ndim == 1 else -1
    shaped = {"cross": (cross, (n_asked, n)), "initial": (initial, (n_asked,))}
    shaped |= {name: (values, (n,)) for name, values in of_trained.items()}
    for name, (values, expected) in shaped.items():
        if values.shape != expected:
            problems.append(f"{name} has the shape {list(values.shape)}; expected {list(expected)}.".replace("-1", "p"))
        elif not np.isfinite(values).all():
            problems.append(f"{name} holds values that are not finite.")
    if problems:
        raise DataError(f"Inputs of a prediction from {n} trained records do not fit. Take them of one pass.", problems)
    if times.ndim != 1 or not np.isfinite(times).all() or (times < 0).any() or (np.diff(times) < 0).any():
        raise ConfigError(
            f"Times {times.tolist()} cannot be used. Expected ascending numbers of steps from 0. Sort them."
        )
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ConfigError(f"Learning rate {learning_rate} is not above 0. Expected a positive number. Give another.")
