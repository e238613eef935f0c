"""What theory says of LoRA before anything is measured: entropies of AᵀA, its moments, noise and speed.

A is [r, n] with independent entries of mean 0 and variance σ² (c / n in the words of `parts`), B = 0. Every number says
whether it stands so in the paper on LoRA's training-time robustness (arXiv:2505.12871), is that formula put right, or
is our own derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from loraudit.errors import ConfigError, DataError, unknown_name
from loraudit.theory.parts import Family, Scaling, lora_scale
from loraudit.types import FloatArray

Status = Literal["published", "corrected", "ours"]
Optimizer = Literal["sgd", "adam"]

KURTOSIS = {"gaussian": 3.0, "uniform": 9 / 5}
"""E a⁴ / σ⁴ of an entry, κ, for the families whose entries are independent."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A number of the theory with its standing.

    Attributes:
        value: The number.
        status: "published" as the source has it; "corrected" where terms it leaves out are put in; "ours" otherwise.
        formula: What was computed.
    """

    value: float
    status: Status
    formula: str


def published_first_entropy(*, rank: int, width: int, entry_variance: float) -> Stated:
    """H1' = log(σ² r n), the logarithm of E tr(AᵀA): exact, and a matter of size alone.

    Raises:
        ConfigError: A number is not above 0.

    References:
        arXiv:2505.12871.
    """
    _check(rank, width, entry_variance)
    return Stated(math.log(entry_variance * rank * width), "published", "H1' = log(σ² r n)")


def published_second_entropy(*, rank: int, width: int, entry_variance: float, family: Family = "gaussian") -> Stated:
    """H2' of the paper: the logarithm of Σ_j E (AᵀA)_jj², which leaves out all that stands off the diagonal.

    log(r (r + 2) σ⁴ n) for Gaussian and log((4r + 5r²)/5 · σ⁴ n) for uniform entries; both are
    log(r (r − 1 + κ) σ⁴ n).

    Args:
        rank: r.
        width: n.
        entry_variance: σ².
        family: "gaussian" or "uniform".

    Raises:
        ConfigError: A number is not above 0, or the paper has no formula for this family.

    References:
        arXiv:2505.12871.
    """
    _check(rank, width, entry_variance)
    kappa = _kurtosis(family)
    formula = "log(r (r + 2) σ⁴ n)" if family == "gaussian" else "log((4r + 5r²)/5 · σ⁴ n)"
    return Stated(math.log(rank * (rank - 1 + kappa) * entry_variance**2 * width), "published", f"H2' = {formula}")


def second_moment(*, rank: int, width: int, entry_variance: float, family: Family = "gaussian") -> float:
    """E tr((AᵀA)²) with every term: σ⁴ n r (n + r − 2 + κ).

    Each of r rows gives σ⁴ n (n − 1 + κ), its length to the fourth; each of r (r − 1) ordered pairs of rows σ⁴ n. Rows
    of an orthogonal family (length² n σ²) meet no other row: σ⁴ n² r, without any chance.

    Args:
        rank: r; an orthogonal family has no more than n rows.
        width: n.
        entry_variance: σ².
        family: Of A.

    Raises:
        ConfigError: A number is not above 0, the family is unknown, or it has more orthogonal rows than fit.
    """
    _check(rank, width, entry_variance)
    if family == "orthogonal":
        if rank > width:
            raise ConfigError(
                f"Rank {rank} is too large for orthogonal rows of width {width}. Expected at most {width}."
            )
        return entry_variance**2 * width**2 * rank
    return entry_variance**2 * width * rank * (width + rank - 2 + _kurtosis(family))


def corrected_second_entropy(*, rank: int, width: int, entry_variance: float, family: Family = "gaussian") -> Stated:
    """H2' with every term: log E tr((AᵀA)²). Unnormalised like the published one, so σ is in it.

    Raises:
        ConfigError: As `second_moment`.
    """
    moment = second_moment(rank=rank, width=width, entry_variance=entry_variance, family=family)
    formula = "log(σ⁴ n² r)" if family == "orthogonal" else "log(σ⁴ n r (n + r − 2 + κ))"
    return Stated(math.log(moment), "corrected", f"H2' = {formula}")


def expected_participation(*, rank: int, width: int, family: Family = "gaussian") -> Stated:
    """In how many directions AᵀA acts: (E tr AᵀA)² / E tr((AᵀA)²) = r n / (n + r − 2 + κ).

    σ cancels: rank sets the shape, variance the size alone. r for orthogonal rows. Its logarithm is H_2 of the
    normalised spectrum, up to the difference between a ratio of means and a mean of ratios.

    Raises:
        ConfigError: As `second_moment`.
    """
    moment = second_moment(rank=rank, width=width, entry_variance=1.0, family=family)
    formula = "r" if family == "orthogonal" else "r n / (n + r − 2 + κ)"
    return Stated((rank * width) ** 2 / moment, "corrected", formula)


def expected_lora_kernel(
    kernel: FloatArray, *, rank: int, alpha: float, entry_variance: float, scaling: Scaling = "alpha/r"
) -> FloatArray:
    """[m, m] E K_lora = s² r σ² K_full of the adapted maps, at B = 0; of every family.

    Args:
        kernel: [m, m] ⟨G_i, G_j⟩ of maps that share one σ², which is one width where variance is c / n.
        rank: r.
        alpha: Of s.
        entry_variance: σ².
        scaling: Of s.

    Raises:
        ConfigError: A number is not above 0, or the scaling is unknown.
    """
    _check(rank, 1, entry_variance)
    return lora_scale(rank, alpha, scaling) ** 2 * rank * entry_variance * kernel


def relative_noise(cosine: float, *, rank: int) -> Stated:
    """Standard deviation of K_lora(x, x') over draws of a Gaussian A, relative to its mean, at one position.

    √((1 + 1 / cos²) / r) with cos the cosine of the layer inputs h, h': on the diagonal √(2 / r).

    Args:
        cosine: Of h and h', in [−1, 1].
        rank: r.

    Returns:
        Infinite at a cosine of 0, where the mean is 0 and the noise is not.

    Raises:
        ConfigError: The cosine is outside [−1, 1] or the rank below 1.
    """
    _check(rank, 1, 1.0)
    if not -1 <= cosine <= 1:
        raise ConfigError(f"Cosine {cosine} is out of range. Expected −1 to 1. Divide by the lengths of both inputs.")
    value = math.sqrt((1 + 1 / cosine**2) / rank) if cosine**2 > 0 else math.inf
    return Stated(value, "ours", "√((1 + 1/cos²) / r)")


def relative_noise_of_sequences(
    first: FloatArray, second: FloatArray, *, rank: int, family: Family = "gaussian"
) -> Stated:
    """The same for whole records: √((2‖S‖_F² + (κ − 3) Σ S_jj²) / r) / |tr S|, S = sym(G_iᵀ G_j).

    For Gaussian A that is √(2‖S‖_F² / r) / |tr S|.

    Args:
        first: [k, n] G_i, the gradient of f at one record with respect to the weight.
        second: [k, n] G_j.
        rank: r.
        family: "gaussian" or "uniform": the rows of an orthogonal one depend on each other.

    Returns:
        Infinite where the mean is 0 and the noise is not; NaN where both are.

    Raises:
        DataError: The gradients are not two matrices of one shape.
        ConfigError: The rank is below 1, or the entries of this family are not independent.
    """
    _check(rank, 1, 1.0)
    kappa = _kurtosis(family)
    if first.ndim != 2 or first.shape != second.shape:
        raise DataError(
            f"Gradients of shapes {list(first.shape)} and {list(second.shape)} do not fit. Expected [k, n] both. Give "
            "those of one map."
        )
    product = np.asarray(first, dtype=np.float64).T @ np.asarray(second, dtype=np.float64)
    both = (product + product.T) / 2
    diagonal = np.diag(both)
    spread = math.sqrt(2 * float((both**2).sum()) + (kappa - 3) * float((diagonal**2).sum()))
    mean = abs(float(diagonal.sum()))
    value = spread / math.sqrt(rank) / mean if mean > 0 else (math.inf if spread > 0 else math.nan)
    return Stated(value, "ours", "√((2‖S‖_F² + (κ − 3) Σ S_jj²) / r) / |tr S|")


def function_space_speed(
    *, rank: int, alpha: float, entry_variance: float, optimizer: Optimizer = "sgd", scaling: Scaling = "alpha/r"
) -> Stated:
    """How fast f moves at the start, up to a factor that all ranks, variances and α of one base share.

    Under SGD s² r σ², which is α² σ² / r for s = α / r: a sweep that ties α to r moves r times as fast at rank r. Under
    Adam every entry of B moves by the learning rate, so about s r σ = α σ.

    Args:
        rank: r.
        alpha: Of s.
        entry_variance: σ².
        optimizer: "sgd" or "adam".
        scaling: Of s.

    Raises:
        ConfigError: A number is not above 0, or a name is unknown.
    """
    _check(rank, 1, entry_variance)
    if optimizer not in get_args(Optimizer):
        raise unknown_name("optimizer", optimizer, get_args(Optimizer))
    scale = lora_scale(rank, alpha, scaling)
    if optimizer == "sgd":
        return Stated(scale**2 * rank * entry_variance, "ours", "s² r σ²")
    return Stated(scale * rank * math.sqrt(entry_variance), "ours", "s r σ")


def _kurtosis(family: Family) -> float:
    if family not in KURTOSIS:
        raise unknown_name("family with independent entries", family, KURTOSIS)
    return KURTOSIS[family]


def _check(rank: int, width: int, entry_variance: float) -> None:
    for name, value in (("Rank", rank), ("Width", width)):
        if value < 1:
            raise ConfigError(f"{name} {value} is too small. Expected at least 1. Give another.")
    if not (math.isfinite(entry_variance) and entry_variance > 0):
        raise ConfigError(f"Variance {entry_variance} is not above 0. Expected a positive number. Give another.")
