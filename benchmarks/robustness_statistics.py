"""How often the intervals of robustness hold the truth, how often its test errs, and which dose-response curve to fit.

    python benchmarks/robustness_statistics.py --trials 400

Simulated training runs on shared test records. A record is hit with a probability whose logit (or, along the dose,
whose logarithm of the dose that takes it) varies over records, over runs (τ) and over single pairs of both. Every trial
draws new records and new runs; the truth is the mean over all there could be. Prints Markdown tables: coverage of 95 %
intervals in percent, and how often p ≤ 0.05 where methods do not differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy import optimize, special, stats

from loraudit.statistics import (
    CHANGE_OF_SHARE,
    DoseResponse,
    difference_in_differences,
    dose_ratio,
    draw_records,
    effective_dose,
    excess_change,
    fit_dose_response,
    mean_over_runs_of,
    rate_over_runs,
)

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_OF_RECORDS = 1.0
N_RESAMPLES = 1000


def mean_rate(centre: float, spread: float) -> float:
    """Mean of a logistic over a normal."""
    return float(_WEIGHTS @ special.expit(centre + spread * _NODES))


def outcomes(rng: np.random.Generator, centre: float, tau: float, of_records: Array, n_runs: int) -> Array:
    """[S, N] zeros and ones."""
    logits = centre + of_records + tau * rng.standard_normal((n_runs, 1))
    return (rng.random(logits.shape) < special.expit(logits)).astype(float)


def rates(trials: int, n_runs: int, n: int, centre: float, tau: float) -> str:
    rng = np.random.default_rng(1)
    truth = mean_rate(centre, np.hypot(tau, _OF_RECORDS))
    loss_truth = centre
    held = np.zeros(2)
    width: list[float] = []
    for _ in range(trials):
        of_records = _OF_RECORDS * rng.standard_normal(n)
        found = rate_over_runs(outcomes(rng, centre, tau, of_records, n_runs), confidence=0.95).finding
        held[0] += found.lower <= truth <= found.upper
        width.append(found.upper - found.lower)
        losses = centre + of_records + tau * rng.standard_normal((n_runs, 1)) + rng.standard_normal((n_runs, n))
        found = mean_over_runs_of(losses, confidence=0.95).finding
        held[1] += found.lower <= loss_truth <= found.upper
    share = 100 * held / trials
    return f"| {n_runs} | {n} | {truth:.3f} | {tau:g} | {share[0]:.1f} | {np.mean(width):.3f} | {share[1]:.1f} |"


def differences(trials: int, n_runs: int, n: int, tau: float, apart: float, effect: float = 1.0) -> str:
    """Two methods, harmed alike: errors of a classifier; `apart` is what a record does to one method alone."""
    rng = np.random.default_rng(2)
    claimed, held = np.zeros(2), np.zeros(2)
    spread = np.sqrt(tau**2 + 1 + apart**2)
    truth = mean_rate(-2 + effect, spread) - mean_rate(-2, spread)
    for _ in range(trials):
        of_records = rng.standard_normal(n)
        arms = [
            outcomes(rng, centre, tau, of_records + apart * rng.standard_normal(n), n_runs)
            for _ in range(2)
            for centre in (-2 + effect, -2)
        ]
        found = difference_in_differences(
            *arms, confidence=0.95, rng=rng, attainable=CHANGE_OF_SHARE, n_permutations=999
        )
        excess = excess_change(arms[0], arms[1], confidence=0.95, attainable=CHANGE_OF_SHARE)
        held += (
            excess.lower <= truth <= excess.upper,
            found.finding.lower <= 0 <= found.finding.upper,
        )
        of_runs = [arms[a].mean(1) - arms[a + 1].mean(1) for a in (0, 2)]
        claimed += found.p_value <= 0.05, _t_test(*of_runs) <= 0.05 if n_runs > 1 else np.nan
    figures = (100 * np.concatenate([held, claimed]) / trials).tolist()
    return f"| {n_runs} | {n} | {tau:g} | {apart:g} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |"


def _t_test(first: Array, second: Array) -> float:
    """The usual test of runs alone, which takes these test records for all there are."""
    error = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / len(first))
    return float(2 * stats.t.sf(abs(first.mean() - second.mean()) / max(error, 1e-12), 2 * len(first) - 2))


def power(trials: int, n_runs: int, n: int, tau: float, second: float) -> str:
    rng = np.random.default_rng(3)
    claimed = 0
    for _ in range(trials):
        of_records = rng.standard_normal(n)
        arms = [outcomes(rng, centre, tau, of_records, n_runs) for centre in (-1.0, -2.0, -2 + second, -2.0)]
        found = difference_in_differences(
            *arms, confidence=0.95, rng=rng, attainable=CHANGE_OF_SHARE, n_permutations=999
        )
        claimed += found.p_value <= 0.05
    return f"| {n_runs} | {n} | {tau:g} | {second:g} | {100 * claimed / trials:.1f} |"


# The probability that a record is hit, from (logarithm of the dose over the run's own dose of half effect) · steepness.
SHAPES: dict[str, Callable[[Array], Array]] = {
    "logistic": special.expit,
    "one hit": lambda z: -np.expm1(-np.exp(z) * np.log(2)),
    "late": lambda z: np.exp(-np.exp(-z) * np.log(2)),
    "in two steps": lambda z: 0.7 * special.expit(3 * (z + 1)) + 0.3 * special.expit(3 * (z - 3)),
}


class World:
    """Curves of one shape; `tau` spreads the dose of half effect over runs, `of_records` over records."""

    def __init__(self, shape: str, steepness: float, tau: float, floor: float, of_records: float = 0.3) -> None:
        self.shape, self.steepness, self.tau, self.floor, self.of_records = (
            SHAPES[shape],
            steepness,
            tau,
            floor,
            of_records,
        )

    def rate(self, log_dose: Array | float, shift: Array | float) -> Array:
        return self.floor + (1 - self.floor) * self.shape(self.steepness * (np.asarray(log_dose) - shift))

    def truth(self, share: float, centre: float) -> float:
        spread = np.hypot(self.tau, self.of_records)
        level = self.floor + share * (1 - self.floor)
        return float(
            optimize.brentq(
                lambda x: _WEIGHTS @ self.rate(x, centre + spread * _NODES) - level, centre - 20, centre + 20
            )
        )

    def hits(
        self, rng: np.random.Generator, doses: Array, centre: float, n_runs: int, of_records: Array, *, tied: bool
    ):
        """[D, S, N] and a floor [S, N]; a seed's own dose is the same at all doses where `tied`."""
        of_runs = self.tau * rng.standard_normal((1 if tied else len(doses), n_runs, 1))
        rate = self.rate(np.log(doses)[:, None, None], centre + of_runs + self.of_records * of_records)
        floor = rng.random((n_runs, len(of_records))) < self.floor
        return (rng.random(rate.shape) < rate).astype(float), floor.astype(float)


