"""What a kernel's eigenvalues say: its size apart from its shape.

The size (trace) sets how fast f moves, the shape (normalised eigenvalues p = λ / Σλ) in how many directions. α and the
variance of A change the size alone; rank and targets change the shape. Entropies are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from loraudit.errors import ConfigError, DataError
from loraudit.theory.decomposition import decompose, symmetric
from loraudit.types import FloatArray

ORDERS = (0.0, 0.5, 1.0, 2.0, math.inf)
"""Of the Rényi entropies that every spectrum states."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Eigenvalues of one kernel over n probe records and what is read off them.

    A kernel of zeros has the size 0 and no shape: all that rests on normalised eigenvalues is NaN.

    Attributes:
        eigenvalues: [n] descending. Those that cannot be told from 0 are 0.
        trace: Σλ, the size: squared length of the gradient, summed over records.
        speed: Σλ / n, the mean squared length of a record's gradient.
        entropies: By order α in `ORDERS`, the Rényi entropy H_α of p.
        effective_rank: exp(H_1) (Roy and Vetterli 2007, EUSIPCO).
        participation_ratio: (Σλ)² / Σλ² = exp(H_2).
        rounding_share: Σ|λ| of the eigenvalues set to 0, of Σ|λ| of all. An eigenvalue is set to 0 where it is not
            above the size of the most negative one, which is how large rounding is seen to be, nor above n times
            double precision times the largest.
        n_records: n.
    """

    eigenvalues: FloatArray
    trace: float
    speed: float
    entropies: Mapping[float, float]
    effective_rank: float
    participation_ratio: float
    rounding_share: float
    n_records: int


def kernel_spectrum(kernel: FloatArray) -> Spectrum:
    """The spectrum of a kernel.

    Args:
        kernel: [n, n] symmetric, no eigenvalue below 0 by more than rounding.

    Raises:
        DataError: It is not square, finite, symmetric, or has a negative eigenvalue that rounding does not explain.

    >>> found = kernel_spectrum(np.diag([2.0, 2.0, 0.0]))
    >>> found.trace, round(found.effective_rank, 6), round(found.participation_ratio, 6)
    (4.0, 2.0, 2.0)
    """
    found = decompose(kernel)
    n, largest = len(found.values), float(found.values[0])
    floor = max(found.most_negative, n * float(np.finfo(np.float64).eps) * largest)
    kept = np.where(found.values > floor, found.values, 0.0)
    total = float(found.values.sum())
    of_all = total / (1 - found.negative_share) if total > 0 else math.nan
    trace = float(kept.sum())
    entropies = {order: renyi_entropy(kept, order) for order in ORDERS}
    return Spectrum(
        eigenvalues=kept,
        trace=trace,
        speed=trace / n,
        entropies=entropies,
        effective_rank=math.exp(entropies[1.0]),
        participation_ratio=math.exp(entropies[2.0]),
        rounding_share=(of_all - trace) / of_all,
        n_records=n,
    )


def renyi_entropy(eigenvalues: FloatArray, order: float) -> float:
    """H_α of p = λ / Σλ in nats; never above log of the number of eigenvalues.

    H_0 = log #{p > 0}, H_1 = −Σ p log p, H_∞ = −log max p, otherwise log(Σ p^α) / (1 − α).

    Args:
        eigenvalues: [n] not below 0, in any order.
        order: α, from 0 to infinity.

    Returns:
        NaN where all are 0.

    Raises:
        ConfigError: The order is below 0 or NaN.
        DataError: An eigenvalue is below 0 or not finite.

    References:
        Rényi 1961, Proceedings of the Fourth Berkeley Symposium.

    >>> round(math.exp(renyi_entropy(np.array([3.0, 3.0, 3.0, 3.0]), 0.5)), 6)
    4.0
    """
    if not order >= 0:
        raise ConfigError(f"Order {order} of an entropy is out of range. Expected 0 to infinity. Give another.")
    if not (np.isfinite(eigenvalues).all() and (eigenvalues >= 0).all()):
        raise DataError("Eigenvalues hold some below 0 or not finite. Expected those of a Gram matrix. Clip or refuse.")
    largest = float(eigenvalues.max(initial=0.0))
    if largest == 0.0:
        return math.nan
    relative = eigenvalues[eigenvalues > 0] / largest  # sums of tiny values would vanish
    shares = relative / relative.sum()
    if order == 0:
        return math.log(len(shares))
    if order == 1:
        return max(0.0, -float(np.sum(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares)))))
    if math.isinf(order):
        return max(0.0, -math.log(float(shares.max())))
    return max(0.0, float(special.logsumexp(order * np.log(shares[shares > 0]))) / (1 - order))


def log_determinant(spectrum: Spectrum, ridge: float) -> float:
    """What log det(I + K / λ) = Σ log(1 + λ_k / λ) is in nats: how much n answers with noise of variance λ say of f.

    Half of it is the mutual information between a Gaussian process of this kernel and its noisy values. It grows with
    the size of the kernel, so kernels are compared at one ridge, or each at a ridge in units of its own speed.

    Args:
        spectrum: Of K; one of zeros gives 0.
        ridge: λ, above 0.

    Raises:
        ConfigError: The ridge is not above 0.
    """
    if not (math.isfinite(ridge) and ridge > 0):
        raise ConfigError(f"Ridge {ridge} is not above 0. Expected a positive number. Give another.")
    return float(np.log1p(spectrum.eigenvalues / ridge).sum())


def top_energy(spectrum: Spectrum, k: int) -> float:
    """Share of the trace that the k largest eigenvalues hold; NaN for a kernel of zeros.

    Raises:
        ConfigError: k is not from 1 to the number of records.
    """
    if not 1 <= k <= spectrum.n_records:
        raise ConfigError(
            f"Number of eigenvalues {k} is out of range. Expected 1 to {spectrum.n_records}, one per record. "
            "Give another."
        )
    return float(spectrum.eigenvalues[:k].sum()) / spectrum.trace if spectrum.trace > 0 else math.nan


def normalised(kernel: FloatArray) -> FloatArray:
    """[n, n] the kernel divided by its trace: its shape. NaN for a kernel of zeros.

    Raises:
        DataError: It is not square, finite or symmetric.
    """
    of_trace = symmetric(kernel)
    trace = float(np.trace(of_trace))
    return of_trace / trace if trace > 0 else np.full_like(of_trace, np.nan)


def fisher_kernel(kernel: FloatArray, margins: FloatArray) -> FloatArray:
    """[n, n] W^½ K W^½, whose non-zero eigenvalues are those of the sum over records of the Fisher information.

    With f the margin of two classes and p = 1 / (1 + e^{−f}) the Fisher information of the parameters is
    Σ_i p_i (1 − p_i) ∇f_i ∇f_iᵀ, so W = diag(p (1 − p)). A record the base is sure of counts little.

    Args:
        kernel: [n, n] of gradients of the margin.
        margins: [n] f at the base, in logits.

    Raises:
        DataError: The kernel is not square, finite or symmetric, or the margins do not fit it or are not finite.

    References:
        Amari 1998, Neural Computation 10(2).
    """
    of_margin = symmetric(kernel)
    if margins.shape != (len(of_margin),) or not np.isfinite(margins).all():
        raise DataError(
            f"Margins of shape {list(margins.shape)} do not go with a kernel over {len(of_margin)} records. Expected "
            "one finite number per record. Take those of the same pass."
        )
    roots = np.sqrt(special.expit(margins) * special.expit(-margins))
    return roots[:, None] * of_margin * roots
