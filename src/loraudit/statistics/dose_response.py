"""Success against the number of poisoned exposures, with what other records and other runs would have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loraudit.types import BoolArray, FloatArray, IntArray


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
    more poison does not do less, and nothing else. A logistic curve between floor and ceiling comes closer where it is
    the truth, but its intervals hold the dose of half effect as rarely as one time in three where curves are steep
    for the doses tested or of another shape (docs/statistics.md).

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
    is_known: BoolArray = ~np.isnan(everything)
    is_run = np.any(is_known, axis=2)
    n_runs: IntArray = is_run.sum(axis=1)
    if not n_runs.all():
        raise ValueError("A dose or the floor has no defined value. Expected a run with a defined record at each.")
    of_runs, drawn = _resampled_records(everything, is_known, record_draws)
    means = of_runs.sum(axis=1) / n_runs
    drawn_means = drawn.sum(axis=2) / n_runs
    deviations = np.where(is_run, of_runs - means[:, None], 0.0)
    drawn_means = np.clip(drawn_means + _other_runs(deviations, n_runs, len(record_draws), rng), 0.0, 1.0)
    is_missing: BoolArray = is_run[:, :, None] & ~is_known
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
        n_undefined=int(is_missing.any(axis=(0, 1)).sum()),
    )


def isotonic(values: FloatArray, weights: FloatArray | IntArray) -> FloatArray:
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
    values: FloatArray, is_known: BoolArray, record_draws: FloatArray
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


def _other_runs(deviations: FloatArray, n_runs: IntArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """[B, D] what other runs would add to the means over runs."""
    several = n_runs > 1
    if not several.any():
        return np.zeros((n_resamples, len(n_runs)))
    degrees = int(n_runs[several].min()) - 1
    scale = np.sqrt(degrees / rng.chisquare(degrees, (n_resamples, 1)))
    pairs = np.where(several, n_runs * (n_runs - 1), 1)
    return scale * (rng.standard_normal((n_resamples, deviations.shape[1])) @ (deviations / np.sqrt(pairs)[:, None]).T)


def _check(exposures: FloatArray, hits: FloatArray, floor: FloatArray, record_draws: FloatArray) -> None:
    if hits.shape != (len(exposures), *floor.shape) or record_draws.shape[1:] != floor.shape[1:]:
        raise ValueError(
            f"{len(exposures)} exposures, hits of shape {hits.shape}, a floor of shape {floor.shape} and record draws "
            f"of shape {record_draws.shape} do not fit. Expected [D], [D, S, N], [S, N] and [B, N]."
        )
    if not len(exposures) or exposures[0] <= 0 or (np.diff(exposures) <= 0).any():
        raise ValueError(f"Exposures {exposures.tolist()} do not rise from above 0. Expected each dose once, sorted.")
