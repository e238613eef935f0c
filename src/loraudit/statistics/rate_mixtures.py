"""Weighted sums of true-positive rates that were measured on the same records, by one shared bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from loraudit.statistics.bootstrap import ResampledRates, resample_rates
from loraudit.statistics.intervals import Interval
from loraudit.statistics.leakage import measure, rate_metric
from loraudit.statistics.mixtures import UNKNOWN, Mixed, unanswered
from loraudit.statistics.rates import RELIABLE_FALSE_POSITIVES, tpr_at_fpr, unresolved_rate
from loraudit.types import BoolArray, FloatArray, IntArray

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class RateRows:
    """True-positive rates of every row, and their distributions over resamples that all rows share.

    A row is one checkpoint of one run, as in `mixtures`.

    Attributes:
        fprs: F false-positive rates.
        tpr: [F, M] NaN where a side has no defined score.
        resampled: M distributions; none where a side has no record.
        scores: [M, N].
        is_member: [N].
        groups: [N] document of each record, or None.
        n_resamples: B.
        seed: Of the draws behind the intervals of single rows.
    """

    fprs: tuple[float, ...]
    tpr: FloatArray
    resampled: tuple[ResampledRates, ...]
    scores: FloatArray
    is_member: BoolArray
    groups: IntArray | None
    n_resamples: int
    seed: int

    @classmethod
    def of(
        cls,
        scores: FloatArray,
        is_member: BoolArray,
        *,
        fprs: Sequence[float],
        n_resamples: int,
        rng: np.random.Generator,
        groups: IntArray | None = None,
    ) -> RateRows:
        """Resample all rows at once: the one slow step.

        Args:
            scores: [M, N] NaN = undefined; higher means more likely a member.
            is_member: [N].
            fprs: In (0, 1], at least one.
            n_resamples: B, at least 1.
            rng: Source of the resamples.
            groups: [N] document of each record, drawn as a whole.
        """
        tpr = np.full((len(fprs), len(scores)), np.nan)
        resampled: tuple[ResampledRates, ...] = ()
        if is_member.any() and not is_member.all():
            drawn = resample_rates(
                {str(row): values for row, values in enumerate(scores)},
                is_member,
                fprs=fprs,
                max_fpr=max(fprs),
                n_resamples=n_resamples,
                rng=rng,
                groups=groups,
            )
            resampled = tuple(drawn.values())
            for row, values in enumerate(scores):
                is_defined = ~np.isnan(values)
                members, nonmembers = values[is_defined & is_member], values[is_defined & ~is_member]
                tpr[:, row] = [tpr_at_fpr(members, nonmembers, fpr=fpr) for fpr in fprs]
        seed = int(rng.integers(2**32))
        return cls(tuple(fprs), tpr, resampled, scores, is_member, groups, n_resamples, seed)

    def value(self, weights: FloatArray, fpr: float) -> float:
        """The sum of weights [M] · TPR alone, as of a single run; rows of weight 0 take no part."""
        rows = np.flatnonzero(weights)
        return float(weights[rows] @ self.tpr[self.fprs.index(fpr), rows])

    def mixed(self, weights: FloatArray, *, confidence: float = 0.95) -> dict[float, Mixed]:
        """The sum of weights · TPR at each false-positive rate, paired over the records that rows share.

        The standard error is the standard deviation over resamples. The interval

        - of a mean of rates is as far from it as, on average, the ends that `measure` gives each row are from that
          row's rate (bootstrap, exact and unknown-threshold intervals, whichever reaches furthest), times what
          averaging gains: the standard error of the mean over the mean of the standard errors;
        - of anything else holds the percentiles of the paired bootstrap, and the p-value of a difference is the
          level at which they would just touch 0.

        No resample can move beyond the largest non-member, so where thresholds rest on fewer than 10 of them
        percentiles cover as little as 70 % of the time. There a note says so, averaging is taken to gain nothing, and
        other intervals reach at least as far as one that adds, in squares, the distances to the ends of what is added
        and of what is subtracted (MOVER with correlation 0, which is conservative where it is positive). The p-value
        is then at least the one at which this interval, stretched as a normal one is, would touch 0.

        Args:
            weights: [M]; rows of weight 0 take no part.
            confidence: Two-sided.

        Returns:
            By FPR. A rate that some row cannot resolve has value NaN and a note that says why.

        References:
            Zou and Donner 2008, Statistics in Medicine 27(10) (MOVER).
        """
        rows = np.flatnonzero(weights)
        weight, is_defined = weights[rows], ~np.isnan(self.scores[rows])
        nothing = unanswered(weight, is_defined, self.is_member, self.groups, confidence=confidence)
        n_nonmembers = int((is_defined & ~self.is_member).sum(axis=1).min(initial=len(self.is_member)))
        found: dict[float, Mixed] = {}
        for position, fpr in enumerate(self.fprs):
            rates = self.tpr[position, rows]
            refusal = unresolved_rate(n_nonmembers, fpr)
            if refusal or not len(rows) or np.isnan(rates).any():
                found[fpr] = nothing._replace(note=refusal)
                continue
            drawn = sum(part * self.resampled[row].tpr[position] for part, row in zip(weight, rows, strict=True))
            found[fpr] = _described(nothing._replace(value=float(weight @ rates)), np.asarray(drawn))
        few = {fpr for fpr in found if fpr * n_nonmembers + _ROUNDING < RELIABLE_FALSE_POSITIVES}
        widened = [
            fpr for fpr, mixed in found.items() if not math.isnan(mixed.value) and (mixed.is_share or fpr in few)
        ]
        if widened:
            ends = self._ends(rows, confidence)
            for fpr in widened:
                position = self.fprs.index(fpr)
                below, above = _distances(weight, self.tpr[position, rows], ends[position])
                mixed = found[fpr]
                if fpr in few:
                    found[fpr] = _widened(mixed, below, above)._replace(note=_few_note(n_nonmembers, fpr))
                    continue
                errors = [_error(self.resampled[row].tpr[position]) for row in map(int, rows)]
                alone = float(weight @ np.array(errors))
                gain = min(1.0, mixed.standard_error / alone) if alone > 0 else 1.0
                found[fpr] = _widened(mixed, gain * below, gain * above)
        return found

    def _ends(self, rows: IntArray, confidence: float) -> FloatArray:
        """[F, R, 2] ends of each row's rates as an audit of it alone gives them; NaN where refused."""
        ends = np.full((len(self.fprs), len(rows), 2), np.nan)
        for column, row in enumerate(map(int, rows)):
            name = str(row)
            alone = measure(
                {name: self.scores[row]},
                self.is_member,
                fprs=self.fprs,
                n_resamples=self.n_resamples,
                confidence=confidence,
                rng=np.random.default_rng(self.seed),
                groups=self.groups,
                resampled={name: self.resampled[row]},
            )[name]
            for position, fpr in enumerate(self.fprs):
                finding = alone[rate_metric(fpr)]
                if finding.lower is not None and finding.upper is not None:
                    ends[position, column] = finding.lower, finding.upper
        return ends


