"""How often the intervals of a comparison at matched fit hold the truth.

    python benchmarks/matched.py --trials 2000

Simulated contrast: two methods, S training runs each, three checkpoints per run on the same n + n records, compared
at places between checkpoints. Members score d higher on average, with d of each run drawn with standard deviation τ
about the method's own; every trial draws new records and new runs. "Records" is the interval that holds
the runs fixed, judged by the truth for those very runs; "combined" is judged by the mean over all runs there could be.
Prints coverage in percent for a method's mean and for the difference between the two, and how often p ≤ 0.05 where
there is none: over records alone / with the runs' spread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from loraudit.statistics import AucRows, RateRows, mean_over_runs, over_seeds

PLACES = (np.array([0.0, 0.4, 0.6]), np.array([0.3, 0.7, 0.0]))
ORDINARY = (np.array([0.3, 0.8, 1.4]), np.array([0.2, 0.5, 0.8]))
EQUAL = (np.full(3, 0.7), np.full(3, 0.7))
HIGH = (np.array([2.0, 3.0, 3.5]), np.array([2.0, 2.5, 3.0]))
_COMMON, _OF_RUN = 0.4, 0.3
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def simulate(
    label: str,
    trials: int,
    *,
    n: int = 200,
    runs: int = 3,
    tau: float = 0.15,
    shifts: tuple[np.ndarray, np.ndarray] = ORDINARY,
    cluster: int = 0,
    fpr: float | None = None,
    seed: int = 0,
) -> str:
    """One row of the table."""
    rng = np.random.default_rng(seed)
    is_member = np.arange(2 * n) < n
    groups = np.arange(2 * n) // cluster if cluster else None
    leak: Callable[[Any], Any] = (
        (lambda d: stats.norm.cdf(d / np.sqrt(2)))
        if fpr is None
        else (lambda d: stats.norm.sf(stats.norm.isf(fpr) - d))
    )
    expected = [
        float(place @ np.array([_WEIGHTS @ leak(d + tau * _NODES) for d in shift]))
        for place, shift in zip(PLACES, shifts, strict=True)
    ]
    places = [[mean_over_runs([PLACES[a]], [3 * (s + a * runs)], 6 * runs) for s in range(runs)] for a in (0, 1)]
    means = [np.mean(each, axis=0) for each in places]
    held, claimed = np.zeros(4), np.zeros(2)

    def noise() -> np.ndarray:
        alone = rng.standard_normal(2 * n)
        if groups is None:
            return alone
        return np.sqrt(0.5) * (rng.standard_normal(groups.max() + 1)[groups] + alone)

    for _ in range(trials):
        common = noise()
        rows, moved = [], []
        for shift in shifts:
            for _ in range(runs):
                drawn, own = tau * rng.standard_normal(), noise()
                for d in shift:
                    parts = np.sqrt(_COMMON) * common + np.sqrt(_OF_RUN) * own
                    rows.append((d + drawn) * is_member + parts + np.sqrt(1 - _COMMON - _OF_RUN) * noise())
                    moved.append(d + drawn)
        scores, truth = np.array(rows), leak(np.array(moved))
        mix, value = _measured(scores, is_member, groups, fpr, rng)
        single = [np.array([value(w) for w in each]) for each in places]
        mean = over_seeds(mix(means[0]), single[0])
        gap = over_seeds(mix(means[0] - means[1]), *single)
        targets = (
            (mean.records, means[0] @ truth),
            (mean.combined, expected[0]),
            (gap.records, (means[0] - means[1]) @ truth),
            (gap.combined, expected[0] - expected[1]),
        )
        held += [interval.lower <= target <= interval.upper for interval, target in targets]
        claimed += [gap.p_value_records <= 0.05, gap.p_value <= 0.05]
    cells = " | ".join(f"{100 * h / trials:.1f}" for h in held)
    p = " / ".join(f"{100 * c / trials:.1f}" for c in claimed) if shifts is EQUAL else ""
    return f"| {label} | {trials} | {cells} | {p} |"


def _measured(
    scores: np.ndarray, is_member: np.ndarray, groups: np.ndarray | None, fpr: float | None, rng: np.random.Generator
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Weights → interval, and weights → value alone."""
    if fpr is None:
        aucs = AucRows.of(scores, is_member, groups)
        return aucs.mixed, aucs.value
    rates = RateRows.of(scores, is_member, fprs=(fpr,), n_resamples=399, rng=rng, groups=groups)
    return (lambda weights: rates.mixed(weights)[fpr]), (lambda weights: rates.value(weights, fpr))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    print(
        "| setting | trials | mean, records | mean, combined | difference, records | difference, combined | p ≤ .05 |"
    )
    print("|---|---|---|---|---|---|---|")
    cells: list[tuple[str, int, dict[str, Any]]] = [
        *((f"AUC, τ = {tau:g}", trials, {"tau": tau}) for tau in (0, 0.05, 0.15, 0.4)),
        ("AUC, documents of 5", trials, {"cluster": 5}),
        ("AUC, two runs", trials, {"runs": 2}),
        ("AUC, five runs", trials, {"runs": 5}),
        ("AUC near 0.99", trials, {"shifts": HIGH}),
        ("AUC, 50 a side", trials, {"n": 50}),
        ("AUC, no difference, τ = 0", trials, {"shifts": EQUAL, "tau": 0}),
        ("AUC, no difference", trials, {"shifts": EQUAL}),
        ("TPR at 10 %", trials // 4, {"fpr": 0.1}),
        ("TPR at 10 %, no difference", trials // 4, {"fpr": 0.1, "shifts": EQUAL}),
        ("TPR at 1 %, 1 000 a side", trials // 8, {"fpr": 0.01, "n": 1000}),
        ("TPR at 1 %, 200 a side", trials // 8, {"fpr": 0.01}),
    ]
    for seed, (label, n_trials, settings) in enumerate(cells):
        print(simulate(label, n_trials, seed=seed, **settings), flush=True)


if __name__ == "__main__":
    main()
