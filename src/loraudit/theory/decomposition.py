"""Eigenvalues of a kernel, or the reason why it is none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loraudit.errors import DataError
from loraudit.types import FloatArray

PRECISION = float(np.finfo(np.float32).eps)
"""Relative precision of the entries of a kernel: inner products are taken in single precision."""


class Decomposition(NamedTuple):
    """K = V diag(λ) Vᵀ.

    Attributes:
        values: [m] λ, descending, not below 0.
        vectors: [m, m] V, one eigenvector per column.
        most_negative: Size of the most negative eigenvalue before it was set to 0; 0 where there was none. It shows
            how large rounding is.
        negative_share: Σ|λ| of those set to 0, of Σ|λ| of all; NaN for a kernel of zeros.
    """

    values: FloatArray
    vectors: FloatArray
    most_negative: float
    negative_share: float


def symmetric(kernel: FloatArray, name: str = "Kernel") -> FloatArray:
    """[m, m] the same kernel in float64, with both triangles alike to the last bit.

    Args:
        kernel: [m, m].
        name: What the message calls it.

    Raises:
        DataError: It is not square, holds no record, is not finite, or is not symmetric up to rounding.
    """
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.size:
        raise DataError(
            f"{name} has the shape {list(kernel.shape)}. Expected [m, m] over at least one probe record. "
            "Measure it again."
        )
    wide = np.asarray(kernel, dtype=np.float64)
    n_bad = int((~np.isfinite(wide)).sum())
    if n_bad:
        raise DataError(
            f"{name} holds {n_bad} values that are not finite. Expected numbers. Check the weights of the base, and "
            "leave out records on which its outputs overflow."
        )
    largest = float(np.abs(wide).max())
    gap = float(np.abs(wide - wide.T).max())
    if gap > len(wide) * PRECISION * largest:
        raise DataError(
            f"{name} is not symmetric: mirrored entries differ by {gap:.3g}, the largest is {largest:.3g}. Expected a "
            "Gram matrix. A sign-gradient kernel has no spectrum of this kind; take another."
        )
    return (wide + wide.T) / 2


def decompose(kernel: FloatArray, name: str = "Kernel") -> Decomposition:
    """Eigenvalues and eigenvectors; negative eigenvalues that rounding explains become 0.

    An m × m matrix whose entries are off by a relative `PRECISION` has eigenvalues that are off by at most
    m · `PRECISION` times the largest.

    Args:
        kernel: [m, m] symmetric.
        name: What the message calls it.

    Raises:
        DataError: As `symmetric`, and where an eigenvalue is more negative than rounding explains.
    """
    values, vectors = np.linalg.eigh(symmetric(kernel, name))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest, smallest = float(np.abs(values).max()), float(values[-1])
    if smallest < -len(values) * PRECISION * largest:
        raise DataError(
            f"{name} has the eigenvalue {smallest:.3g} beside a largest of {largest:.3g}. Expected none below 0 by "
            "more than rounding. It is no Gram matrix: measure it again, or take blocks of one kernel."
        )
    total = float(np.abs(values).sum())
    negative = float(-values[values < 0].sum())
    return Decomposition(
        values=np.maximum(values, 0.0),
        vectors=np.ascontiguousarray(vectors),
        most_negative=max(0.0, -smallest),
        negative_share=negative / total if total > 0 else float("nan"),
    )