def mixed_rates(
    scores: FloatArray,
    weights: FloatArray,
    is_member: BoolArray,
    *,
    fprs: Sequence[float],
    n_resamples: int,
    rng: np.random.Generator,
    groups: IntArray | None = None,
    confidence: float = 0.95,
) -> dict[float, Mixed]:
    """One weighted sum of true-positive rates, by FPR; to ask several things of the same rows keep a `RateRows`.

    Args:
        scores: [M, N] NaN = undefined.
        weights: [M].
        is_member: [N].
        fprs: In (0, 1], at least one.
        n_resamples: At least 1.
        rng: Source of the resamples.
        groups: [N] document of each record; None means every record stands alone.
        confidence: Two-sided.
    """
    rows = RateRows.of(scores, is_member, fprs=fprs, n_resamples=n_resamples, rng=rng, groups=groups)
    return rows.mixed(weights, confidence=confidence)


def _described(mixed: Mixed, drawn: FloatArray) -> Mixed:
    """Error, percentiles and the p-value that they invert, from the [B] resampled values."""
    drawn = np.sort(drawn[~np.isnan(drawn)])
    n = len(drawn)
    # As many resamples beyond one end as beyond the other, so that exchanging what is compared mirrors the interval.
    place = math.floor((1 - mixed.confidence) / 2 * (n + 1) + _ROUNDING)
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return mixed._replace(
        standard_error=_error(drawn),
        interval=Interval(float(drawn[place - 1]), float(drawn[n - place])) if place > 0 else UNKNOWN,
        p_value=min(1.0, 2 * (1 + smaller) / (1 + n)) if mixed.is_difference else math.nan,
    )


def _error(drawn: FloatArray) -> float:
    """Standard deviation of the resamples [B] that have a rate; NaN for fewer than two."""
    drawn = drawn[~np.isnan(drawn)]
    return float(drawn.std(ddof=1)) if len(drawn) > 1 else math.nan


def _distances(weight: FloatArray, rates: FloatArray, ends: FloatArray) -> tuple[float, float]:
    """How far the ends lie from the sum of weight · rates: added within a sign, in squares between the signs.

    Args:
        weight: [R].
        rates: [R].
        ends: [R, 2].
    """
    to_lower, to_upper = weight * (rates - ends[:, 0]), weight * (ends[:, 1] - rates)
    is_added = weight > 0
    return (
        math.hypot(to_lower[is_added].sum(), to_upper[~is_added].sum()),
        math.hypot(to_upper[is_added].sum(), to_lower[~is_added].sum()),
    )


def _widened(mixed: Mixed, below: float, above: float) -> Mixed:
    """With an interval that reaches at least so far; of a mean of rates, exactly so far."""
    reached = Interval(
        max(mixed.attainable.lower, mixed.value - below), min(mixed.attainable.upper, mixed.value + above)
    )
    if mixed.is_share:
        return mixed._replace(interval=reached)
    interval = Interval(min(mixed.interval.lower, reached.lower), max(mixed.interval.upper, reached.upper))
    if not mixed.is_difference:
        return mixed._replace(interval=interval)
    towards_zero = below if mixed.value > 0 else above
    quantile = float(stats.norm.ppf(0.5 + mixed.confidence / 2))
    touching = 2 * float(stats.norm.sf(quantile * abs(mixed.value) / towards_zero)) if towards_zero else 1.0
    return mixed._replace(interval=interval, p_value=max(mixed.p_value, touching))


def _few_note(n_nonmembers: int, fpr: float) -> str:
    return (
        f"Thresholds rest on {fpr * n_nonmembers:.1f} non-members; "
        f"give {math.ceil(RELIABLE_FALSE_POSITIVES / fpr)} for a useful interval."
    )
