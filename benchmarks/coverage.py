"""How often the 95 % intervals of `loraudit.statistics.measure` hold the truth, by simulation.

    python benchmarks/coverage.py --trials 600 --seed 0 --out coverage.md

Every trial draws n members and n non-members from a population whose true values are known in
closed form (or by one quadrature), asks `measure` for its findings and notes whether each
interval holds the truth.

Populations. A non-member's score is N(0, 1), a member's N(d', 1).
  gaussian   the score itself;
  5 levels   the score rounded to an integer and clipped to -2 … 2, so that most scores are tied;
  clustered  the score itself, in documents of 5 records that share half of the variance
             (intraclass correlation 0.5); `measure` is told the documents.

Estimands: the numbers an interval is asked to hold.
  AUC             P(member > non-member) + ½ P(equal).
  partial AUC     McClish's standardised area of the population ROC up to FPR 10 %, straight lines across ties.
  TPR at FPR a    P(member > t) at the lowest t with P(non-member > t) <= a, both in the population. Strict, so a
                  level that would take the FPR above a earns nothing: the conservative rule of docs/statistics.md.
  TPR at 0 FP     P(member > t) at the threshold t that this very sample set, its largest non-member, which is what
                  the finding says it is: the population has no threshold without false positives.

To save time, trials of one block share their bootstrap draws. That leaves every trial's coverage as
it is and makes trials very slightly dependent.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from loraudit.statistics import measure, rate_metric
from loraudit.types import Finding, FloatArray, IntArray

FPRS = (0.1, 0.01, 0.001)
POPULATION_METRICS = ("auc", "partial_auc_fpr_10pct", *map(rate_metric, FPRS))
AT_ZERO = "tpr_at_zero_false_positives"
METRICS = (*POPULATION_METRICS, AT_ZERO)
TITLES = ("AUC", "partial AUC", "TPR at 10 %", "TPR at 1 %", "TPR at 0.1 %", "TPR at 0 FP")
MAX_FPR = 0.1
CONFIDENCE = 0.95
TOLERATED = 0.93
CONSERVATIVE = 0.97
CLUSTER_SIZE = 5
SHARED_VARIANCE = 0.5
HIGHEST_LEVEL = 2
TRIALS_AT_ONCE = 50


@dataclass(frozen=True)
class Population:
    """Where scores come from, and what is true of them.

    Attributes:
        name: As in the table.
        draw: (rng, n, d') to [n] scores of one side; d' = 0 for non-members.
        truth: d' to the value of each of `POPULATION_METRICS`.
        beats: (threshold, d') to P(member > threshold).
        is_clustered: Whether consecutive scores share a document.
    """

    name: str
    draw: Callable[[np.random.Generator, int, float], FloatArray]
    truth: Callable[[float], dict[str, float]]
    beats: Callable[[float, float], float]
    is_clustered: bool = False


# --- populations ------------------------------------------------------------------------------------


def draw_gaussian(rng: np.random.Generator, n: int, shift: float) -> FloatArray:
    return shift + rng.standard_normal(n)


def draw_levels(rng: np.random.Generator, n: int, shift: float) -> FloatArray:
    return np.clip(np.rint(draw_gaussian(rng, n, shift)), -HIGHEST_LEVEL, HIGHEST_LEVEL)


def draw_clustered(rng: np.random.Generator, n: int, shift: float) -> FloatArray:
    of_document = np.repeat(rng.standard_normal(n // CLUSTER_SIZE), CLUSTER_SIZE)
    own = rng.standard_normal(n)
    return shift + np.sqrt(SHARED_VARIANCE) * of_document + np.sqrt(1 - SHARED_VARIANCE) * own


def gaussian_beats(threshold: float, shift: float) -> float:
    return float(stats.norm.sf(threshold - shift))


def levels_beat(threshold: float, shift: float) -> float:
    """A threshold is a level or -inf; the level above it starts half a step higher."""
    if threshold >= HIGHEST_LEVEL:
        return 0.0
    return 1.0 if threshold < -HIGHEST_LEVEL else float(stats.norm.sf(threshold + 0.5 - shift))


def standardised(area: float) -> float:
    chance = MAX_FPR**2 / 2
    return 0.5 * (1 + (area - chance) / (MAX_FPR - chance))


def gaussian_truth(shift: float) -> dict[str, float]:
    z_of_fpr = stats.norm.isf((np.arange(200_000) + 0.5) / 200_000 * MAX_FPR)
    area = MAX_FPR * float(np.mean(stats.norm.sf(z_of_fpr - shift)))
    rates = [float(stats.norm.sf(stats.norm.isf(fpr) - shift)) for fpr in FPRS]
    values = float(stats.norm.cdf(shift / np.sqrt(2))), standardised(area), *rates
    return dict(zip(POPULATION_METRICS, values, strict=True))


def levels_truth(shift: float) -> dict[str, float]:
    levels = np.arange(-HIGHEST_LEVEL, HIGHEST_LEVEL + 1)
    above_nonmember = np.array([levels_beat(level, 0.0) for level in levels])
    above_member = np.array([levels_beat(level, shift) for level in levels])
    # Points of the ROC from (0, 0) at the highest level to (1, 1) below the lowest.
    fpr, tpr = np.append(above_nonmember[::-1], 1.0), np.append(above_member[::-1], 1.0)
    grid = np.union1d(fpr[fpr < MAX_FPR], [MAX_FPR])
    area = float(np.trapezoid(np.interp(grid, fpr, tpr), grid))
    rates = [float(above_member[above_nonmember <= limit].max()) for limit in FPRS]
    values = float(np.trapezoid(tpr, fpr)), standardised(area), *rates
    return dict(zip(POPULATION_METRICS, values, strict=True))


POPULATIONS = (
    Population("gaussian", draw_gaussian, gaussian_truth, gaussian_beats),
    Population("5 levels", draw_levels, levels_truth, levels_beat),
    Population("clustered", draw_clustered, gaussian_truth, gaussian_beats, is_clustered=True),
)


# --- trials -----------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Trials of one metric whose interval held the truth, lay below it, lay above it or was refused."""

    held: int = 0
    below: int = 0
    above: int = 0
    refused: int = 0

    def add(self, finding: Finding, truth: float) -> None:
        if finding.lower is None or finding.upper is None:
            self.refused += 1
        elif finding.upper < truth - 1e-12:
            self.below += 1
        elif finding.lower > truth + 1e-12:
            self.above += 1
        else:
            self.held += 1

    @property
    def words(self) -> str:
        """Coverage in percent; an arrow to where the intervals lie that miss too often, a star where too few miss."""
        n_stated = self.held + self.below + self.above
        if not n_stated:
            return "refused"
        coverage = self.held / n_stated
        if coverage < TOLERATED:
            return f"**{100 * coverage:.1f}{'↓' if self.below >= self.above else '↑'}**"
        return f"{100 * coverage:.1f}" + (r"\*" if coverage > CONSERVATIVE else "")


def run_cell(
    population: Population, n: int, shift: float, *, n_trials: int, n_resamples: int, rng: np.random.Generator
) -> dict[str, Tally]:
    """Tallies by metric."""
    is_member = np.arange(2 * n) < n
    groups: IntArray | None = np.arange(2 * n) // CLUSTER_SIZE if population.is_clustered else None
    truth = population.truth(shift)
    tallies = {metric: Tally() for metric in METRICS}
    for start in range(0, n_trials, TRIALS_AT_ONCE):
        scores = {
            str(trial): np.concatenate([population.draw(rng, n, shift), population.draw(rng, n, 0.0)])
            for trial in range(start, min(start + TRIALS_AT_ONCE, n_trials))
        }
        found = measure(
            scores, is_member, fprs=FPRS, n_resamples=n_resamples, confidence=CONFIDENCE, rng=rng, groups=groups
        )
        for trial, findings in found.items():
            for metric in POPULATION_METRICS:
                tallies[metric].add(findings[metric], truth[metric])
            threshold = float(scores[trial][~is_member].max())
            tallies[AT_ZERO].add(findings[AT_ZERO], population.beats(threshold, shift))
    return tallies


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| scores | n per side | d' | {' | '.join(TITLES)} |", "|---" * (3 + len(TITLES)) + "|"]
    lines.extend(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=600, help="simulated audits per row (default: 600)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=400, help="bootstrap resamples (default: 400; audits: 2000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 200, 1000, 5000], help="records per side")
    parser.add_argument("--shifts", type=float, nargs="+", default=[0.0, 0.5, 1.5, 3.0], help="values of d'")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    if any(n % CLUSTER_SIZE for n in options.sizes):
        parser.error(f"argument --sizes: expected multiples of {CLUSTER_SIZE}, the records of one document")

    began = time.perf_counter()
    rng = np.random.default_rng(options.seed)
    rows: list[list[str]] = []
    for population in POPULATIONS:
        for n in options.sizes:
            for shift in options.shifts:
                tallies = run_cell(
                    population, n, shift, n_trials=options.trials, n_resamples=options.resamples, rng=rng
                )
                rows.append([population.name, f"{n}", f"{shift:g}", *(tallies[metric].words for metric in METRICS)])
    error = 100 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / options.trials)
    explanation = (
        f"Coverage in percent of {100 * CONFIDENCE:g} % intervals; {options.trials} trials a row (standard error "
        f"about {error:.1f} points), {options.resamples} resamples, seed {options.seed}. Bold: below "
        f"{100 * TOLERATED:g}; the arrow says whether the intervals that miss lie mostly below (↓, leakage "
        f"understated) or above (↑, overstated) the truth. Star: above {100 * CONSERVATIVE:g}, wider than need be. "
        "TPR at 0 FP is that of the threshold each sample set."
    )
    text = f"{explanation}\n\n{table(rows)}"
    print(text)
    print(f"\n{time.perf_counter() - began:.0f} s")
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
