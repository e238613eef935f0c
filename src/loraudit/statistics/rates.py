"""True-positive rates at small false-positive rates, the ROC curve and its left end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loraudit.errors import ConfigError
from loraudit.types import FloatArray

_ROUNDING = 1e-9
RELIABLE_FALSE_POSITIVES = 10


def check_rate(fpr: float) -> None:
    """Refuse a false-positive rate outside [0, 1].

    Raises:
        ConfigError: It is.
    """
    if not 0 <= fpr <= 1:
        raise ConfigError(f"False-positive rate {fpr} is out of range. Expected a number in [0, 1].")


def allowed_false_positives(n_nonmembers: FloatArray, fpr: float) -> FloatArray:
    """K = ⌊fpr · n⌋ for each n, proof against 0.1 · 10 being a hair under 1."""
    return np.floor(fpr * n_nonmembers + _ROUNDING)


def threshold_at_fpr(nonmembers: FloatArray, *, fpr: float) -> float:
    """The (k+1)-th largest non-member score; scores strictly above it are called members.

    Ties at the threshold are therefore never credited, and the realised false-positive rate
    is at most `fpr`.

    Args:
        nonmembers: [n0] scores without NaN.
        fpr: In [0, 1].

    Returns:
        −inf where every non-member may be a false positive.

    Raises:
        ConfigError: `fpr` is outside [0, 1].
    """
    check_rate(fpr)
    allowed = int(allowed_false_positives(np.array(float(len(nonmembers))), fpr))
    if allowed >= len(nonmembers):
        return -math.inf
    return float(np.partition(nonmembers, len(nonmembers) - allowed - 1)[len(nonmembers) - allowed - 1])


def tpr_at_fpr(members: FloatArray, nonmembers: FloatArray, *, fpr: float) -> float:
    """True-positive rate at the lowest threshold whose false-positive rate is at most `fpr`.

    No interpolation: some real threshold attains the value. Rates finer than 1 / n0 cannot be
    told from zero, so report n0 beside it.

    Args:
        members: [n1] scores without NaN; higher means more likely a member.
        nonmembers: [n0] scores without NaN.
        fpr: In [0, 1].

    Returns:
        A rate in [0, 1]; NaN if either side is empty.

    Raises:
        ConfigError: `fpr` is outside [0, 1].

    References:
        Carlini et al. 2022, arXiv:2112.03570.

    >>> tpr_at_fpr(np.array([3.0, 2.0, 0.5]), np.array([2.0, 1.0, 0.0, 0.0]), fpr=0.25)
    0.6666666666666666
    """
    check_rate(fpr)
    if len(members) == 0 or len(nonmembers) == 0:
        return math.nan
    return float(np.mean(members > threshold_at_fpr(nonmembers, fpr=fpr)))


def unresolved_rate(n_nonmembers: int, fpr: float) -> str | None:
    """Why a true-positive rate at `fpr` cannot be stated from so few non-members; None if it can."""
    if fpr * n_nonmembers + _ROUNDING >= 1:
        return None
    smallest = f"{100 / n_nonmembers:.3g} %" if n_nonmembers else "none"
    return (
        f"Cannot state TPR at {100 * fpr:g} % FPR from {n_nonmembers} non-members: the smallest rate they "
        f"resolve is {smallest}. Give at least {math.ceil(1 / fpr)} "
        f"({math.ceil(RELIABLE_FALSE_POSITIVES / fpr)} for a useful interval) or ask for a larger --fpr."
    )


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """Points of an ROC curve from (0, 0) to (1, 1), one per distinct score.

    Attributes:
        fpr: [P] non-decreasing.
        tpr: [P] non-decreasing.
    """

    fpr: FloatArray
    tpr: FloatArray


def roc_curve(members: FloatArray, nonmembers: FloatArray) -> RocCurve:
    """The empirical ROC curve."""
    values = np.concatenate([members, nonmembers])
    order = np.argsort(-values, kind="stable")
    is_member = np.arange(len(values)) < len(members)
    n_above = np.cumsum(is_member[order])
    ranked = values[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(values) - 1)
    tpr = n_above[ends] / len(members)
    fpr = (ends + 1 - n_above[ends]) / len(nonmembers)
    return RocCurve(np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr]))


def partial_auc(members: FloatArray, nonmembers: FloatArray, *, max_fpr: float) -> float:
    """Area under the ROC curve up to `max_fpr`, standardised so that guessing gives 0.5 and perfection 1.

    Args:
        members: [n1] scores without NaN.
        nonmembers: [n0] scores without NaN.
        max_fpr: In (0, 1].

    Returns:
        NaN if either side is empty.

    References:
        McClish 1989, Medical Decision Making 9(3).
    """
    if len(members) == 0 or len(nonmembers) == 0:
        return math.nan
    curve = roc_curve(members, nonmembers)
    stop = int(np.searchsorted(curve.fpr, max_fpr, side="right"))
    end = np.interp(max_fpr, curve.fpr[stop - 1 : stop + 1], curve.tpr[stop - 1 : stop + 1])
    area = np.trapezoid(np.append(curve.tpr[:stop], end), np.append(curve.fpr[:stop], max_fpr))
    return float(standardised_partial_area(np.asarray(area), max_fpr))


def standardised_partial_area(area: FloatArray, max_fpr: float) -> FloatArray:
    """McClish's scale: ½(1 + (area − chance)/(max_fpr − chance)) with chance = max_fpr²/2."""
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))
