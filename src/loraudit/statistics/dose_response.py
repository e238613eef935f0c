"""How much poison it takes: success against the number of poisoned exposures, and how many times more another takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from loraudit.statistics.intervals import Interval, finding
from loraudit.statistics.runs import joined
from loraudit.types import Finding, FloatArray

Bound = Literal["above", "below"]
_ROUNDING = 1e-9
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


@dataclass(frozen=True, slots=True, eq=False)
class DoseResponse:
    """Success by dose: the mean over runs and records, and the same in every resample.

    Attributes:
        exposures: [D] poisoned exposures, rising.
        rates: [D] mean over runs, made monotone.
        floor: Mean without poison.
        ceiling: Success at full effect.
        drawn_rates: [B, D] resampled, made monotone.
        drawn_floor: [B] likewise.
        record_draws: [B, N] how often each record was drawn; two curves are paired by sharing them.
        shape_draws: [2, B] uniform numbers: whether, and where, a resample's curve leaves the straight line.
        n_runs: Fewest runs at any dose, the floor included.
        n_undefined: Records that some run, of those that define any, does not define.
    """

    exposures: FloatArray
    rates: FloatArray
    floor: float
    ceiling: float
    drawn_rates: FloatArray
    drawn_floor: FloatArray
    record_draws: FloatArray
    shape_draws: FloatArray
    n_runs: int
    n_undefined: int


def draw_records(n_records: int, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """[n_resamples, n_records] how often each test record was drawn: for all curves that are to be compared."""
    return rng.multinomial(n_records, np.full(n_records, 1 / n_records), n_resamples).astype(np.float32)


def fit_dose_response(
    exposures: FloatArray,
    hits: FloatArray,
    floor: FloatArray,
    *,
    record_draws: FloatArray,
    rng: np.random.Generator,
    ceiling: float = 1.0,
) -> DoseResponse:
    """The monotone curve of success against poisoned exposures, with its resamples.

    The curve is the isotonic regression of the doses' means over runs (each weighted by its runs): it assumes that
    more poison does not do less, and nothing else. A logistic curve between floor and ceiling is no better where it is
    the truth, and worse where it is not (docs/statistics.md).

    A resample has other records, the same at all doses, and other runs. Runs are too few to be drawn: three have ten
    different draws, too narrow by a third. Each seed's deviations from the mean, at all doses together, are multiplied
    by a normal number instead, and all by √(ν / χ²_ν) with ν one less than the runs: at each dose this is Student's t
    of the mean over runs, and what a seed does to several doses stays together.

    Args:
        exposures: [D] poisoned records seen until then, rising and above 0.
        hits: [D, S, N] 1 or 0 or a value between; NaN = undefined. A run may be undefined at some doses only.
        floor: [S, N] the same without poison, of the same seeds and records.
        record_draws: [B, N] from `draw_records`; the same array for curves that are to be compared.
        rng: Source of the draws of runs and of the shape between doses; another one for each curve.
        ceiling: Success at full effect: 1, or for errors (a loss of accuracy) the error rate of a guess.

    Raises:
        ValueError: Shapes do not fit, exposures do not rise from above 0, or a dose or the floor has no defined value.

    References:
        Ayer et al. 1955, Annals of Mathematical Statistics 26(4) (isotonic regression).
    """
    _check(exposures, hits, floor, record_draws)
    everything = np.concatenate([floor[None], hits])
    is_known = ~np.isnan(everything)
    is_run = is_known.any(axis=2)
    n_runs = is_run.sum(axis=1)
    if not n_runs.all():
        raise ValueError("A dose or the floor has no defined value. Expected a run with a defined record at each.")
    of_runs, drawn = _resampled_records(everything, is_known, record_draws)
    means = of_runs.sum(axis=1) / n_runs
    drawn_means = drawn.sum(axis=2) / n_runs
    deviations = np.where(is_run, of_runs - means[:, None], 0.0)
    drawn_means = np.clip(drawn_means + _other_runs(deviations, n_runs, len(record_draws), rng), 0.0, 1.0)
    n_undefined = int((is_run[:, :, None] & ~is_known).any(axis=(0, 1)).sum())
    return DoseResponse(
        exposures=exposures,
        rates=isotonic(means[None, 1:], n_runs[1:])[0],
        floor=float(means[0]),
        ceiling=ceiling,
        drawn_rates=isotonic(drawn_means[:, 1:], n_runs[1:]),
        drawn_floor=drawn_means[:, 0],
        record_draws=record_draws,
        shape_draws=rng.random((2, len(record_draws))),
        n_runs=int(n_runs.min()),
        n_undefined=n_undefined,
    )


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
    if math.isnan(low) or (low == -math.inf and high == math.inf):
        note = "Both doses lie on the same side of those tested, or one is undefined: the ratio is unknown."
    elif high == math.inf:
        bound, note = "above", f"More than {math.exp(low):.3g}: a dose lies beyond those tested."
    elif low == -math.inf:
        bound, note = "below", f"Less than {math.exp(high):.3g}: a dose lies beyond those tested."
    return _bounded(place, bound, Interval(lower, upper), confidence, note, (first, second))


def isotonic(values: FloatArray, weights: FloatArray) -> FloatArray:
    """The nearest rows that never fall, in weighted squares: max over j ≤ i of min over k ≥ i of the mean of j…k.

    Args:
        values: [B, D].
        weights: [D], above 0.

    References:
        Robertson, Wright and Dykstra 1988, Order Restricted Statistical Inference, theorem 1.4.4.
    """
    n_rows, n_doses = values.shape
    sums = np.concatenate([np.zeros((n_rows, 1)), np.cumsum(values * weights, axis=1)], axis=1)
    totals = np.concatenate([[0.0], np.cumsum(weights)])
    found = np.full((n_rows, n_doses), -math.inf)
    for start in range(n_doses):
        means = (sums[:, start + 1 :] - sums[:, start : start + 1]) / (totals[start + 1 :] - totals[start])
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        found[:, start:] = np.maximum(found[:, start:], least)
    return found


def _resampled_records(
    values: FloatArray, is_known: FloatArray, record_draws: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """[D, S] means over records and [B, D, S] the same of resamples, 0 where a run defines nothing."""
    shape = values.shape[:2]
    filled = np.where(is_known, values, 0.0).reshape(-1, values.shape[2])
    known = is_known.reshape(filled.shape)
    counts = known.sum(axis=1)
    of_runs = filled.sum(axis=1) / np.maximum(counts, 1)
    sums = record_draws @ filled.T.astype(np.float32)
    drawn_counts = record_draws @ known.T.astype(np.float32)
    # A resample without any defined record of a run says nothing of it.
    drawn = np.where(drawn_counts > 0, sums / np.maximum(drawn_counts, 1), of_runs)
    return of_runs.reshape(shape), drawn.reshape(-1, *shape).astype(np.float64)


def _other_runs(deviations: FloatArray, n_runs: FloatArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """[B, D] what other runs would add to the means over runs."""
    several = n_runs > 1
    if not several.any():
        return np.zeros((n_resamples, len(n_runs)))
    degrees = int(n_runs[several].min()) - 1
    scale = np.sqrt(degrees / rng.chisquare(degrees, (n_resamples, 1)))
    pairs = np.where(several, n_runs * (n_runs - 1), 1)
    return scale * (rng.standard_normal((n_resamples, deviations.shape[1])) @ (deviations / np.sqrt(pairs)[:, None]).T)


def _place(curve: DoseResponse, share: float) -> _Crossing:
    return _crossing(
        np.log(curve.exposures), curve.rates[None], np.array([curve.floor]), curve.ceiling, share, np.ones((2, 1))
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
    n_runs = min(curve.n_runs for curve in curves)
    n_undefined = max(curve.n_undefined for curve in curves)
    n_records = curves[0].record_draws.shape[1]
    one_run = "A dose has one training run: the interval does not say what another run would show."
    found = finding(
        value,
        interval,
        _METHOD,
        n_members=0,
        n_nonmembers=n_records - n_undefined,
        confidence=confidence,
        n_undefined_nonmembers=n_undefined,
        note=joined(note, one_run if n_runs < 2 else None),
    )
    return BoundedFinding(found, bound)


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"Share {share} is out of range. Expected a number in (0, 1].")


def _check(exposures: FloatArray, hits: FloatArray, floor: FloatArray, record_draws: FloatArray) -> None:
    if hits.shape != (len(exposures), *floor.shape) or record_draws.shape[1:] != floor.shape[1:]:
        raise ValueError(
            f"{len(exposures)} exposures, hits of shape {hits.shape}, a floor of shape {floor.shape} and record draws "
            f"of shape {record_draws.shape} do not fit. Expected [D], [D, S, N], [S, N] and [B, N]."
        )
    if not len(exposures) or exposures[0] <= 0 or (np.diff(exposures) <= 0).any():
        raise ValueError(f"Exposures {exposures.tolist()} do not rise from above 0. Expected each dose once, sorted.")
