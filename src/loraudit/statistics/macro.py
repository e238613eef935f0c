"""Macro F1 over several training runs on the same test records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from loraudit.statistics.intervals import Interval, finding
from loraudit.statistics.runs import CHANGE_OF_SHARE, SHARE, Common, OverRuns, over_runs, undefined, with_runs
from loraudit.types import Finding, FloatArray

Predicted = Sequence[tuple[float, FloatArray]]
"""One run where it is read: weights that sum to 1, and [N] predicted classes of the checkpoint each belongs to."""
_METHOD = "bootstrap over records"


class _Resampled(NamedTuple):
    """[S] F1 of runs, and [B, S] of the same runs on resampled records."""

    of_runs: FloatArray
    drawn: FloatArray


def macro_f1(gold: FloatArray, predicted: FloatArray, counts: FloatArray) -> FloatArray:
    """[B] mean over classes of F1, where each record counts as often as was drawn.

    Args:
        gold: [N] true classes.
        predicted: [N].
        counts: [B, N] how often each record was drawn, at least one of them in every row.

    Returns:
        A class of the records that was not drawn and is not predicted either takes no part; one that is never hit is 0.

    >>> macro_f1(np.array([0.0, 1, 1, 1]), np.array([0.0, 0, 1, 1]), np.ones((1, 4))).round(4)
    array([0.7333])
    """
    is_class = gold[:, None] == np.unique(gold)
    is_said = predicted[:, None] == np.unique(gold)
    both = counts @ (is_class.astype(float) + is_said)
    hits = counts @ (is_class & is_said).astype(float)
    is_there = both > 0
    return np.where(is_there, 2 * hits / np.where(is_there, both, 1), 0).sum(axis=1) / is_there.sum(axis=1)


def f1_over_runs(
    runs: Sequence[Predicted], gold: FloatArray, *, confidence: float, n_resamples: int, rng: np.random.Generator
) -> OverRuns:
    """Macro F1 as a mean over training runs.

    F1 is no mean over records, so they are resampled, the same for all runs; the interval holds percentiles, and
    reaches at least as far as records that the sample lacks would move it: of a class of n records, a share that n
    records miss one time in 1 / (1 − confidence). From two runs on, `over_seeds` adds the spread between runs.

    Args:
        runs: Each where it is read; between two checkpoints F1 is a straight line. NaN = undefined; a record that some
            run does not define takes no part and is counted.
        gold: [N] true classes.
        confidence: Two-sided.
        n_resamples: Bootstrap resamples.
        rng: Of these.

    Returns:
        No value where no record is defined.
    """
    values = np.stack([_unknown(run) for run in runs])
    common = Common.of(values)
    kept = [run for run, is_kept in zip(runs, common.runs, strict=True) if is_kept]
    per_run: list[float | None] = [None] * len(runs)
    if not common.records.any():
        return over_runs(per_run, undefined(values, common, confidence), common)
    found = _resample(kept, gold, common, n_resamples, rng)
    for place, value in zip(np.flatnonzero(common.runs).tolist(), found.of_runs.tolist(), strict=True):
        per_run[place] = value
    return over_runs(per_run, _stated(found, gold, common, SHARE, confidence), common)


def f1_lost(
    poisoned: Sequence[Predicted],
    clean: Sequence[Predicted],
    gold: FloatArray,
    *,
    confidence: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> Finding:
    """Macro F1 of a method's own clean arm minus that of the poisoned one, paired by seed and by record.

    Args:
        poisoned: As of `f1_over_runs`.
        clean: Runs of the same seeds.
        gold: [N] true classes.
        confidence: Two-sided.
        n_resamples: Bootstrap resamples.
        rng: Of these.

    Raises:
        ValueError: There are more runs of one arm than of the other.
    """
    values = np.stack([_unknown(one) + _unknown(two) for one, two in zip(poisoned, clean, strict=True)])
    common = Common.of(values)
    if not common.records.any():
        return undefined(values, common, confidence)
    both = [arm[place] for arm in (clean, poisoned) for place in np.flatnonzero(common.runs).tolist()]
    found = _resample(both, gold, common, n_resamples, rng)
    n_runs = len(both) // 2
    lost = _Resampled(
        found.of_runs[:n_runs] - found.of_runs[n_runs:], found.drawn[:, :n_runs] - found.drawn[:, n_runs:]
    )
    stated = _stated(lost, gold, common, CHANGE_OF_SHARE, confidence)
    return replace(stated, method=f"{stated.method}, paired by seed and record")


def _unknown(run: Predicted) -> FloatArray:
    """[N] NaN where some checkpoint defines no class, else a number."""
    return np.sum([predicted for _, predicted in run], axis=0)


def _resample(
    runs: Sequence[Predicted], gold: FloatArray, common: Common, n_resamples: int, rng: np.random.Generator
) -> _Resampled:
    """Records on which all runs say the same are drawn together: their counts are what matters."""
    rows = [predicted[common.records] for run in runs for _, predicted in run]
    kinds, n_of_kind = np.unique(np.stack([gold[common.records], *rows]), axis=1, return_counts=True)
    n_records = int(n_of_kind.sum())
    drawn = rng.multinomial(n_records, n_of_kind / n_records, n_resamples)
    counts = np.vstack([n_of_kind, drawn]).astype(float)
    of_rows = iter(kinds[1:])
    of_runs = [sum(weight * macro_f1(kinds[0], next(of_rows), counts) for weight, _ in run) for run in runs]
    found = np.stack(of_runs, axis=1)
    return _Resampled(found[0], found[1:])


def _stated(found: _Resampled, gold: FloatArray, common: Common, attainable: Interval, confidence: float) -> Finding:
    value = float(found.of_runs.mean())
    means = found.drawn.mean(axis=1)
    lower, upper = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    n_of_class = np.unique(gold[common.records], return_counts=True)[1]
    missed = float(np.mean(1 - (1 - confidence) ** (1 / n_of_class)))
    least, most = (value + missed * (end - value) for end in attainable)
    n_records = int(common.records.sum())
    stated = finding(
        value,
        Interval(min(float(lower), least), max(float(upper), most)),
        _METHOD,
        n_members=0,
        n_nonmembers=n_records,
        confidence=confidence,
        n_undefined_nonmembers=len(gold) - n_records,
    )
    return with_runs(stated, (found.of_runs,), attainable, float(means.std(ddof=1)))
