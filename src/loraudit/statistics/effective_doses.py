"""How much poison it takes to a share of the full effect, and how many times more another method takes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from loraudit.statistics.dose_response import DoseResponse
from loraudit.statistics.intervals import Interval, finding
from loraudit.statistics.runs import joined
from loraudit.types import Finding, FloatArray

Bound = Literal["above", "below"]
_ROUNDING = 1e-9
_STRAIGHT = np.full((2, 1), math.inf)
_METHOD = "monotone curve, interpolated over log exposures; bootstrap of records and runs"


class BoundedFinding(NamedTuple):
    """A number of exposures, or a ratio of two, that may lie beyond what was tested.

    Attributes:
        finding: No value where the doses do not bracket it; the note then says what is known. An upper end of None
            means that there is none.
        bound: On which side of what was tested it lies; None if it is bracketed, or if nothing is known.
    """

    finding: Finding
    bound: Bound | None


class _Crossing(NamedTuple):
    """Between which logarithms of exposures curves cross a level; [B] each, equal where they were read off."""

    lower: FloatArray
    upper: FloatArray


def effective_dose(curve: DoseResponse, share: float, *, confidence: float = 0.95) -> BoundedFinding:
    """Exposures at which success stands at floor + share · (ceiling − floor).

    Between two doses the curve is taken as straight over the logarithm of exposures. Where it runs there is not known:
    the more of the whole rise falls between the two, the less. So in each resample, with a probability of that share
    of the rise, the dose is put anywhere between the two (uniform in the logarithm) and not on the line: doses of which
    one does nothing and the next everything give an interval from the one to the other.

    Args:
        curve: From `fit_dose_response`.
        share: In (0, 1]: 0.5 or 0.9.
        confidence: Two-sided.

    Returns:
        No value where no dose reaches it ("above"), or the smallest exceeds it ("below"). The interval takes resamples
        beyond the doses tested as anywhere beyond: its lower end is then 0, or its upper end None.

    Raises:
        ValueError: The share is outside (0, 1].
    """
    _check_share(share)
    place = _place(curve, share)
    lower, upper = _ends(_drawn(curve, share), confidence)
    bound, note = None, None
    if math.isnan(place.lower[0]):
        note = f"The floor of {curve.floor:.3g} leaves nothing to rise to {curve.ceiling:.3g}."
    elif place.upper[0] == math.inf:
        bound, note = "above", f"No dose tested reaches it: more than {curve.exposures[-1]:g} exposures."
    elif place.lower[0] == -math.inf:
        bound, note = "below", f"The smallest dose tested exceeds it: fewer than {curve.exposures[0]:g} exposures."
    return _bounded(place, bound, Interval(lower, upper), confidence, note, (curve,))


def dose_ratio(first: DoseResponse, second: DoseResponse, share: float, *, confidence: float = 0.95) -> BoundedFinding:
    """How many times the exposures of the second curve the first one takes for the same share of its effect.

    Args:
        first: From `fit_dose_response`.
        second: From the same record draws, with another source of its other draws.
        share: In (0, 1].
        confidence: Two-sided, from the ratios of single resamples: records paired, runs not.

    Returns:
        No value where one of the two lies beyond the doses tested; the note then bounds the ratio. Where both lie on
        the same side nothing is known of it.

    Raises:
        ValueError: The share is outside (0, 1], or the curves do not share their record draws.
    """
    _check_share(share)
    if not np.array_equal(first.record_draws, second.record_draws):
        raise ValueError("The curves have different resamples. Expected both from the same record_draws.")
    place = _quotient(_place(first, share), _place(second, share))
    lower, upper = _ends(_quotient(_drawn(first, share), _drawn(second, share)), confidence)
    bound, note = None, None
    low, high = float(place.lower[0]), float(place.upper[0])
    if math.isnan(low):
        note = "The floor of one leaves nothing to rise: the ratio is unknown."
    elif low == -math.inf and high == math.inf:
        note = "Both doses lie on the same side of those tested: the ratio is unknown."
    elif high == math.inf:
        bound, note = "above", f"More than {math.exp(low):.3g}: a dose lies beyond those tested."
    elif low == -math.inf:
        bound, note = "below", f"Less than {math.exp(high):.3g}: a dose lies beyond those tested."
    return _bounded(place, bound, Interval(lower, upper), confidence, note, (first, second))


def _place(curve: DoseResponse, share: float) -> _Crossing:
    return _crossing(
        np.log(curve.exposures), curve.rates[None], np.array([curve.floor]), curve.ceiling, share, _STRAIGHT
    )


def _drawn(curve: DoseResponse, share: float) -> _Crossing:
    found = _crossing(
        np.log(curve.exposures), curve.drawn_rates, curve.drawn_floor, curve.ceiling, share, curve.shape_draws
    )
    # A resample whose floor leaves nothing to rise says nothing of the dose.
    return _Crossing(
        np.nan_to_num(found.lower, nan=-math.inf, neginf=-math.inf, posinf=math.inf),
        np.nan_to_num(found.upper, nan=math.inf, posinf=math.inf),
    )


def _crossing(
    log_exposures: FloatArray,
    rates: FloatArray,
    floor: FloatArray,
    ceiling: float,
    share: float,
    shape_draws: FloatArray,
) -> _Crossing:
    """Where monotone rates [B, D] first reach their level; NaN where the floor leaves nothing to rise."""
    rise = ceiling - floor
    level = floor + share * rise
    is_reached = rates >= level[:, None] - _ROUNDING
    last = is_reached.argmax(axis=1)
    before = np.maximum(last - 1, 0)
    rows = np.arange(len(rates))
    jump = rates[rows, last] - rates[rows, before]
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.clip((level - rates[rows, before]) / jump, 0, 1)
        along = np.where(shape_draws[0] < jump / rise, shape_draws[1], along)
    place = log_exposures[before] + np.nan_to_num(along) * (log_exposures[last] - log_exposures[before])
    is_above, is_below = ~is_reached.any(axis=1), is_reached[:, 0]
    lower = np.where(is_above, log_exposures[-1], np.where(is_below, -math.inf, place))
    upper = np.where(is_above, math.inf, np.where(is_below, log_exposures[0], place))
    is_open = rise > _ROUNDING
    return _Crossing(np.where(is_open, lower, math.nan), np.where(is_open, upper, math.nan))


def _quotient(first: _Crossing, second: _Crossing) -> _Crossing:
    return _Crossing(first.lower - second.upper, first.upper - second.lower)


def _ends(drawn: _Crossing, confidence: float) -> Interval:
    """Percentiles, each of the end that lies further out."""
    tail = round((1 - confidence) / 2, 12)
    lower = np.quantile(drawn.lower, tail, method="inverted_cdf")
    upper = np.quantile(drawn.upper, 1 - tail, method="inverted_cdf")
    return Interval(math.exp(lower), math.exp(upper))


def _bounded(
    place: _Crossing,
    bound: Bound | None,
    interval: Interval,
    confidence: float,
    note: str | None,
    curves: tuple[DoseResponse, ...],
) -> BoundedFinding:
    value = math.exp(place.lower[0]) if note is None else math.nan
    if note is None:
        interval = Interval(min(interval.lower, value), max(interval.upper, value))
    n_undefined = max(curve.n_undefined for curve in curves)
    n_records = curves[0].record_draws.shape[1]
    if min(curve.n_runs for curve in curves) < 2:
        note = joined(note, "A dose has one training run: the interval does not say what another run would show.")
    if interval.upper == math.inf:
        note = joined(note, "The interval has no upper end: resamples lie beyond the doses tested.")
    found = finding(
        value,
        interval,
        _METHOD,
        n_members=0,
        n_nonmembers=n_records - n_undefined,
        confidence=confidence,
        n_undefined_nonmembers=n_undefined,
        note=note,
    )
    return BoundedFinding(found, bound)


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"Share {share} is out of range. Expected a number in (0, 1].")
