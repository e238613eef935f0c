"""How a kernel ties poisoned records to their clean twins, and to clean or poisoned labels.

Twins are given as positions of probe records: `clean[i]` and `poisoned[i]` are one record without and with the poison.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from loraudit.errors import DataError
from loraudit.statistics import Interval, mean_finding
from loraudit.theory.decomposition import symmetric
from loraudit.theory.estimates import Estimate, jackknife
from loraudit.types import FloatArray, IntArray

_COSINES = Interval(-1.0, 1.0)


class LabelAlignments(NamedTuple):
    """How well a kernel fits labels as they should be and as the poison has them.

    Attributes:
        clean: Centred alignment with the clean labels.
        poisoned: With the poisoned labels.
    """

    clean: Estimate
    poisoned: Estimate


def training_time_robustness(
    kernel: FloatArray,
    clean: IntArray,
    poisoned: IntArray,
    *,
    confidence: float = 0.95,
    groups: IntArray | None = None,
) -> Estimate:
    """M' = |mean_i K(x_i, x̃_i)| over twins; larger = less robust against training-time attacks.

    It is in the units of the kernel, so a faster method has a larger one: `row_cosines` and alignments are of shape.

    Args:
        kernel: [m, m].
        clean: [n] positions of the clean twins.
        poisoned: [n] positions of the poisoned ones.
        confidence: Two-sided; Student's t over twins, or over their documents, folded at 0.
        groups: [n] document of each pair; None where each is its own.

    Returns:
        NaN for no twins.

    Raises:
        DataError: The kernel is none, or positions do not fit it.

    References:
        arXiv:2505.12871; the statement is reconstructed.
    """
    of_all = symmetric(kernel)
    clean, poisoned = _twins(of_all, clean, poisoned)
    found = mean_finding(of_all[clean, poisoned], confidence=confidence, groups=groups)
    if found.value is None:
        return Estimate(math.nan, Interval(math.nan, math.nan), 0)
    value = abs(found.value)
    if found.lower is None or found.upper is None:
        return Estimate(value, Interval(math.nan, math.nan), len(clean))
    ends = sorted((abs(found.lower), abs(found.upper)))
    lower = 0.0 if found.lower < 0 < found.upper else ends[0]
    return Estimate(value, Interval(lower, ends[1]), len(clean))


def row_cosines(
    kernel: FloatArray, clean: IntArray, poisoned: IntArray, *, columns: IntArray | None = None
) -> FloatArray:
    """[n] cosine between the kernel's rows of each clean record and its poisoned twin.

    At 1 every step of training moves both alike; far from 1 the model can learn the poison and leave the clean record.

    Args:
        kernel: [m, m].
        clean: [n] positions of the clean twins.
        poisoned: [n] positions of the poisoned ones.
        columns: Positions of the records that train; None means all.

    Returns:
        NaN where a row is 0.

    Raises:
        DataError: The kernel is none, or positions do not fit it.
    """
    of_all = symmetric(kernel)
    clean, poisoned = _twins(of_all, clean, poisoned)
    kept = np.arange(len(of_all)) if columns is None else _positions(of_all, columns)
    first, second = of_all[np.ix_(clean, kept)], of_all[np.ix_(poisoned, kept)]
    products = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    dots = np.einsum("ij,ij->i", first, second)
    return np.divide(dots, products, out=np.full(len(clean), np.nan), where=products > 0)


def kernel_cosine(
    first: FloatArray, second: FloatArray, *, confidence: float = 0.95, groups: IntArray | None = None
) -> Estimate:
    """⟨K, L⟩_F / (‖K‖_F ‖L‖_F) of two kernels over the same records; their size does not matter.

    Args:
        first: [m, m].
        second: [m, m].
        confidence: Two-sided; jackknife over records, or documents.
        groups: [m] document of each record; None where each is its own.

    Returns:
        NaN where one is 0.

    Raises:
        DataError: One is no kernel, or they are over different numbers of records.

    References:
        Cristianini et al. 2001, NeurIPS 14 (alignment).
    """
    return _alignment(first, second, confidence, groups, is_centred=False)


def centred_alignment(
    first: FloatArray, second: FloatArray, *, confidence: float = 0.95, groups: IntArray | None = None
) -> Estimate:
    """The same of kernels whose features have mean 0 over the records: ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖), H = I − 11ᵀ/m.

    Args:
        first: [m, m].
        second: [m, m].
        confidence: Two-sided; jackknife over records, or documents, centred again each time.
        groups: [m] document of each record; None where each is its own.

    Returns:
        NaN where one is 0 once centred.

    Raises:
        DataError: One is no kernel, or they are over different numbers of records.

    References:
        Cortes et al. 2012, Journal of Machine Learning Research 13.
    """
    return _alignment(first, second, confidence, groups, is_centred=True)


def label_alignments(
    kernel: FloatArray, clean_labels: FloatArray, poisoned_labels: FloatArray, *, confidence: float = 0.95
) -> LabelAlignments:
    """Kernel-target alignment, centred, with clean and with poisoned labels: what the kernel learns sooner.

    Args:
        kernel: [m, m].
        clean_labels: [m] numbers, as −1 and 1.
        poisoned_labels: [m] likewise.
        confidence: Two-sided.

    Returns:
        NaN where all labels are alike.

    Raises:
        DataError: The kernel is none, or the labels do not fit it or are not finite.

    References:
        Cortes et al. 2012, Journal of Machine Learning Research 13.
    """
    of_all = symmetric(kernel)
    found: list[Estimate] = []
    for labels in (clean_labels, poisoned_labels):
        if labels.shape != (len(of_all),) or not np.isfinite(labels).all():
            raise DataError(
                f"Labels of shape {list(labels.shape)} do not go with a kernel over {len(of_all)} records. Expected "
                "one finite number per record. Give those of the probe records."
            )
        numbers = np.asarray(labels, dtype=np.float64)
        found.append(centred_alignment(of_all, np.outer(numbers, numbers), confidence=confidence))
    return LabelAlignments(*found)


def _alignment(
    first: FloatArray, second: FloatArray, confidence: float, groups: IntArray | None, *, is_centred: bool
) -> Estimate:
    one, other = symmetric(first, "First kernel"), symmetric(second, "Second kernel")
    if one.shape != other.shape:
        raise DataError(
            f"Kernels over {len(one)} and {len(other)} records cannot be compared. Expected the same records in the "
            "same order. Measure both in one pass."
        )

    def of_kept(kept: IntArray) -> float:
        blocks = [each[np.ix_(kept, kept)] for each in (one, other)]
        if is_centred:
            centred = [_centred(block) for block in blocks]
            pairs = zip(blocks, centred, strict=True)
            # What is left of a constant kernel is rounding, not a direction.
            if any(np.linalg.norm(after) <= 1e-12 * np.linalg.norm(before) for before, after in pairs):
                return math.nan
            blocks = centred
        product = float(np.linalg.norm(blocks[0]) * np.linalg.norm(blocks[1]))
        return float((blocks[0] * blocks[1]).sum()) / product if product > 0 else math.nan

    return jackknife(of_kept, len(one), confidence=confidence, attainable=_COSINES, groups=groups)


def _centred(kernel: FloatArray) -> FloatArray:
    by_row = kernel - kernel.mean(axis=0, keepdims=True)
    return by_row - by_row.mean(axis=1, keepdims=True)


def _twins(kernel: FloatArray, clean: IntArray, poisoned: IntArray) -> tuple[IntArray, IntArray]:
    first, second = _positions(kernel, clean), _positions(kernel, poisoned)
    if len(first) != len(second):
        raise DataError(
            f"{len(first)} clean and {len(second)} poisoned records are no pairs. Expected as many of both, in the "
            "same order. Give each clean record its twin."
        )
    return first, second


def _positions(kernel: FloatArray, positions: IntArray) -> IntArray:
    found = np.asarray(positions, dtype=np.int64)
    if found.ndim != 1 or (found < 0).any() or (found >= len(kernel)).any():
        raise DataError(
            f"Positions of records do not fit a kernel over {len(kernel)}. Expected a list of numbers from 0 to "
            f"{len(kernel) - 1}. Count within the probe records."
        )
    return found
