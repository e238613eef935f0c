"""From a few training runs of each method to what other runs, on other records, would have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from loraudit.statistics.intervals import Interval
from loraudit.statistics.mixtures import UNKNOWN, Mixed, smallest_level
from loraudit.types import FloatArray

_NO_SPREAD = 1e-12
_ONE_RUN = "One training run: the interval says how other records would move the number, not how another run would."


class OverSeeds(NamedTuple):
    """A mean over training runs, or the difference between two such means.

    Attributes:
        value: The estimate.
        deviations: Of each method, the standard deviation of single runs about their mean; NaN for one run.
        n_seeds: Of each method.
        records: Interval for these very runs on other records.
        combined: Interval for other runs on other records; NaN ends where a method has one run.
        p_value_records: Two-sided, of no difference between these runs; NaN unless this is a difference.
        p_value: Two-sided, of no difference between the methods; NaN likewise, and where a method has one run.
        confidence: Of both intervals.
        note: What the runs cannot say.
    """

    value: float
    deviations: tuple[float, ...]
    n_seeds: tuple[int, ...]
    records: Interval
    combined: Interval
    p_value_records: float
    p_value: float
    confidence: float
    note: str | None


def over_seeds(mixed: Mixed, *runs: FloatArray) -> OverSeeds:
    """Add the spread between training runs to the error that records cause.

    The variance is s² = r² + b with b = Σ_a sd_a² / S_a, where r is the error over records of the whole mean or
    difference and sd_a the standard deviation of the S_a runs of method a. Runs of different methods are taken as
    unpaired: equal seeds share little once the methods differ. Both parts are estimated, b from very few runs, so the
    quantile is Cochran's mean of two, with G = `mixed.n_groups` and Satterthwaite's ν for the methods together:

        t = (r² · t_{G−1} + b · t_ν) / (r² + b),   ν = b² / Σ_a (sd_a² / S_a)² / (S_a − 1).

    Satterthwaite's degrees of freedom for all of s² would give narrower intervals, which cover as little as 92 % of the
    time with three runs and 87 % with two (tests/property/test_seeds.py): where runs happen to agree, they take the
    variance between them for small and for well known at once.

    The combined interval is the one over records, stretched about the value by (t · s) / (t_{G−1} · r), at least 1: it
    keeps its asymmetry, and equals it where the runs agree. A mean whose ends lie within (0, 1) is stretched
    on the logit scale. r is the standard error, or what the interval is worth (half its width over t_{G−1}) where
    that is more, as at few non-members above a threshold or at an AUC of 1.

    The result errs on the wide side: of what records do to a single run, the part that all runs share cancels in
    sd_a, but the part that differs between runs counts in sd_a and in r. With two or three runs the t quantile is
    large, which is what so few of them can say. The level at which runs are matched and the fit of each checkpoint
    are taken as known.

    Args:
        mixed: The mean over the runs of one method, or the difference between the means of two.
        *runs: [S_a] value of each run of a method, without NaN: one array if `mixed` is a mean, two if it is a
            difference. Methods carry weight 1 or −1.

    Returns:
        Where a method has one run, the interval over records alone and a note.

    References:
        Cochran 1964, Biometrics 20(1); Satterthwaite 1946, Biometrics Bulletin 2(6).
    """
    found = OverSeeds(
        value=mixed.value,
        deviations=tuple(float(np.std(values, ddof=1)) if len(values) > 1 else math.nan for values in runs),
        n_seeds=tuple(len(values) for values in runs),
        records=mixed.interval,
        combined=UNKNOWN,
        p_value_records=mixed.p_value,
        p_value=math.nan,
        confidence=mixed.confidence,
        note=None,
    )
    if min(found.n_seeds) < 2:
        return found._replace(note=_ONE_RUN)
    if math.isnan(sum(mixed.interval)):
        return found
    return _combined(found, mixed)


def _combined(found: OverSeeds, mixed: Mixed) -> OverSeeds:
    value, (lower, upper) = mixed.value, mixed.interval
    is_logit = mixed.is_share and lower > 0 and upper < 1
    slope = 1 / (value * (1 - value)) if is_logit else 1.0
    centre, lower, upper = (float(special.logit(end)) if is_logit else end for end in (value, lower, upper))
    spreads = [(slope * sd) ** 2 / n for sd, n in zip(found.deviations, found.n_seeds, strict=True)]
    of_runs = sum(spreads)
    if of_runs < _NO_SPREAD**2:
        return found._replace(combined=mixed.interval, p_value=mixed.p_value)

    degrees = max(1, mixed.n_groups - 1)
    degrees_of_runs = satterthwaite(spreads, found.n_seeds)
    level = 1 - mixed.confidence
    quantile = _two_sided(level, degrees)
    known_error = 0.0 if math.isnan(mixed.standard_error) else slope * mixed.standard_error
    of_records = max(known_error, (upper - lower) / 2 / quantile) ** 2
    variance = of_records + of_runs

    def cochran(level: float) -> float:
        return (of_records * _two_sided(level, degrees) + of_runs * _two_sided(level, degrees_of_runs)) / variance

    combined_quantile = cochran(level)
    stretch = combined_quantile * math.sqrt(variance) / (quantile * math.sqrt(of_records)) if of_records else 1.0
    # An end that lies at the value itself could not be stretched away from it.
    least = combined_quantile * math.sqrt(of_runs)
    below, above = (max(least, max(1.0, stretch) * distance) for distance in (centre - lower, upper - centre))
    if is_logit:
        combined = Interval(float(special.expit(centre - below)), float(special.expit(centre + above)))
    else:
        combined = Interval(max(mixed.attainable.lower, value - below), min(mixed.attainable.upper, value + above))
    if not mixed.is_difference:
        return found._replace(combined=combined)
    error = (below if value > 0 else above) / combined_quantile
    p_value = smallest_level(lambda level: abs(value) <= cochran(level) * error)
    return found._replace(combined=combined, p_value=max(mixed.p_value, p_value))


def satterthwaite(variances: Sequence[float], n_runs: Sequence[int]) -> float:
    """Degrees of freedom of a sum of variances of means, not all 0, each estimated from two runs or more.

    References:
        Satterthwaite 1946, Biometrics Bulletin 2(6).
    """
    return sum(variances) ** 2 / sum(part**2 / (n - 1) for part, n in zip(variances, n_runs, strict=True))


def _two_sided(level: float, degrees_of_freedom: float) -> float:
    """The t quantile that this share of the distribution lies beyond, on both sides together."""
    return -float(special.stdtrit(degrees_of_freedom, level / 2))
