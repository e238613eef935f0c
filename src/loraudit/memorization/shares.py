"""The share of records that can be extracted, with its interval, and how it grows with the number of attempts."""

from __future__ import annotations

import math

import numpy as np

from loraudit.statistics import Interval, clopper_pearson, finding, independent_records
from loraudit.types import Finding, FloatArray, IntArray


def share_of(
    outcomes: FloatArray, *, confidence: float, groups: IntArray | None = None, are_members: bool = True
) -> Finding:
    """The share of records for which the outcome is 1.

    Where documents are given, the interval counts what their records are worth: between the number of documents and
    the number of records. Where no record is extracted, the upper end is the one-sided bound
    1 − (1 − confidence)^(1/n), and `method` says so.

    Args:
        outcomes: [N] 1, 0, or NaN where undefined, which is counted and takes no part.
        confidence: Two-sided.
        groups: [N] document of each record.
        are_members: Under which side the finding counts them.

    Raises:
        ValueError: An outcome is none of these.

    References:
        Clopper and Pearson 1934, Biometrika 26(4).
    """
    is_known = ~np.isnan(outcomes)
    known = outcomes[is_known]
    if not bool(np.isin(known, (0, 1)).all()):
        raise ValueError("Outcomes hold other values than 0, 1 and NaN. Expected one outcome per record.")
    n, n_undefined = len(known), int((~is_known).sum())
    counts = {
        "n_members": n if are_members else 0,
        "n_nonmembers": 0 if are_members else n,
        "n_undefined_members": n_undefined if are_members else 0,
        "n_undefined_nonmembers": 0 if are_members else n_undefined,
    }
    if not n:
        nothing = Interval(math.nan, math.nan)
        note = "No record is defined: none was scored that has as many tokens as asked for."
        return finding(math.nan, nothing, "none", confidence=confidence, note=note, **counts)
    share = float(known.mean())
    worth = independent_records(known == 1, None if groups is None else groups[is_known])
    interval = clopper_pearson(share * worth, worth, confidence=confidence)
    method = "Clopper-Pearson"
    if not share:
        interval = Interval(0.0, 1 - (1 - confidence) ** (1 / worth))
        method = f"exact one-sided upper bound for 0 of {n}"
    if groups is not None:
        method += f", as of {worth:.4g} independent records"
    return finding(share, interval, method, confidence=confidence, **counts)
