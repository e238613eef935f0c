"""Singular values of what an adapter adds to a weight, without ever forming that matrix.

With B = Q_B R_B and Aᵀ = Q_A R_A the update s·B·A is Q_B (s·R_B R_Aᵀ) Q_Aᵀ, and Q_B, Q_A have orthonormal columns: its
singular values are those of the small core s·R_B R_Aᵀ. Nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loraudit.errors import ModelError
from loraudit.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What one module of an adapter adds to its weight: `scale` · B · A.

    Attributes:
        name: Of the module, as in the base model.
        a: [r, in] lora_A; for an embedding [r, vocabulary]; for a convolution its kernel flattened into `in`.
        b: [out, r] lora_B.
        scale: s = α / r, or α / √r for rank-stabilised LoRA (Kalajdzievski 2023, arXiv:2312.03732).
        is_transposed: Whether the base stores the weight as [in, out], as GPT-2's Conv1D and embeddings do; needed
            where both are equal. Singular values do not change.
        magnitude: [out] DoRA's own length of each row of the new weight; None where the update is the whole change.
    """

    name: str
    a: FloatArray
    b: FloatArray
    scale: float
    is_transposed: bool = False
    magnitude: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The singular values of one matrix and what is read off them.

    Attributes:
        values: [k] descending, float64.
        frobenius: √Σσ², the length of the matrix.
        spectral: Largest singular value.
        effective_rank: exp of the entropy of σ / Σσ (Roy and Vetterli 2007, EUSIPCO); NaN for a matrix of zeros.
        top_share: σ₁² / Σσ², how much of the matrix is one direction; NaN for a matrix of zeros.
    """

    values: FloatArray
    frobenius: float
    spectral: float
    effective_rank: float
    top_share: float


def low_rank_values(a: FloatArray, b: FloatArray, scale: float) -> FloatArray:
    """[min(out, r, in)] singular values of `scale` · b · a, descending.

    Costs O((in + out) r²) and (in + out) r numbers of memory.

    Args:
        a: [r, in].
        b: [out, r].
        scale: Of the product.

    Raises:
        ModelError: The shapes do not fit, or a number is not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
        raise ModelError(
            f"Factors of shapes {list(b.shape)} and {list(a.shape)} cannot be multiplied. Expected [out, r] and "
            "[r, in]. Save or download the adapter again."
        )
    first, second = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all() and np.isfinite(scale)):
        raise ModelError(
            "Factors hold NaN or infinite values. Expected finite ones. The training diverged or the file is damaged; "
            "scan an earlier checkpoint."
        )
    upper_b, upper_a = _upper(second), _upper(first.T)
    return np.linalg.svd(scale * (upper_b @ upper_a.T), compute_uv=False)


def _upper(matrix: FloatArray) -> FloatArray:
    """The triangular factor of a QR decomposition."""
    return np.asarray(np.linalg.qr(matrix, mode="r"), dtype=np.float64)


def dense_values(matrix: FloatArray) -> FloatArray:
    """[min(rows, columns)] singular values of a matrix at hand, descending; in float64.

    Where one side is much longer than the other the triangular factor of a QR has the same ones and is smaller.
    """
    wide = matrix.astype(np.float64)
    tall = wide if wide.shape[0] >= wide.shape[1] else wide.T
    if tall.shape[0] > 2 * tall.shape[1]:
        tall = _upper(tall)
    return np.linalg.svd(tall, compute_uv=False)


def spectrum_of(values: FloatArray) -> Spectrum:
    """What is read off singular values.

    Args:
        values: [k] not below 0, descending.

    >>> found = spectrum_of(np.array([2.0, 2.0, 0.0]))
    >>> round(found.effective_rank, 6), found.top_share
    (2.0, 0.5)
    """
    largest = float(values[0]) if len(values) else 0.0
    if largest == 0.0:
        return Spectrum(values, 0.0, 0.0, np.nan, np.nan)
    relative = values / largest  # squares of tiny values would vanish
    squares = float(np.sum(relative**2))
    shares = relative / relative.sum()
    shares = shares[shares > 0]
    entropy = -float(np.sum(shares * np.log(shares)))
    return Spectrum(values, largest * float(np.sqrt(squares)), largest, float(np.exp(entropy)), 1.0 / squares)


def spectrum_of_update(update: Update) -> Spectrum:
    """The exact spectrum of `update.scale` · B · A; for DoRA that of the direction before its rows are rescaled.

    Raises:
        ModelError: Its factors do not fit or are not finite; the module is named.
    """
    try:
        return spectrum_of(low_rank_values(update.a, update.b, update.scale))
    except ModelError as error:
        raise ModelError(f"Module '{update.name}': {error}") from None


def relative_change(update: Update, weight: FloatArray) -> float:
    """‖W' − W‖_F / ‖W‖_F, how far the adapter moves this weight; NaN for a weight of zeros.

    For DoRA W' = m · (W + s·B·A) / ‖W + s·B·A‖ by rows (Liu et al. 2024, arXiv:2402.09353), exact too.

    Args:
        update: Of this module.
        weight: [out, in] or [in, out], as the base stores it; a kernel is flattened.

    Raises:
        ModelError: The base has a weight of another shape.
    """
    base = weight.reshape(len(weight), -1).astype(np.float64)
    out, into = update.b.shape[0], update.a.shape[1]
    if base.shape == (into, out) and (out != into or update.is_transposed):
        base = base.T
    if base.shape != (out, into):
        raise ModelError(
            f"Module '{update.name}' changes a weight of shape [{out}, {into}], and the base has "
            f"[{base.shape[0]}, {base.shape[1]}]. Give the base it was trained on with --base."
        )
    length = float(np.linalg.norm(base))
    if length == 0.0:
        return float("nan")
    if update.magnitude is None:
        return float(np.linalg.norm(low_rank_values(update.a, update.b, update.scale))) / length
    moved = base + update.scale * (update.b.astype(np.float64) @ update.a.astype(np.float64))
    rows = np.linalg.norm(moved, axis=1, keepdims=True)
    changed = update.magnitude.astype(np.float64).reshape(-1, 1) * moved / np.where(rows == 0, 1.0, rows)
    return float(np.linalg.norm(changed - base)) / length