def logistic_places(rates: Array, floor: Array, ceiling: float, log_dose: Array, share: float) -> Array:
    """[B] the rival: place of the share on a logistic curve between floor and ceiling, by penalised likelihood."""
    rise = np.maximum(ceiling - floor[:, None], 1e-9)
    y = np.clip((rates - floor[:, None]) / rise, 0, 1)
    x = log_dose - log_dose.mean()
    intercept, slope = np.zeros(len(y)), np.ones(len(y))
    for _ in range(60):
        p = special.expit(np.clip(intercept[:, None] + slope[:, None] * x, -30, 30))
        w = p * (1 - p) + 1e-6
        # A weak pull of the slope to 0 keeps separated doses finite.
        gradient = (y - p).sum(1), ((y - p) * x).sum(1) - 1e-3 * slope
        a, b, c = w.sum(1), (w * x).sum(1), (w * x * x).sum(1) + 1e-3
        determinant = a * c - b * b
        intercept = intercept + np.clip((c * gradient[0] - b * gradient[1]) / determinant, -1, 1)
        slope = np.maximum(slope + np.clip((a * gradient[1] - b * gradient[0]) / determinant, -1, 1), 1e-3)
    return (special.logit(share) - intercept) / slope + log_dose.mean()


def _inside(values: Array | float, log_dose: Array) -> Array:
    """The rival, censored as the curve is."""
    values = np.asarray(values)
    return np.where(values < log_dose[0], -np.inf, np.where(values > log_dose[-1], np.inf, values))


def doses(
    trials: int, label: str, world: World, *, n_runs: int, n: int, spacing: float, n_doses: int, tied: bool
) -> str:
    rng = np.random.default_rng(4)
    tested = 8.0 * spacing ** np.arange(n_doses)
    log_dose = np.log(tested)
    shares = (0.5, 0.9)
    held, rival_held, n_known = np.zeros(3), np.zeros(2), np.zeros(2)
    errors: list[list[tuple[float, float]]] = [[], []]
    widths: list[float] = []
    for _ in range(trials):
        centre = rng.uniform(log_dose[0] + np.log(spacing), log_dose[-1] - 2 * np.log(spacing))
        of_records = rng.standard_normal(n)
        draws = draw_records(n, N_RESAMPLES, rng)
        curves: list[DoseResponse] = []
        for shift in (np.log(2.0), 0.0):
            hits, floor = world.hits(rng, tested, centre + shift, n_runs, of_records, tied=tied)
            curves.append(fit_dose_response(tested, hits, floor, record_draws=draws, rng=rng))
        curve = curves[1]
        means = hits.mean((1, 2))[None]
        for i, share in enumerate(shares):
            truth = world.truth(share, centre)
            found = effective_dose(curve, share)
            lower, upper = found.finding.lower, found.finding.upper or np.inf
            held[i] += np.log(max(lower, 1e-300)) <= truth <= np.log(upper)
            rival = float(logistic_places(means, floor.mean()[None], 1.0, log_dose, share)[0])
            drawn = _inside(logistic_places(curve.drawn_rates, curve.drawn_floor, 1.0, log_dose, share), log_dose)
            ends = np.quantile(drawn, (0.025, 0.975), method="inverted_cdf")
            rival_held[i] += ends[0] <= _inside(truth, log_dose) <= ends[1]
            if found.finding.value is not None and np.isfinite(_inside(rival, log_dose)):
                errors[i].append((np.log(found.finding.value) - truth, rival - truth))
                n_known[i] += 1
        ratio = dose_ratio(*curves, 0.5)
        low, high = ratio.finding.lower, ratio.finding.upper or np.inf
        held[2] += low <= 2 <= high
        widths.append(np.log(high) - np.log(max(low, 1e-300)))
    root = [np.sqrt(np.mean(np.square(each), axis=0)) for each in errors]
    cover, rival_cover = 100 * held / trials, 100 * rival_held / trials
    return (
        f"| {label} | {n_runs} | {n} | {spacing:g} | {root[0][0]:.3f} / {root[0][1]:.3f} | "
        f"{root[1][0]:.3f} / {root[1][1]:.3f} | {cover[0]:.1f} / {rival_cover[0]:.1f} | "
        f"{cover[1]:.1f} / {rival_cover[1]:.1f} | {cover[2]:.1f} | {np.exp(np.median(widths)):.2f} |"
    )


