"""Difference in differences: what is exchanged, and how often the test errs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from loraudit.statistics import CHANGE_OF_SHARE, difference_in_differences, over_seeds, rate_over_runs
from loraudit.statistics.intervals import Interval
from loraudit.statistics.mixtures import Mixed

NAN = math.nan


def compared(first, second, *, clean=0.0, seed: int = 0, **more):
    """Both methods against a clean arm of the same value everywhere."""
    arms = [np.asarray(values, dtype=float) for values in (first, second)]
    pairs = [arm for values in arms for arm in (values, np.full(values.shape, clean))]
    return difference_in_differences(*pairs, confidence=0.95, rng=np.random.default_rng(seed), **more)


# ---------------------------------------------------------------------------------------------
# Against obvious loops
# ---------------------------------------------------------------------------------------------


def test_one_run_each_equals_every_exchange_of_records():
    rng = np.random.default_rng(1)
    first, second = rng.random((1, 8)) + 0.3, rng.random((1, 8))
    found = compared(first, second, n_permutations=40_000)
    differences = (first - second)[0]
    every = [np.mean(np.array(signs) * differences) for signs in itertools.product((1, -1), repeat=8)]
    expected = np.mean(np.abs(every) >= abs(differences.mean()) - 1e-9)
    assert found.p_value == pytest.approx(expected, abs=0.006)
    assert "One training run" in str(found.finding.note)


def test_runs_that_differ_equal_adding_their_chance_draw_by_draw():
    rng = np.random.default_rng(2)
    first = rng.normal(size=(3, 1)) / 2 + rng.normal(size=(3, 20)) + 1.2
    second = rng.normal(size=(4, 1)) / 2 + rng.normal(size=(4, 20))
    found = compared(first, second, n_permutations=20_000)
    differences = first.mean(axis=0) - second.mean(axis=0)
    parts = [np.var(runs.mean(axis=1), ddof=1) / len(runs) for runs in (first, second)]
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    n_beyond = 0
    for _ in range(20_000):
        exchanged = np.mean(rng.choice((-1, 1), 20) * differences)
        n_beyond += abs(exchanged + math.sqrt(sum(parts)) * rng.standard_t(degrees)) >= abs(differences.mean())
    assert found.p_value == pytest.approx(n_beyond / 20_000, abs=0.012)


def test_the_interval_of_a_rate_over_runs_equals_its_parts():
    rng = np.random.default_rng(3)
    hits = (rng.random((3, 40)) < special.expit(rng.normal(size=(3, 1)) + rng.normal(size=40))).astype(float)
    found = rate_over_runs(hits, confidence=0.95).finding
    share, of_records = hits.mean(), hits.mean(axis=0)
    variance = np.sum((of_records - share) ** 2) / 39 / 40
    worth = min(max(share * (1 - share) / variance, 40), 120)
    z = stats.norm.ppf(0.975)
    middle = (share + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * math.sqrt(share * (1 - share) / worth + z**2 / (4 * worth**2))
    ends = Interval(middle - half, middle + half)
    mixed = Mixed(share, math.sqrt(variance), ends, NAN, 0.95, Interval(0.0, 1.0), 40, 0, 0)
    assert (found.lower, found.upper) == pytest.approx(over_seeds(mixed, hits.mean(axis=1)).combined)


def test_exchanging_the_methods_mirrors_everything():
    rng = np.random.default_rng(4)
    arms = [(rng.random((n, 50)) < rate).astype(float) for n, rate in ((3, 0.6), (3, 0.2), (2, 0.4), (2, 0.2))]
    one, two = (
        difference_in_differences(
            *order, confidence=0.95, rng=np.random.default_rng(0), attainable=CHANGE_OF_SHARE, n_permutations=500
        )
        for order in (arms, arms[2:] + arms[:2])
    )
    assert one.finding.value == pytest.approx(-two.finding.value)
    assert (one.finding.lower, one.finding.upper) == pytest.approx((-two.finding.upper, -two.finding.lower))
    assert one.p_value == pytest.approx(two.p_value)


# ---------------------------------------------------------------------------------------------
# By hand
# ---------------------------------------------------------------------------------------------


def test_a_difference_by_hand():
    # First: .6 from a clean .2; second: .5 from .3. Excess .4 and .2.
    rows = [np.tile((np.arange(10) < hits).astype(float), (2, 1)) for hits in (6, 2, 5, 3)]
    found = difference_in_differences(*rows, confidence=0.95, rng=np.random.default_rng(0))
    assert found.finding.value == pytest.approx(0.2)
    assert found.finding.n_nonmembers == 10
    assert "arms paired by seed and record, methods by record" in found.finding.method


def test_whole_runs_exchanged_by_hand():
    # Three runs above three others: of 20 exchanges this one and its mirror image are as far apart.
    first = np.full((3, 30), 0.9) + np.array([[0.0], [0.01], [0.02]])
    second = np.full((3, 30), 0.5) + np.array([[0.0], [0.01], [0.02]])
    found = compared(first, second)
    assert "Exchanging whole runs alone gives p = 0.1; 3 and 3 runs have 20 exchanges." in found.finding.note
    assert found.p_value < 0.001
    assert compared(np.full((10, 3), 1.0), np.full((11, 3), 0.5)).finding.note is None  # 352 716 exchanges


def test_no_difference_at_all_has_a_p_value_of_one():
    assert compared(np.ones((2, 10)), np.ones((3, 10))).p_value == 1
    # No more can be told from one record than from a coin.
    assert compared(np.ones((2, 1)), np.zeros((2, 1)), attainable=CHANGE_OF_SHARE).p_value == 1


def test_few_exchanges_bound_the_p_value():
    assert compared(np.ones((2, 100)), np.zeros((2, 100)), n_permutations=99).p_value == pytest.approx(0.01)


def test_undefined_records_and_runs_are_left_out_and_counted():
    first = np.ones((2, 5))
    first[0, 1] = NAN
    second = np.zeros((2, 5))
    second[1] = NAN
    found = compared(first, second)
    assert found.finding.value == 1
    assert (found.finding.n_nonmembers, found.finding.n_undefined_nonmembers) == (4, 1)
    assert "1 of 4 runs define nothing" in found.finding.note


def test_nothing_in_common_has_no_number():
    found = compared(np.ones((2, 5)), np.full((2, 5), NAN))
    assert (found.finding.value, found.p_value) == (None, None)
    assert "No record is defined in every run of both methods" in found.finding.note
    assert found.finding.n_undefined_nonmembers == 5


def test_methods_on_other_records_are_refused():
    with pytest.raises(ValueError, match="measured on 5 and 4 records cannot be compared"):
        compared(np.ones((2, 5)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="cannot be paired with a clean one"):
        difference_in_differences(
            np.ones((2, 5)),
            np.ones((2, 5)),
            np.ones((2, 5)),
            np.ones((1, 5)),
            confidence=0.95,
            rng=np.random.default_rng(0),
        )


# ---------------------------------------------------------------------------------------------
# Level and coverage
# ---------------------------------------------------------------------------------------------


def errors(rng, centre: float, tau: float, of_records, n_runs: int) -> np.ndarray:
    rates = special.expit(centre + of_records + tau * rng.normal(size=(n_runs, 1)))
    return (rng.random((n_runs, len(of_records))) < rates).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_runs", "n", "tau", "apart"),
    [
        (1, 200, 0.0, 0.0),
        (3, 200, 0.0, 0.0),
        (3, 200, 0.0, 1.0),
        (2, 200, 0.3, 0.0),
        (3, 500, 1.0, 0.0),
        (5, 500, 0.3, 1.0),
    ],
)
def test_methods_that_are_harmed_alike_are_rarely_told_apart(n_runs, n, tau, apart):
    rng = np.random.default_rng(0)
    n_trials, n_claimed, n_held = 400, 0, 0
    for _ in range(n_trials):
        of_records = rng.normal(size=n)
        # What a record does to one method alone is chance of records too.
        arms = [
            errors(rng, centre, tau, of_records + apart * rng.normal(size=n), n_runs)
            for _ in range(2)
            for centre in (-1.0, -2.0)
        ]
        found = difference_in_differences(
            *arms, confidence=0.95, rng=rng, attainable=CHANGE_OF_SHARE, n_permutations=399
        )
        n_claimed += found.p_value <= 0.05
        n_held += found.finding.lower <= 0 <= found.finding.upper
    assert n_claimed <= stats.binom.ppf(0.999, n_trials, 0.05)
    assert n_held >= stats.binom.ppf(0.001, n_trials, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_runs", "n", "centre", "tau"), [(1, 100, 0.0, 0.0), (3, 200, 0.0, 0.5), (5, 200, -3.0, 0.5)]
)
def test_intervals_of_rates_hold_the_rate_of_other_runs_on_other_records(n_runs, n, centre, tau):
    rng = np.random.default_rng(0)
    truth = special.expit(centre + math.hypot(1, tau) * rng.normal(size=2_000_000)).mean()
    n_trials, n_held = 400, 0
    for _ in range(n_trials):
        found = rate_over_runs(errors(rng, centre, tau, rng.normal(size=n), n_runs), confidence=0.95).finding
        n_held += found.lower <= truth <= found.upper
    assert n_held >= stats.binom.ppf(0.001, n_trials, 0.95)
