"""Leakage by how often a record was seen in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.auc import clustered_covariance
from loraudit.statistics.intervals import Interval
from loraudit.statistics.leakage import AUC, measure, rate_metric
from loraudit.types import BoolArray, Finding, FloatArray, IntArray

_NO_SPREAD = 1e-12
_LARGEST_Z = 18.0  # tanh is 1 beyond


class AtExposure(NamedTuple):
    """Members seen equally often, against all non-members.

    Attributes:
        exposures: How often each of them was seen.
        findings: By metric: "auc", and the true-positive rates as `rate_metric` names them.
    """

    exposures: float
    findings: Mapping[str, Finding]


class RankCorrelation(NamedTuple):
    """Spearman's correlation.

    Attributes:
        value: NaN where either side is constant.
        interval: Two-sided.
        p_value: Two-sided, of no monotone association.
        n_records: With both values.
        n_groups: Documents among them.
    """

    value: float
    interval: Interval
    p_value: float
    n_records: int
    n_groups: int


class ByExposure(NamedTuple):
    """Leakage at each number of exposures, and whether it rises with them.

    Attributes:
        levels: By rising number of exposures.
        trend: Correlation of score and exposures among members; above 0 where records seen more often score higher.
        n_unknown: Members whose number of exposures is NaN; they are in no level.
    """

    levels: tuple[AtExposure, ...]
    trend: RankCorrelation
    n_unknown: int


def by_exposure(
    scores: FloatArray,
    is_member: BoolArray,
    exposures: FloatArray,
    *,
    fprs: Sequence[float],
    n_resamples: int,
    confidence: float,
    rng: np.random.Generator,
    groups: IntArray | None = None,
) -> ByExposure:
    """AUC and true-positive rates of the members of each number of exposures, against all non-members.

    The levels share their non-members, so their numbers rise and fall together; the intervals are of each level on its
    own.

    Args:
        scores: [N] NaN = undefined; higher means more likely a member.
        is_member: [N].
        exposures: [N] copies in the training set times epochs; NaN = unknown. What stands at non-members is not read.
        fprs: False-positive rates to report the true-positive rate at.
        n_resamples: Of the bootstrap, as in `measure`.
        confidence: Two-sided.
        rng: Source of the resamples.
        groups: [N] document of each record, to cluster by.
    """
    metrics = [AUC, *map(rate_metric, fprs)]
    levels: list[AtExposure] = []
    known = is_member & ~np.isnan(exposures)
    for level in np.unique(exposures[known]):
        taken = ~is_member | (known & (exposures == level))
        found = measure(
            {"score": scores[taken]},
            is_member[taken],
            fprs=fprs,
            n_resamples=n_resamples,
            confidence=confidence,
            rng=rng,
            groups=None if groups is None else groups[taken],
        )["score"]
        levels.append(AtExposure(float(level), {metric: found[metric] for metric in metrics}))
    trend = rank_correlation(
        scores[known], exposures[known], None if groups is None else groups[known], confidence=confidence
    )
    return ByExposure(tuple(levels), trend, int(is_member.sum() - known.sum()))


def rank_correlation(
    first: FloatArray, second: FloatArray, groups: IntArray | None = None, *, confidence: float = 0.95
) -> RankCorrelation:
    """Spearman's correlation with an interval that allows for ties and for documents.

    Each record has an influence on ρ, through its own ranks and through those that it gives to others (`_influence`).
    Summed within documents, the influences give the standard error, as DeLong's placements do for an AUC. The interval
    is symmetric on Fisher's scale, atanh(ρ), with a t quantile of one degree of freedom less than there are
    documents; the p-value inverts it.

    Args:
        first: [n] NaN = undefined; such a record is left out.
        second: [n] likewise.
        groups: [n] document of each record; None means every record stands alone.
        confidence: Two-sided.

    Returns:
        Ends and p-value are NaN at a correlation of ±1, which has no spread, and for fewer than two documents.

    References:
        Croux and Dehon 2010, Statistical Methods and Applications 19(4) (influence of a record on ρ).
    """
    known = ~np.isnan(first) & ~np.isnan(second)
    groups = None if groups is None else groups[known]
    n_records = int(known.sum())
    n_groups = n_records if groups is None else len(np.unique(groups))
    nothing = RankCorrelation(math.nan, Interval(math.nan, math.nan), math.nan, n_records, n_groups)
    ranks = [_centred_ranks(values[known]) for values in (first, second)]
    if n_records == 0 or any(not side.any() for side in ranks):
        return nothing
    value, influence = _influence(*ranks)
    nothing = nothing._replace(value=value)
    variance = clustered_covariance(influence, influence, groups)
    if not variance > _NO_SPREAD**2 or abs(value) > 1 - _NO_SPREAD:
        return nothing
    error = math.sqrt(variance) / (1 - value**2)
    centre, half = math.atanh(value), float(stats.t.ppf(0.5 + confidence / 2, n_groups - 1)) * error
    interval = Interval(*(math.tanh(min(max(end, -_LARGEST_Z), _LARGEST_Z)) for end in (centre - half, centre + half)))
    p_value = min(1.0, 2 * float(stats.t.sf(abs(centre) / error, n_groups - 1)))
    return nothing._replace(interval=interval, p_value=p_value)


def _centred_ranks(values: FloatArray) -> FloatArray:
    """P(other < x) + ½ P(other = x) − ½ over the sample."""
    return (stats.rankdata(values) - 0.5) / max(1, len(values)) - 0.5


def _influence(f: FloatArray, g: FloatArray) -> tuple[float, FloatArray]:
    """Spearman's ρ and the [n] influence of each record on it.

    With θ = mean(f g), σ_f² = mean(f²) and c(d) = 1, ½ or 0 for d above, at or below 0:

        influence on θ    f_i g_i + mean_j c(f_j − f_i) g_j + mean_j c(g_j − g_i) f_j − 3 θ
        influence on σ_f² f_i² + 2 mean_j c(f_j − f_i) f_j − 3 σ_f²
        influence on ρ    (influence on θ) / (σ_f σ_g) − ρ/2 · (that on σ_f² / σ_f² + that on σ_g² / σ_g²)

    Args:
        f: [n] centred ranks, not all 0.
        g: [n] likewise.
    """
    variances = float(f @ f) / len(f), float(g @ g) / len(g)
    covariance = float(f @ g) / len(f)
    scale = math.sqrt(variances[0] * variances[1])
    value = min(1.0, max(-1.0, covariance / scale))
    on_covariance = f * g + _mean_above(f, g) + _mean_above(g, f) - 3 * covariance
    on_variances = sum(
        (side**2 + 2 * _mean_above(side, side)) / variance - 3 for side, variance in zip((f, g), variances, strict=True)
    )
    return value, on_covariance / scale - value / 2 * on_variances


def _mean_above(order: FloatArray, values: FloatArray) -> FloatArray:
    """[n] mean over j of c(order_j − order_i) · values_j."""
    _, level = np.unique(order, return_inverse=True)
    by_level = np.bincount(level, weights=values)
    above = by_level.sum() - np.cumsum(by_level)
    return (above + by_level / 2)[level] / len(order)