def table_of_rates(trials: int) -> None:
    print("| runs | records | mean rate | τ | rate | mean width | mean of a loss |\n|---|---|---|---|---|---|---|")
    for n_runs, n, centre, tau in (
        (1, 200, 0.0, 0.0),
        (1, 200, -4.0, 0.0),
        (2, 200, 1.0, 0.5),
        (3, 200, 0.0, 0.0),
        (3, 200, 0.0, 0.5),
        (3, 200, 0.0, 2.0),
        (3, 1000, -4.0, 0.5),
        (5, 200, 0.0, 0.5),
        (5, 1000, 3.0, 2.0),
        (5, 1000, 0.0, 5.0),
    ):
        print(rates(trials, n_runs, n, centre, tau), flush=True)


def table_of_differences(trials: int) -> None:
    print("| runs | records | τ | apart | change | difference | p ≤ .05 | t test of runs, p ≤ .05 |")
    print("|---|---|---|---|---|---|---|---|")
    for n_runs, n, tau, apart in (
        (1, 200, 0.0, 0.0),
        (2, 200, 0.3, 0.0),
        (3, 200, 0.0, 0.0),
        (3, 200, 0.0, 1.0),
        (3, 200, 0.3, 0.0),
        (3, 200, 0.3, 1.0),
        (3, 1000, 0.3, 0.0),
        (3, 1000, 1.0, 0.0),
        (5, 200, 0.3, 0.0),
        (5, 1000, 0.1, 1.0),
        (5, 1000, 1.0, 0.0),
    ):
        print(differences(trials, n_runs, n, tau, apart), flush=True)


def table_of_power(trials: int) -> None:
    print("| runs | records | τ | second method's effect | p ≤ .05 |\n|---|---|---|---|---|")
    for n_runs in (2, 3, 5):
        for second in (0.0, 0.5):
            print(power(trials, n_runs, 1000, 0.15, second), flush=True)


def table_of_doses(trials: int) -> None:
    print("| curve | runs | records | spacing | error of ED50 | error of ED90 | ED50 | ED90 | ratio | width of ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for label, world, n_runs, n, spacing, n_doses, tied in (
        ("logistic, tied", World("logistic", 2.0, 0.3, 0.05), 3, 300, 2.0, 8, True),
        ("logistic", World("logistic", 2.0, 0.3, 0.05), 3, 300, 2.0, 8, False),
        ("logistic, runs alike", World("logistic", 2.0, 0.0, 0.05), 3, 300, 2.0, 8, True),
        ("logistic, one run", World("logistic", 2.0, 0.0, 0.05), 1, 300, 2.0, 8, True),
        ("logistic", World("logistic", 2.0, 0.3, 0.05), 5, 1000, 2.0, 8, False),
        ("logistic", World("logistic", 2.0, 0.3, 0.05), 3, 300, 4.0, 5, False),
        ("steep, tied", World("logistic", 10.0, 0.3, 0.02, 0.1), 3, 300, 2.0, 8, True),
        ("steep", World("logistic", 10.0, 0.3, 0.02, 0.1), 3, 300, 2.0, 8, False),
        ("steep, runs alike", World("logistic", 10.0, 0.0, 0.02, 0.1), 3, 300, 4.0, 5, True),
        ("one hit", World("one hit", 1.5, 0.3, 0.05), 3, 300, 2.0, 8, False),
        ("late", World("late", 1.5, 0.3, 0.05), 3, 300, 2.0, 8, False),
        ("in two steps", World("in two steps", 1.0, 0.3, 0.05), 3, 300, 2.0, 8, False),
    ):
        row = doses(trials, label, world, n_runs=n_runs, n=n, spacing=spacing, n_doses=n_doses, tied=tied)
        print(row, flush=True)


TABLES = {
    "rates": table_of_rates,
    "differences": table_of_differences,
    "power": table_of_power,
    "doses": table_of_doses,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--table", choices=TABLES, nargs="+", default=list(TABLES))
    options = parser.parse_args()
    for name in options.table:
        TABLES[name](options.trials)
        print()


if __name__ == "__main__":
    main()
