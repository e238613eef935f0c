"""Whether poison does more to one tuning method than to another, each against its own clean arm."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from loraudit.statistics.intervals import Interval
from loraudit.statistics.means import mean_finding
from loraudit.statistics.runs import Common, check_paired, joined, with_runs
from loraudit.statistics.seeds import satterthwaite
from loraudit.types import Finding, FloatArray

_CELLS_AT_ONCE = 4_000_000
_MOST_EXCHANGES = 20_000
_ROUNDING = 1e-9


class DifferenceInDifferences(NamedTuple):
    """What a poison does to the first method minus what it does to the second.

    Attributes:
        finding: Its interval allows for other records and, where both methods have two runs or more, for other runs.
        p_value: Two-sided, of no difference; None where nothing is defined.
    """

    finding: Finding
    p_value: float | None


def difference_in_differences(
    first_poisoned: FloatArray,
    first_clean: FloatArray,
    second_poisoned: FloatArray,
    second_clean: FloatArray,
    *,
    confidence: float,
    rng: np.random.Generator,
    attainable: Interval | None = None,
    n_permutations: int = 9999,
) -> DifferenceInDifferences:
    """The first method's change from its own clean arm minus the second's, on the same records.

    Within a method, arms are paired by seed and record; between methods, records are paired and runs are not. The
    interval is that of `mean_finding` for the records' differences, stretched by the runs' spread (`over_seeds`).

    The p-value compares |T|, T the difference, with |Z + √b · t|:

    - Z is T after the names of the methods were exchanged within records chosen by fair coins, both arms and all runs
      of a record together. That is exact over records, for these runs, where under the hypothesis a record could as
      well have answered the other way round (its difference is symmetric about 0).
    - √b · t is what other runs would add: b = Σ_a sd_a² / S_a from the S_a runs' changes and Student's t with
      Satterthwaite's degrees of freedom, which takes runs to vary normally about their method's mean. Exchanging whole
      runs would not assume that, but 3 and 3 runs have 20 exchanges, so that p is never below 0.1; this p-value is in
      the finding's note.

    Both parts are independent, as records and runs are. What differs between runs on single records counts in both, so
    the test errs on the side of no difference. With one run of a method Z stands alone, and a note says so.

    Args:
        first_poisoned: [S₁, N] NaN = undefined. A record that some run does not define takes no part and is counted.
        first_clean: [S₁, N] of the same seeds.
        second_poisoned: [S₂, N] of the same records.
        second_clean: [S₂, N] likewise.
        confidence: Two-sided.
        rng: Source of the exchanges.
        attainable: Smallest and largest change of one method, `CHANGE_OF_SHARE` for rates; None where there is none.
        n_permutations: Exchanges drawn; p is at least 1 / (1 + n_permutations).

    Raises:
        ValueError: Arms of one method differ in shape, or the methods in records.

    References:
        Cochran 1964, Biometrics 20(1); Phipson and Smyth 2010, Statistical Applications in Genetics 9(1).
    """
    check_paired(first_poisoned, first_clean)
    check_paired(second_poisoned, second_clean)
    changes = first_poisoned - first_clean, second_poisoned - second_clean
    if changes[0].shape[1] != changes[1].shape[1]:
        raise ValueError(
            f"Methods measured on {changes[0].shape[1]} and {changes[1].shape[1]} records cannot be compared. "
            "Expected the same records."
        )
    common = Common.of(np.concatenate(changes))
    n_first, n_records = first_poisoned.shape
    first = changes[0][common.runs[:n_first]][:, common.records]
    second = changes[1][common.runs[n_first:]][:, common.records]
    if not first.size or not second.size:
        found = mean_finding(np.full(len(common.records), math.nan), confidence=confidence, are_members=False)
        note = "No record is defined in every run of both methods."
        return DifferenceInDifferences(replace(found, method="none", note=note), None)
    width = math.inf if attainable is None else attainable.upper - attainable.lower
    between = Interval(-width, width)
    of_records = first.mean(axis=0) - second.mean(axis=0)
    found = mean_finding(
        of_records, confidence=confidence, attainable=None if attainable is None else between, are_members=False
    )
    found = replace(
        found,
        method=f"{found.method}, arms paired by seed and record, methods by record",
        n_undefined_nonmembers=n_records - first.shape[1],
    )
    runs = first.mean(axis=1), second.mean(axis=1)
    found = with_runs(found, runs, between)
    found = replace(found, note=joined(found.note, common.note, _exchanging_runs(*runs)))
    return DifferenceInDifferences(found, _p_value(of_records, runs, n_permutations, rng))


def _p_value(
    of_records: FloatArray, runs: tuple[FloatArray, FloatArray], n_permutations: int, rng: np.random.Generator
) -> float:
    """P(|Z + √b · t| ≥ |T|), exact in t for each exchange of records."""
    distance = abs(float(of_records.mean())) - _ROUNDING
    drawn = _exchanged_means(of_records, n_permutations, rng)
    counts = [len(values) for values in runs]
    spreads = [float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0 for values in runs]
    if min(counts) < 2 or sum(spreads) < _ROUNDING**2:
        beyond = np.abs(drawn) >= distance
    else:
        degrees, error = satterthwaite(spreads, counts), math.sqrt(sum(spreads))
        beyond = stats.t.sf((distance - drawn) / error, degrees) + stats.t.sf((distance + drawn) / error, degrees)
    return min(1.0, float(1 + beyond.sum()) / (1 + n_permutations))


def _exchanged_means(of_records: FloatArray, n_permutations: int, rng: np.random.Generator) -> FloatArray:
    """[n_permutations] means of the records' differences with a sign of chance each; equal ones are drawn together."""
    sizes, counts = np.unique(np.abs(of_records), return_counts=True)
    block = max(1, _CELLS_AT_ONCE // len(sizes))
    drawn = [
        (2 * rng.binomial(counts, 0.5, (min(block, n_permutations - start), len(sizes))) - counts) @ sizes
        for start in range(0, n_permutations, block)
    ]
    return np.concatenate(drawn) / len(of_records)


def _exchanging_runs(first: FloatArray, second: FloatArray) -> str | None:
    """What exchanging whole runs between the methods says, every way of it; None where that is nothing or too much."""
    n_exchanges = math.comb(len(first) + len(second), len(first))
    if min(len(first), len(second)) < 2 or n_exchanges > _MOST_EXCHANGES:
        return None
    values = np.concatenate([first, second])
    chosen = np.array(list(itertools.combinations(range(len(values)), len(first))))
    sums = values[chosen].sum(axis=1)
    differences = sums / len(first) - (values.sum() - sums) / len(second)
    n_beyond = int((np.abs(differences) >= abs(first.mean() - second.mean()) - _ROUNDING).sum())
    return (
        f"Exchanging whole runs alone gives p = {n_beyond / n_exchanges:.2g}; "
        f"{len(first)} and {len(second)} runs have {n_exchanges} exchanges."
    )
