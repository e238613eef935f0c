"""From attack scores to findings: every rate with its interval, its n and what was left out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from loraudit.statistics.auc import auc, auc_interval
from loraudit.statistics.bootstrap import ResampledRates, resample_rates
from loraudit.statistics.clusters import independent_records
from loraudit.statistics.intervals import Interval, clopper_pearson, logit_interval, unknown_threshold
from loraudit.statistics.intervals import finding as make_finding
from loraudit.statistics.rates import (
    RELIABLE_FALSE_POSITIVES,
    partial_auc,
    standardised_partial_area,
    threshold_at_fpr,
    tpr_at_fpr,
    unresolved_rate,
)
from loraudit.types import BoolArray, Finding, FloatArray, IntArray

PARTIAL_AUC_MAX_FPR = 0.1
AUC = "auc"
PARTIAL_AUC = "partial_auc_fpr_10pct"
TPR_AT_ZERO = "tpr_at_zero_false_positives"
_ROUNDING = 1e-9


def rate_metric(fpr: float) -> str:
    """Name of the metric "TPR at this FPR".

    >>> rate_metric(0.01), rate_metric(0.001)
    ('tpr_at_fpr_1pct', 'tpr_at_fpr_0_1pct')
    """
    return f"tpr_at_fpr_{100 * fpr:g}pct".replace(".", "_")


def measure(
    scores: Mapping[str, FloatArray],
    is_member: BoolArray,
    *,
    fprs: Sequence[float],
    n_resamples: int,
    confidence: float,
    rng: np.random.Generator,
    groups: IntArray | None = None,
    resampled: Mapping[str, ResampledRates] | None = None,
) -> dict[str, dict[str, Finding]]:
    """AUC, partial AUC and true-positive rates of every attack.

    Args:
        scores: [N] per attack, NaN = undefined.
        is_member: [N].
        fprs: False-positive rates to report the true-positive rate at.
        n_resamples: Bootstrap resamples shared by all attacks.
        confidence: Of every interval, two-sided.
        rng: Source of the resamples.
        groups: [N] document of each record, to cluster the intervals by.
        resampled: What `resample_rates` gave for the same arguments, where a caller needs it too.

    Returns:
        By attack, then by metric. A rate the sample cannot resolve has value None and a note.
    """
    began = time.perf_counter()
    if resampled is None and n_resamples and is_member.any() and not is_member.all():
        resampled = resample_rates(
            scores,
            is_member,
            fprs=fprs,
            max_fpr=PARTIAL_AUC_MAX_FPR,
            n_resamples=n_resamples,
            rng=rng,
            groups=groups,
        )
    seed = int(rng.integers(2**32))  # with the name: an attack's draws do not depend on which others run
    shared_seconds = (time.perf_counter() - began) / max(1, len(scores))
    return {
        name: _measure_one(
            values,
            is_member,
            groups,
            (resampled or {}).get(name),
            fprs=fprs,
            confidence=confidence,
            rng=np.random.default_rng([seed, *name.encode()]),
            shared_seconds=shared_seconds,
        )
        for name, values in scores.items()
    }


def _measure_one(
    values: FloatArray,
    is_member: BoolArray,
    groups: IntArray | None,
    resampled: ResampledRates | None,
    *,
    fprs: Sequence[float],
    confidence: float,
    rng: np.random.Generator,
    shared_seconds: float,
) -> dict[str, Finding]:
    began = time.perf_counter()
    is_defined = ~np.isnan(values)
    members, nonmembers = values[is_defined & is_member], values[is_defined & ~is_member]
    n_members, n_nonmembers = len(members), len(nonmembers)

    def finding(
        value: float,
        interval: Interval,
        method: str,
        note: str | None = None,
        n_false_positives: int | None = None,
    ) -> Finding:
        return make_finding(
            value,
            interval,
            method,
            n_members=n_members,
            n_nonmembers=n_nonmembers,
            confidence=confidence,
            n_undefined_members=int((is_member & ~is_defined).sum()),
            n_undefined_nonmembers=int((~is_member & ~is_defined).sum()),
            seconds=round(shared_seconds + time.perf_counter() - began, 4),
            n_false_positives=n_false_positives,
            note=note,
        )

    nothing = Interval(math.nan, math.nan)
    clustering = "" if groups is None else ", clustered by group"
    if n_members == 0 or n_nonmembers == 0:
        note = "No score is defined on " + ("members" if n_members == 0 else "non-members") + "."
        names = [AUC, PARTIAL_AUC, *map(rate_metric, fprs), TPR_AT_ZERO]
        return {name: finding(math.nan, nothing, "none", note) for name in names}

    side_groups = (None, None) if groups is None else (groups[is_defined & is_member], groups[is_defined & ~is_member])
    n_groups = min(
        n if side is None else len(np.unique(side))
        for n, side in zip((n_members, n_nonmembers), side_groups, strict=True)
    )
    area = partial_auc(members, nonmembers, max_fpr=PARTIAL_AUC_MAX_FPR)
    found = {
        AUC: finding(
            auc(members, nonmembers),
            auc_interval(
                members,
                nonmembers,
                confidence=confidence,
                member_groups=side_groups[0],
                nonmember_groups=side_groups[1],
            ),
            f"DeLong on the logit scale{clustering}",
        ),
        PARTIAL_AUC: finding(
            area,
            _partial_area_interval(area, resampled.partial_auc, n_groups, confidence) if resampled else nothing,
            f"stratified bootstrap{clustering}, at least as wide as its logit-t interval" if resampled else "none",
        ),
    }
    for i, fpr in enumerate([*fprs, 0.0]):
        name = rate_metric(fpr) if fpr else TPR_AT_ZERO
        refusal = unresolved_rate(n_nonmembers, fpr) if fpr else None
        if refusal:
            found[name] = finding(math.nan, nothing, "refused", refusal)
            continue
        threshold = threshold_at_fpr(nonmembers, fpr=fpr)
        is_found = members > threshold
        n_effective = (
            independent_records(is_found, side_groups[0]),
            independent_records(nonmembers > threshold, side_groups[1]),
        )
        # The bootstrap has no width where no, or every, member is found; the exact interval has.
        interval = clopper_pearson(is_found.mean() * n_effective[0], n_effective[0], confidence=confidence)
        method = "Clopper-Pearson at this sample's threshold"
        if fpr and resampled:
            drawn = unknown_threshold(
                members,
                nonmembers,
                fpr=fpr,
                confidence=confidence,
                n_draws=resampled.tpr.shape[1],
                rng=rng,
                n_effective=n_effective,
            )
            interval = _union(interval, drawn, _percentiles(resampled.tpr[i], confidence))
            method = f"stratified bootstrap{clustering}, at least as wide as exact and unknown-threshold intervals"
        found[name] = finding(
            tpr_at_fpr(members, nonmembers, fpr=fpr),
            interval,
            method,
            note=_rate_note(n_nonmembers, fpr, confidence),
            n_false_positives=int((nonmembers > threshold).sum()),
        )
    return found


def _partial_area_interval(area: float, resampled: FloatArray, n_groups: int, confidence: float) -> Interval:
    """Percentiles, widened to the logit-t interval of their spread; exact at no and at full separation."""
    smallest = float(standardised_partial_area(np.zeros(()), PARTIAL_AUC_MAX_FPR))
    share = (area - smallest) / (1 - smallest)
    defined = resampled[~np.isnan(resampled)]
    if share < _ROUNDING or share > 1 - _ROUNDING:
        widened = clopper_pearson(round(share) * n_groups, n_groups, confidence=confidence)
    elif n_groups > 1 and len(defined):
        # The area rests on the non-members up to max_fpr alone, so only they are degrees of freedom.
        degrees = max(1, round(PARTIAL_AUC_MAX_FPR * n_groups) - 1)
        widened = logit_interval(share, float(defined.std()) / (1 - smallest), degrees, confidence=confidence)
    else:
        return Interval(math.nan, math.nan)
    rescaled = Interval(*(smallest + end * (1 - smallest) for end in widened))
    return _union(_percentiles(resampled, confidence), rescaled)


def _rate_note(n_nonmembers: int, fpr: float, confidence: float) -> str | None:
    if fpr == 0:
        bound = 1 - (1 - confidence) ** (1 / n_nonmembers)
        return (
            "The share above the highest of these non-members; another sample would set another threshold. "
            f"No false positive among {n_nonmembers} bounds the false-positive rate only by {100 * bound:.2g} %."
        )
    expected = fpr * n_nonmembers
    if expected < RELIABLE_FALSE_POSITIVES:
        return (
            f"The threshold rests on {expected:.1f} non-members, and the rate tends to come out too high; "
            f"give {math.ceil(RELIABLE_FALSE_POSITIVES / fpr)} for a useful interval."
        )
    return None


def _percentiles(values: FloatArray, confidence: float) -> Interval:
    tail = round((1 - confidence) / 2, 12)  # a hair more than 0.025 would take the next order statistic
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Interval(math.nan, math.nan)
    # Observed values only: interpolating would invent rates that no resample had.
    lower = np.quantile(values, tail, method="inverted_cdf")
    upper = np.quantile(values, 1 - tail, method="inverted_cdf")
    return Interval(float(lower), float(upper))


def _union(*intervals: Interval) -> Interval:
    """The smallest interval that holds all of them."""
    lowers, uppers = zip(*intervals, strict=True)
    return Interval(float(np.nanmin(lowers)), float(np.nanmax(uppers)))
