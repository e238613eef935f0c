"""What the fusion of scores shows of what they hold, and how often its intervals hold the truth.

    python benchmarks/fusion.py
    python benchmarks/fusion.py --trials 400 --sizes 400

25 scores of one evidence: each is a mixture of three parts that all share (95 % of its variance) and noise of its own.
Members are shifted by d' in the first of the shared parts ("shared"), or each score of theirs by another amount up to
a tenth of d' ("apart"), which shows in what sets scores apart; d' = 0 stands for labels that mean nothing. "Held": the
AUC of the best weighted sum, known here. "Shown": the mean AUC of the cross-fitted fusion, also where an audit would
refuse it for want of records; "best single" is picked with hindsight.

Coverage is that of the mean over trials, with intervals as they are for single scores (x 1) and as
they are reported (x 1.5, see docs/statistics.md).
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy import stats

from loraudit.statistics import (
    Fusion,
    Interval,
    auc,
    auc_interval,
    cross_fitting_factor,
    disjoint_folds,
    measure,
    paired_auc_difference,
    rate_metric,
    widened,
)

N_SCORES, N_PARTS, SHARED = 25, 3, 0.95
FPRS = (0.1, 0.01)
METRICS = ("partial_auc_fpr_10pct", *map(rate_metric, FPRS))


def weights() -> np.ndarray:
    """[3, 25] how much of each part a score holds."""
    drawn = np.random.default_rng(7).normal(size=(N_PARTS, N_SCORES))
    return drawn / np.linalg.norm(drawn, axis=0)


def movement(kind: str, shift: float) -> np.ndarray:
    """[25] by how much the scores of members are higher."""
    if kind == "shared":
        return shift * weights()[0] * math.sqrt(SHARED)
    return shift * np.random.default_rng(8).uniform(0, 0.1, N_SCORES)


def held(moved: np.ndarray) -> float:
    """AUC of the best weighted sum of the scores."""
    mixture = weights()
    covariance = SHARED * mixture.T @ mixture + (1 - SHARED) * np.eye(N_SCORES)
    return float(stats.norm.cdf(math.sqrt(moved @ np.linalg.solve(covariance, moved) / 2)))


def draw(
    n: int, moved: np.ndarray, per_document: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    is_member = np.arange(2 * n) < n
    documents = np.arange(2 * n) // per_document
    alone, shared = rng.normal(size=(2 * n, N_PARTS)), rng.normal(size=(2 * n // per_document, N_PARTS))[documents]
    parts = alone if per_document == 1 else math.sqrt(0.5) * (alone + shared)
    scores = math.sqrt(SHARED) * parts @ weights() + math.sqrt(1 - SHARED) * rng.normal(size=(2 * n, N_SCORES))
    scores += is_member[:, None] * moved
    columns = {f"score_{i:02}": np.ascontiguousarray(column) for i, column in enumerate(scores.T)}
    return columns, is_member, None if per_document == 1 else documents


def coverage(found: list[tuple[float, Interval]], factor: float) -> float:
    """Share of the intervals that hold the mean of the values; NaN ends hold it if the value is it."""
    mean = float(np.mean([value for value, _ in found]))
    wide = [widened(value, ends, factor, lowest=-1.0) for value, ends in found]
    return float(np.mean([math.isnan(ends.lower) or ends.lower <= mean <= ends.upper for ends in wide]))


def row(n: int, kind: str, shift: float, per_document: int, trials: int, n_resamples: int) -> str:
    moved = movement(kind, shift)
    shown: list[float] = []
    single: list[float] = []
    factors = 1.0, cross_fitting_factor(5)
    ends_of_area: dict[float, list[Interval]] = {factor: [] for factor in factors}
    differences: list[tuple[float, Interval]] = []
    rates: dict[str, list[tuple[float, Interval]]] = {name: [] for name in METRICS}
    for trial in range(trials):
        rng = np.random.default_rng([trial, n, round(100 * shift), per_document, len(kind)])
        columns, is_member, groups = draw(n, moved, per_document, rng)
        folds = disjoint_folds(is_member, groups, rng=rng)
        fused = Fusion.of(columns, is_member, groups=groups, folds=folds, fewest=1).scores()
        sides = fused[is_member], fused[~is_member]
        by = (None, None) if groups is None else (groups[is_member], groups[~is_member])
        about = {"member_groups": by[0], "nonmember_groups": by[1]}
        shown.append(auc(*sides))
        single.append(max(auc(values[is_member], values[~is_member]) for values in columns.values()))
        for factor in factors:
            ends_of_area[factor].append(auc_interval(*sides, error_factor=factor, **about))
        first = columns["score_00"]
        paired = paired_auc_difference(sides, (first[is_member], first[~is_member]), **about)
        differences.append((paired.value, paired.interval))
        measured = measure(
            {"fusion": fused}, is_member, fprs=FPRS, n_resamples=n_resamples, confidence=0.95, rng=rng, groups=groups
        )["fusion"]
        for name in METRICS:
            rate = measured[name]
            if rate.value is not None:
                rates[name].append((rate.value, Interval(rate.lower or 0.0, rate.upper or 0.0)))
    mean = float(np.mean(shown))
    cells = [kind if shift else "none", f"{n}", f"{per_document}", f"{shift:g}"]
    cells += [f"{area:.3f}" for area in (held(moved), mean, np.mean(single))]
    held_by = [np.mean([ends.lower <= mean <= ends.upper for ends in ends_of_area[factor]]) for factor in factors]
    cells.append(" / ".join(f"{100 * share:.1f}" for share in held_by))
    cells += [
        " / ".join(f"{100 * coverage(found, factor):.1f}" for factor in factors) if found else "refused"
        for found in (differences, *rates.values())
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 400, 1500])
    asked = parser.parse_args()
    print(f"Coverage in percent of 95 % intervals, x 1 / x 1.5; {asked.trials} trials a row.\n")
    titles = [
        "signal",
        "n per side",
        "per document",
        "d'",
        "held",
        "shown",
        "best single",
        "AUC",
        "AUC minus one score's",
    ]
    titles += ["partial AUC", "TPR at 10 %", "TPR at 1 %"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    kinds = [("shared", 0.0), ("shared", 0.5), ("shared", 1.5), ("apart", 1.0)]
    settings = [(n, kind, shift, 1) for n in asked.sizes for kind, shift in kinds]
    settings += [(400, "shared", 0.0, 4), (400, "shared", 0.5, 4)]
    for n, kind, shift, per_document in settings:
        print(row(n, kind, shift, per_document, asked.trials, asked.resamples), flush=True)


if __name__ == "__main__":
    main()
