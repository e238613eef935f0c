"""From what a model says about secrets to how far the planted ones stand out."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.spec import ExposureLevel
from loraudit.statistics import (
    Interval,
    clopper_pearson,
    exposure_bits,
    finding,
    finite,
    rank_p_values,
)
from loraudit.types import BoolArray, Finding, FloatArray

_NOISE_DIGITS = 5
"""Scores are rounded to so many digits, so that batching never breaks a tie."""
_ALIKE = 1e-9


class Exposures(NamedTuple):
    """How far n secrets stand out, each among itself and K others in its own context.

    Attributes:
        ranks: [n] 1 is the most likely; ties count against the secret; NaN where it has no score.
        bits: [n] log2(K + 1) − log2 rank. At most log2(K + 1): with K references no more can be shown, however
            many secrets there are to draw from.
        p_values: [n] rank / (K + 1): exact, since a secret that was never trained on takes each rank equally often.
    """

    ranks: FloatArray
    bits: FloatArray
    p_values: FloatArray


def exposures(scores: FloatArray) -> Exposures:
    """Rank each secret among the references of its context.

    Args:
        scores: [n, 1 + K] of the secret and, behind it, of its references; higher = more likely. A reference without
            a score (NaN) counts as one that ranks before the secret.

    References:
        Carlini et al. 2019, arXiv:1802.08232, with the rank taken among a sample of the secrets instead of all.

    >>> exposures(np.array([[0.0, -1.0, -2.0, -3.0], [-2.5, -1.0, -2.0, -3.0]])).bits.round(2).tolist()
    [2.0, 0.42]
    """
    rounded = np.round(scores.astype(np.float64), _NOISE_DIGITS)
    secret, others = rounded[:, :1], rounded[:, 1:]
    is_behind = others < secret  # False for NaN on either side
    ranks = np.where(np.isnan(secret[:, 0]), np.nan, 1.0 + (~is_behind).sum(axis=1))
    n_candidates = scores.shape[1]
    return Exposures(ranks, exposure_bits(ranks, n_candidates), rank_p_values(ranks, n_candidates))  # type: ignore[arg-type]


def chance_bits(n_references: int) -> float:
    """Mean exposure of secrets that were never trained on: each rank among K + 1 is equally likely.

    >>> round(chance_bits(99), 2)
    1.4
    """
    ranks = np.arange(1, n_references + 2)
    return float(exposure_bits(ranks, n_references + 1).mean())


def level_of(
    repeats: int,
    found: Exposures,
    of_target: Exposures | None,
    is_exposed: BoolArray,
    *,
    n_references: int,
    confidence: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> ExposureLevel:
    """What canaries of one number of repeats have in common.

    The p-value is Fisher's: −2 Σ ln p = 2 ln 2 · Σ bits is at most χ² with 2n degrees of freedom where nothing was
    learned, so it tests the mean exposure itself.

    Args:
        repeats: Their number; 0 for controls.
        found: Of these canaries, by the headline score.
        of_target: The same by the target alone; None where that is the headline.
        is_exposed: [n] called exposed one by one.
        n_references: K.
        confidence: Two-sided.
        n_resamples: Of the bootstrap.
        rng: Source of the resamples.
    """
    is_known = ~np.isnan(found.bits)
    bits = found.bits[is_known]
    n, n_first = len(bits), int((found.ranks[is_known] == 1).sum())
    most = math.log2(1 + n_references)

    def mean_of(values: FloatArray) -> Finding:
        return _finding(
            min(most, float(values.mean())) if len(values) else math.nan,  # a sum may round upwards
            mean_interval(values, most, confidence=confidence, n_resamples=n_resamples, rng=rng),
            "mean over canaries: studentised bootstrap, at least as wide as Student's t; exact where all are alike",
            len(values),
            n_references,
            confidence,
        )

    return ExposureLevel(
        repeats=repeats,
        n=n,
        n_undefined=len(found.bits) - n,
        exposure=mean_of(bits),
        exposure_of_target=None if of_target is None else mean_of(of_target.bits[~np.isnan(of_target.bits)]),
        first=_finding(
            n_first / n if n else math.nan,
            clopper_pearson(n_first, n, confidence=confidence),
            "Clopper-Pearson",
            n,
            n_references,
            confidence,
        ),
        n_exposed=int(is_exposed.sum()),
        p_value=finite(fisher_p_value(bits)),
        p_holm=None,
    )


def fisher_p_value(bits: FloatArray) -> float:
    """One-sided p-value that none of these secrets was learned; NaN for none.

    References:
        Fisher 1932, Statistical Methods for Research Workers, 4th edition, §21.1.
    """
    if not len(bits):
        return math.nan
    return float(stats.chi2.sf(2 * math.log(2) * float(bits.sum()), 2 * len(bits)))


def mean_interval(
    values: FloatArray, most: float, *, confidence: float, n_resamples: int, rng: np.random.Generator
) -> Interval:
    """Interval for the mean of values between 0 and `most`.

    Exposures are skewed, to the right where little was learned and to the left near the largest, and canaries are few:
    the studentised bootstrap follows the skew that Student's t misses.

    Where all are alike there is no spread to go by: with n values alike, a share of more than (α/2)^(1/n) of the
    population is as they are, and the others may lie anywhere.

    Args:
        values: [n] canaries' exposures; fewer than two give no interval.
        most: Largest possible value.
        confidence: Two-sided.
        n_resamples: Of the bootstrap.
        rng: Source of the resamples.
    """
    n = len(values)
    if n < 2:
        return Interval(math.nan, math.nan)
    tail = (1 - confidence) / 2
    mean, spread = float(values.mean()), float(np.std(values, ddof=1))
    if np.ptp(values) < _ALIKE:
        share = tail ** (1 / n)
        return Interval(share * mean, share * mean + (1 - share) * most)
    resampled = values[rng.integers(n, size=(n_resamples, n))]
    errors = np.std(resampled, axis=1, ddof=1) / math.sqrt(n)
    varied = errors > 0  # a resample of one value alone says nothing of its own error
    studentised = (resampled.mean(axis=1)[varied] - mean) / errors[varied]
    error, usual = spread / math.sqrt(n), float(stats.t.ppf(1 - tail, n - 1))
    below, above = -usual, usual
    if len(studentised):
        low, high = np.quantile(studentised, [tail, 1 - tail])
        below, above = min(below, float(low)), max(above, float(high))
    return Interval(max(0.0, mean - above * error), min(most, mean - below * error))


def _finding(value: float, interval: Interval, method: str, n: int, n_references: int, confidence: float) -> Finding:
    return finding(value, interval, method, n_members=n, n_nonmembers=n * n_references, confidence=confidence)
