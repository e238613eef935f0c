"""What several training runs show on the same test records: rates, means, and changes from the clean arm.

A row is one run, a column one test record. Every interval allows for other records and, from two runs on, for other
runs. Test records are nobody's members: findings count them as non-members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from loraudit.statistics.auc import clustered_covariance
from loraudit.statistics.intervals import Interval, finding, finite, wilson
from loraudit.statistics.means import mean_finding
from loraudit.statistics.mixtures import Mixed
from loraudit.statistics.seeds import over_seeds
from loraudit.types import BoolArray, Finding, FloatArray

SHARE = Interval(0.0, 1.0)
CHANGE_OF_SHARE = Interval(-1.0, 1.0)
_FEWEST_FOR_QUARTILES = 4
_NO_NUMBER = "No record is defined in any run."
_NO_COMMON = "No record is defined in every run."


class OverRuns(NamedTuple):
    """One number over several training runs.

    Attributes:
        finding: The mean over runs; `n_nonmembers` are the test records, not times the runs.
        per_run: Of each run, on the records that all runs define; None for a run that defines none.
        median: Over the runs; None where there is none.
        quartiles: Over the runs; None below four of them.
    """

    finding: Finding
    per_run: tuple[float | None, ...]
    median: float | None
    quartiles: tuple[float, float] | None


class Common(NamedTuple):
    """Runs and records on which everything is defined.

    Attributes:
        runs: [S] which runs define anything.
        records: [N] which records all of these define.
        note: How many runs were left out; None if none was.
    """

    runs: BoolArray
    records: BoolArray
    note: str | None

    @classmethod
    def of(cls, values: FloatArray) -> Common:
        """Of [S, N] values, NaN = undefined."""
        is_known: BoolArray = ~np.isnan(values)
        runs = np.any(is_known, axis=1)
        records = np.all(is_known[runs], axis=0) & runs.any()
        n_left_out = int((~runs).sum())
        note = f"{n_left_out} of {len(runs)} runs define nothing and are left out." if n_left_out else None
        return cls(runs, records, note)


def rate_over_runs(hits: FloatArray, *, confidence: float) -> OverRuns:
    """The share of hits, as a mean over training runs on the same test records.

    Over records the interval is Wilson's, on as many trials as the records are worth: p(1 − p) over the variance of the
    mean, between the number of records (runs that agree on each) and records times runs (runs that hit independently).
    Where nothing, or everything, is a hit it is the exact one-sided bound on the number of records. From two runs on,
    `over_seeds` adds the spread between runs, on the logit scale.

    Args:
        hits: [S, N] 1 or 0, or a value between where two checkpoints were interpolated, for which Wilson's interval is
            wider than need be; NaN = undefined. A record that some run does not define takes no part and is counted.
        confidence: Two-sided.

    Returns:
        No value where no record is defined. Runs without any hit are taken to be as alike as they look; the note says
        how frequent a kind of run may be that so few runs would miss.

    Raises:
        ValueError: A value lies outside [0, 1].

    References:
        Wilson 1927, Journal of the American Statistical Association 22(158); Cochran 1964, Biometrics 20(1).
    """
    if bool(((hits < 0) | (hits > 1)).any()):
        raise ValueError("Hits hold a value outside [0, 1]. Expected 0, 1, NaN or a value between.")
    common = Common.of(hits)
    kept = hits[common.runs][:, common.records]
    n_records = kept.shape[1]
    if not kept.size:
        return _stated(hits, common, undefined(hits, common, confidence))
    of_records = kept.mean(axis=0)
    share = float(of_records.mean())
    variance = clustered_covariance(of_records, of_records, None)
    is_extreme = share in (0.0, 1.0)
    worth = float(n_records)
    if variance > 0 and not is_extreme:
        worth = float(np.clip(share * (1 - share) / variance, n_records, kept.size))
    interval = wilson(share * worth, worth, confidence=confidence)
    method = f"exact one-sided bound for {share:g} of {n_records}" if is_extreme else "Wilson over records"
    if not is_extreme and len(kept) > 1:
        method += f", as of {worth:.4g} independent hits or misses"
    found = finding(
        share,
        interval,
        method,
        n_members=0,
        n_nonmembers=n_records,
        confidence=confidence,
        n_undefined_nonmembers=hits.shape[1] - n_records,
    )
    found = with_runs(found, (kept.mean(axis=1),), SHARE, math.sqrt(variance))
    if is_extreme and len(kept) > 1:
        missed = 1 - (1 - confidence) ** (1 / len(kept))
        found = replace(found, note=joined(found.note, _all_alike(share, len(kept), missed, 1 - confidence)))
    return _stated(hits, common, found)


def mean_over_runs_of(values: FloatArray, *, confidence: float, attainable: Interval | None = None) -> OverRuns:
    """The mean of a measure, such as the loss, over training runs on the same test records.

    Over records the interval is that of `mean_finding` for the records' means over runs. From two runs on,
    `over_seeds` adds the spread between runs.

    Args:
        values: [S, N] NaN = undefined. A record that some run does not define takes no part and is counted.
        confidence: Two-sided.
        attainable: Smallest and largest possible value; None where there is none.
    """
    common = Common.of(values)
    kept = values[common.runs][:, common.records]
    if not kept.size:
        return _stated(values, common, undefined(values, common, confidence))
    over_records = mean_finding(kept.mean(axis=0), confidence=confidence, attainable=attainable, are_members=False)
    found = replace(over_records, n_undefined_nonmembers=values.shape[1] - kept.shape[1])
    found = with_runs(found, (kept.mean(axis=1),), attainable or Interval(-math.inf, math.inf))
    return _stated(values, common, found)


def excess_change(
    poisoned: FloatArray, clean: FloatArray, *, confidence: float, attainable: Interval | None = None
) -> Finding:
    """The change from a method's own clean arm, paired by seed and by record.

    The mean of poisoned − clean, as of `mean_over_runs_of`: what a seed does to both arms, and what a record does in
    both, cancels.

    Args:
        poisoned: [S, N] NaN = undefined.
        clean: [S, N] of the same seeds and records.
        confidence: Two-sided.
        attainable: Smallest and largest possible change, `CHANGE_OF_SHARE` for rates; None where there is none.

    Raises:
        ValueError: The two differ in shape.
    """
    check_paired(poisoned, clean)
    found = mean_over_runs_of(poisoned - clean, confidence=confidence, attainable=attainable).finding
    return replace(found, method=f"{found.method}, paired by seed and record")


def without_collapsed(per_run: Sequence[float | None], is_collapsed: Sequence[bool]) -> float | None:
    """The mean over the runs that did not collapse; None where no such run has a number.

    >>> without_collapsed([0.9, 0.5, 0.8, None], [False, True, False, False])
    0.8500000000000001
    """
    kept = [value for value, lost in zip(per_run, is_collapsed, strict=True) if value is not None and not lost]
    return float(np.mean(kept)) if kept else None


def check_paired(poisoned: FloatArray, clean: FloatArray) -> None:
    """Refuse arms of different seeds or records.

    Raises:
        ValueError: The two differ in shape.
    """
    if poisoned.shape != clean.shape:
        raise ValueError(
            f"A poisoned arm of shape {poisoned.shape} cannot be paired with a clean one of {clean.shape}. "
            "Expected the same seeds and records."
        )


def with_runs(
    found: Finding, runs: Sequence[FloatArray], attainable: Interval, standard_error: float = math.nan
) -> Finding:
    """A finding over records, its interval stretched by the spread between runs (`over_seeds`).

    Args:
        found: Its value is the mean of `runs`, or the first mean minus the second.
        runs: [S_a] value of each run of one method, or of two.
        attainable: Between which ends the value must lie.
        standard_error: Over records, where it says more than the interval.
    """
    ends = (math.nan if end is None else end for end in (found.lower, found.upper))
    mixed = Mixed(
        value=math.nan if found.value is None else found.value,
        standard_error=standard_error,
        interval=Interval(*ends),
        p_value=math.nan,
        confidence=found.confidence,
        attainable=attainable,
        n_groups=found.n_nonmembers,
        n_undefined_members=0,
        n_undefined_nonmembers=found.n_undefined_nonmembers,
    )
    spread = over_seeds(mixed, *runs)
    if min(spread.n_seeds) < 2:
        return replace(found, note=joined(found.note, spread.note))
    counts = " and ".join(map(str, spread.n_seeds))
    lower, upper = spread.combined
    return replace(
        found,
        lower=finite(lower),
        upper=finite(upper),
        method=f"{found.method}, and the spread of {counts} runs (Cochran's mean of two t quantiles)",
    )


def _stated(values: FloatArray, common: Common, found: Finding) -> OverRuns:
    per_run: list[float | None] = [None] * len(values)
    if common.records.any():
        for run in np.flatnonzero(common.runs):
            per_run[run] = float(values[run, common.records].mean())
    return over_runs(per_run, found, common)


def over_runs(per_run: Sequence[float | None], found: Finding, common: Common) -> OverRuns:
    """A finding with its single runs, their median and quartiles, and the note on runs that were left out."""
    known = [value for value in per_run if value is not None]
    quartiles = None
    if len(known) >= _FEWEST_FOR_QUARTILES:
        lower, upper = np.quantile(known, (0.25, 0.75))
        quartiles = float(lower), float(upper)
    return OverRuns(
        replace(found, note=joined(found.note, common.note)),
        tuple(per_run),
        float(np.median(known)) if known else None,
        quartiles,
    )


def undefined(values: FloatArray, common: Common, confidence: float) -> Finding:
    """A finding without a value: no record is defined in every run that defines any."""
    return finding(
        math.nan,
        Interval(math.nan, math.nan),
        "none",
        n_members=0,
        n_nonmembers=0,
        confidence=confidence,
        n_undefined_nonmembers=values.shape[1],
        note=_NO_COMMON if common.runs.any() else _NO_NUMBER,
    )


def _all_alike(share: float, n_runs: int, missed: float, level: float) -> str:
    what = "without a single miss" if share else "without a single hit"
    who = "Both" if n_runs == 2 else f"All {n_runs}"
    return (
        f"{who} runs are {what}, and the interval takes other runs to be like them: a kind of run that makes up "
        f"{100 * missed:.2g} % of all would be missed by so few with probability {100 * level:.2g} %."
    )


def joined(*notes: str | None) -> str | None:
    """The notes that there are, as one text; None where there is none."""
    return " ".join(note for note in notes if note) or None
