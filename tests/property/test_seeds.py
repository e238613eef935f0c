"""Spread between training runs added to the error over records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import AucRows, Interval, Mixed, RateRows, mean_over_runs, mixed_auc, over_seeds

NAN = math.nan


def at_least(n_trials: int, rate: float) -> float:
    """So few successes fall short by chance once in a thousand simulations at this rate."""
    return float(stats.binom.ppf(0.001, n_trials, rate))


def estimate(value: float, error: float, *, n_groups: int = 200, attainable=(-1.0, 1.0), confidence=0.95) -> Mixed:
    """A number with a symmetric t interval over records."""
    half = stats.t.ppf(0.5 + confidence / 2, n_groups - 1) * error
    p_value = 2 * stats.t.sf(abs(value) / error, n_groups - 1) if sum(attainable) == 0 else NAN
    ends = Interval(value - half, value + half)
    return Mixed(value, error, ends, p_value, confidence, Interval(*attainable), n_groups, 0, 0)


def cochran(error: float, deviations, counts, n_groups: int, confidence: float) -> float:
    """Half width, written out."""
    parts = [sd**2 / n for sd, n in zip(deviations, counts, strict=True)]
    of_runs = sum(parts)
    nu = of_runs**2 / sum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True))
    tail = (1 - confidence) / 2
    both = error**2 * stats.t(n_groups - 1).isf(tail) + of_runs * stats.t(nu).isf(tail)
    return both / (error**2 + of_runs) * math.sqrt(error**2 + of_runs)


# ---------------------------------------------------------------------------------------------
# The interval
# ---------------------------------------------------------------------------------------------


runs = st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=5).map(np.array)


@settings(deadline=None)
@given(runs, runs, st.floats(0.001, 0.1), st.integers(20, 500), st.sampled_from([0.8, 0.95]))
def test_a_difference_equals_the_formula(first, second, error, n_groups, confidence):
    deviations = [float(np.std(values, ddof=1)) for values in (first, second)]
    assume(sum(deviations) > 1e-6)
    mixed = estimate(float(first.mean() - second.mean()), error, n_groups=n_groups, confidence=confidence)
    found = over_seeds(mixed, first, second)
    half = cochran(error, deviations, [len(first), len(second)], n_groups, confidence)
    half = max(half, stats.t.ppf(0.5 + confidence / 2, n_groups - 1) * error)
    assert found.combined == pytest.approx((max(-1, mixed.value - half), min(1, mixed.value + half)))
    assert found.deviations == pytest.approx(deviations)
    assert found.n_seeds == (len(first), len(second))
    assert (found.value, found.records, found.p_value_records) == (mixed.value, mixed.interval, mixed.p_value)
    assert found.note is None


@settings(deadline=None)
@given(st.lists(st.floats(0.6, 0.9), min_size=2, max_size=5).map(np.array), st.floats(0.01, 0.05))
def test_a_mean_is_stretched_on_the_logit_scale(values, error):
    value, deviation = float(values.mean()), float(np.std(values, ddof=1))
    assume(deviation > 1e-6)
    slope = 1 / (value * (1 - value))
    logit = math.log(value / (1 - value))
    ends = [1 / (1 + math.exp(-(logit + side * stats.t.ppf(0.975, 99) * slope * error))) for side in (-1, 1)]
    mixed = Mixed(value, error, Interval(*ends), NAN, 0.95, Interval(0, 1), 100, 0, 0)
    found = over_seeds(mixed, values)
    half = cochran(slope * error, [slope * deviation], [len(values)], 100, 0.95)
    expected = [1 / (1 + math.exp(-(logit + side * half))) for side in (-1, 1)]
    assert found.combined == pytest.approx(expected)
    assert math.isnan(found.p_value)


@settings(deadline=None)
@given(
    st.tuples(st.floats(-0.5, 0.5), st.floats(0, 0.3), st.floats(0, 0.3), st.integers(2, 100)),
    st.lists(runs, min_size=1, max_size=2),
)
def test_other_runs_never_make_the_interval_narrower(numbers, values):
    value, below, above, n_groups = numbers
    interval = Interval(value - below, value + above)
    mixed = Mixed(value, NAN, interval, NAN, 0.95, Interval(-1, 1), n_groups, 0, 0)
    found = over_seeds(mixed, *values)
    assert found.combined.lower <= interval.lower + 1e-12
    assert found.combined.upper >= interval.upper - 1e-12


@settings(deadline=None)
@given(runs, runs, st.floats(0.001, 0.1), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_p_value_is_at_most_alpha_exactly_where_the_interval_leaves_out_nothing(first, second, error, alpha):
    mixed = estimate(float(first.mean() - second.mean()), error, confidence=1 - alpha)
    found = over_seeds(mixed, first, second)
    assume(abs(found.p_value - alpha) > 1e-6)
    assert (found.p_value < alpha) == (not found.combined.lower <= 0 <= found.combined.upper)
    assert found.p_value >= found.p_value_records


# ---------------------------------------------------------------------------------------------
# What few runs cannot say
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [([0.8],), ([0.8], [0.6, 0.7]), ([0.8, 0.9], [0.7])])
def test_one_run_of_a_method_leaves_the_interval_over_records_alone(values):
    mixed = estimate(0.2, 0.05)
    found = over_seeds(mixed, *map(np.array, values))
    assert found.records == mixed.interval
    assert found.p_value_records == mixed.p_value
    assert np.isnan([*found.combined, found.p_value]).all()
    assert found.note.startswith("One training run")
    assert [math.isnan(sd) for sd in found.deviations] == [len(v) == 1 for v in values]


def test_runs_that_agree_exactly_add_nothing():
    mixed = estimate(0.2, 0.05)
    found = over_seeds(mixed, np.array([0.75, 0.75]), np.array([0.5, 0.5, 0.5]))
    assert found.combined == mixed.interval
    assert found.p_value == mixed.p_value
    assert found.deviations == (0, 0)


def test_what_records_cannot_say_runs_cannot_either():
    mixed = estimate(0.2, 0.05)._replace(interval=Interval(NAN, NAN), standard_error=NAN)
    assert np.isnan(over_seeds(mixed, np.array([0.8, 0.7])).combined).all()


def test_equal_orderings_of_unequal_runs_have_the_spread_of_the_runs():
    """A difference of exactly nothing over records, as where both methods are compared at their common base."""
    mixed = Mixed(0.0, 0.0, Interval(0, 0), 1.0, 0.95, Interval(-1, 1), 100, 0, 0)
    found = over_seeds(mixed, np.array([0.5, 0.6]), np.array([0.55, 0.55]))
    half = stats.t.ppf(0.975, 1) * math.sqrt(0.005 / 2)
    assert found.combined == pytest.approx((-half, half))
    assert found.p_value == pytest.approx(1)


def test_runs_at_full_separation_keep_the_exact_bound():
    rng = np.random.default_rng(0)
    is_member = np.arange(80) < 40
    scores = rng.random((3, 80)) + 2 * is_member
    scores[2, 0] = -1  # the third run misses one member
    mixed = mixed_auc(scores, np.full(3, 1 / 3), is_member)
    found = over_seeds(mixed, np.array([1.0, 1.0, 1 - 1 / 40]))
    assert found.combined.lower < mixed.interval.lower
    assert found.combined.upper <= 1
    same = mixed_auc(scores, np.array([0.5, 0.5, 0]), is_member)
    assert over_seeds(same, np.array([1.0, 1.0])).combined == same.interval


def test_an_asymmetric_interval_stays_so():
    mixed = Mixed(0.1, 0.02, Interval(0.0, 0.3), NAN, 0.95, Interval(0, 1), 200, 0, 0)
    found = over_seeds(mixed, np.array([0.05, 0.1, 0.15]))
    worth = 0.15 / stats.t.ppf(0.975, 199)  # wider than the standard error says
    stretch = cochran(worth, [0.05], [3], 200, 0.95) / 0.15
    assert found.combined == pytest.approx((0, 0.1 + stretch * 0.2))


# ---------------------------------------------------------------------------------------------
# Coverage
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_runs", "share"), [(2, 0.5), (2, 0.9), (3, 0.5), (3, 0.9), (5, 0.7)])
def test_cochrans_quantile_covers_where_satterthwaites_falls_short(n_runs, share):
    """One method; a share of the variance of its mean comes from the runs, the rest from records."""
    rng = np.random.default_rng(1)
    n_trials, degrees = 20_000, 199
    of_records = (1 - share) * rng.chisquare(degrees, n_trials) / degrees
    of_runs = share * rng.chisquare(n_runs - 1, n_trials) / (n_runs - 1)
    deviation = np.abs(rng.normal(size=n_trials))
    variance = of_records + of_runs
    nu = variance**2 / (of_records**2 / degrees + of_runs**2 / (n_runs - 1))
    satterthwaite = stats.t.ppf(0.975, nu) * np.sqrt(variance)
    quantiles = stats.t.ppf(0.975, degrees), stats.t.ppf(0.975, n_runs - 1)
    half = (of_records * quantiles[0] + of_runs * quantiles[1]) / np.sqrt(variance)
    assert np.mean(deviation <= half) >= 0.942
    assert np.mean(deviation <= satterthwaite) < np.mean(deviation <= half)
    if share == 0.9 and n_runs < 5:
        assert np.mean(deviation <= satterthwaite) < 0.93
    for i in range(20):  # and this is what `over_seeds` does
        runs = np.array([-1.0, 1.0] + [0.0] * (n_runs - 2))
        runs *= math.sqrt(of_runs[i] * n_runs) / np.std(runs, ddof=1)
        mixed = estimate(0.0, math.sqrt(of_records[i]), n_groups=degrees + 1, attainable=(-99.0, 100.0))
        assert over_seeds(mixed, runs).combined.upper == pytest.approx(max(half[i], mixed.interval.upper))


def trained(rng, n: int, shifts, n_seeds: int, spread: float):
    """Two checkpoints of each run of each method, [M, 2 n], and the number of runs of each."""
    is_member = np.arange(2 * n) < n
    common = math.sqrt(0.4) * rng.normal(size=2 * n)
    rows = []
    for shift in shifts:
        for _ in range(n_seeds):
            own = common + math.sqrt(0.3) * rng.normal(size=2 * n)
            offset = spread * rng.normal()
            rows += [
                own + math.sqrt(0.3) * rng.normal(size=2 * n) + (shift * k + offset) * is_member for k in (0.5, 1.0)
            ]
    return np.array(rows), is_member


@pytest.mark.parametrize("spread", [0.15, 0.4])
def test_the_combined_intervals_hold_what_other_runs_on_other_records_show(spread):
    """Three runs of two methods, between two checkpoints; 95 % intervals of 200 samples."""
    rng = np.random.default_rng(11)
    n_trials, n_seeds, shifts, place = 200, 3, (1.4, 0.8), np.array([0.4, 0.6])
    expected = [place @ stats.norm.cdf(shift * np.array([0.5, 1.0]) / math.sqrt(2 + spread**2)) for shift in shifts]
    n_held = np.zeros(2)
    for _ in range(n_trials):
        scores, is_member = trained(rng, 60, shifts, n_seeds, spread)
        rows = AucRows.of(scores, is_member)
        each = [mean_over_runs([place], [2 * run], 12) for run in range(6)]
        values = np.array([rows.value(weights) for weights in each])
        first, second = np.mean(each[:3], axis=0), np.mean(each[3:], axis=0)
        one = over_seeds(rows.mixed(first), values[:3]).combined
        both = over_seeds(rows.mixed(first - second), values[:3], values[3:]).combined
        n_held[0] += one.lower <= expected[0] <= one.upper
        n_held[1] += both.lower <= expected[0] - expected[1] <= both.upper
    assert (n_held >= at_least(n_trials, 0.95)).all()


def test_rates_take_the_same_road():
    rng = np.random.default_rng(12)
    scores, is_member = trained(rng, 150, (2.0, 1.0), 3, 0.2)
    rows = RateRows.of(scores, is_member, fprs=(0.1,), n_resamples=199, rng=rng)
    each = [mean_over_runs([np.array([0.0, 1.0])], [2 * run], 12) for run in range(6)]
    values = np.array([rows.value(weights, 0.1) for weights in each])
    difference = np.mean(each[:3], axis=0) - np.mean(each[3:], axis=0)
    mixed = rows.mixed(difference)[0.1]
    found = over_seeds(mixed, values[:3], values[3:])
    assert found.value == pytest.approx(values[:3].mean() - values[3:].mean())
    assert found.combined.lower < mixed.interval.lower < mixed.interval.upper < found.combined.upper
    assert found.p_value >= found.p_value_records
