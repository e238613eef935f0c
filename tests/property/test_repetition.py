"""Leakage by exposures equals an audit of each part; the trend equals textbook and leave-one-out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import auc, auc_interval, by_exposure, rank_correlation, rate_metric, tpr_at_fpr
from loraudit.statistics.repetition import _centred_ranks, _influence

NAN = math.nan
OPTIONS = {"fprs": (0.1,), "n_resamples": 99, "confidence": 0.95}

tied = st.integers(-3, 3).map(float)
pairs = st.lists(st.tuples(st.one_of(tied, st.floats(-5, 5)), st.sampled_from([1.0, 2.0, 4.0, 8.0])), min_size=4)


def at_least(n_trials: int, rate: float) -> float:
    """So few successes fall short by chance once in a thousand simulations at this rate."""
    return float(stats.binom.ppf(0.001, n_trials, rate))


def repeated(rng, n: int = 100, slope: float = 0.5):
    """Members seen 1, 2, 4 or 8 times and as many non-members."""
    is_member = np.arange(2 * n) < n
    exposures = np.where(is_member, rng.choice([1.0, 2.0, 4.0, 8.0], 2 * n), NAN)
    scores = rng.normal(size=2 * n) + np.where(is_member, slope * np.log2(np.nan_to_num(exposures, nan=1)), 0)
    return scores, is_member, exposures


def found_by(scores, is_member, exposures, *, seed: int = 0, **options):
    return by_exposure(scores, is_member, exposures, rng=np.random.default_rng(seed), **(OPTIONS | options))


# ---------------------------------------------------------------------------------------------
# Levels
# ---------------------------------------------------------------------------------------------


def test_each_level_is_measured_against_all_nonmembers():
    scores, is_member, exposures = repeated(np.random.default_rng(0))
    scores[[0, 150]] = NAN
    found = found_by(scores, is_member, exposures)
    assert [level.exposures for level in found.levels] == [1, 2, 4, 8]
    others = scores[~is_member & ~np.isnan(scores)]
    for level in found.levels:
        members = scores[is_member & (exposures == level.exposures)]
        n_undefined, members = int(np.isnan(members).sum()), members[~np.isnan(members)]
        area, rate = level.findings["auc"], level.findings[rate_metric(0.1)]
        assert set(level.findings) == {"auc", rate_metric(0.1)}
        assert area.value == pytest.approx(auc(members, others))
        assert (area.lower, area.upper) == pytest.approx(auc_interval(members, others))
        assert rate.value == pytest.approx(tpr_at_fpr(members, others, fpr=0.1))
        assert rate.lower < rate.value < rate.upper
        for finding in (area, rate):
            assert (finding.n_members, finding.n_nonmembers) == (len(members), 99)
            assert (finding.n_undefined_members, finding.n_undefined_nonmembers) == (n_undefined, 1)
    assert found.n_unknown == 0


def test_members_of_unknown_exposure_are_counted_and_in_no_level():
    scores, is_member, exposures = repeated(np.random.default_rng(1))
    exposures[:7] = NAN
    found = found_by(scores, is_member, exposures)
    assert found.n_unknown == 7
    assert sum(level.findings["auc"].n_members for level in found.levels) == 93
    assert found.trend.n_records == 93


def test_what_stands_at_nonmembers_is_not_read():
    scores, is_member, exposures = repeated(np.random.default_rng(2))
    other = np.where(is_member, exposures, 64.0)
    assert [level.exposures for level in found_by(scores, is_member, other).levels] == [1, 2, 4, 8]
    assert found_by(scores, is_member, other).trend == found_by(scores, is_member, exposures).trend


def test_the_trend_is_that_of_the_members():
    scores, is_member, exposures = repeated(np.random.default_rng(3))
    trend = found_by(scores, is_member, exposures).trend
    assert trend == rank_correlation(scores[is_member], exposures[is_member])
    assert trend.interval.lower > 0
    assert trend.p_value < 1e-3


def test_documents_are_clustered_everywhere():
    scores, is_member, exposures = repeated(np.random.default_rng(4))
    groups = np.arange(200) // 4
    found = found_by(scores, is_member, exposures, groups=groups)
    assert found.trend.n_groups == 25
    assert "clustered" in found.levels[0].findings["auc"].method


def test_a_level_that_cannot_resolve_a_rate_refuses_it():
    scores, is_member, exposures = repeated(np.random.default_rng(5))
    found = found_by(scores, is_member, exposures, fprs=(0.001,))
    assert found.levels[0].findings[rate_metric(0.001)].value is None


def test_no_members_no_levels():
    scores, is_member, exposures = repeated(np.random.default_rng(6))
    found = found_by(scores, np.zeros_like(is_member), exposures)
    assert found.levels == ()
    assert math.isnan(found.trend.value)


# ---------------------------------------------------------------------------------------------
# Trend
# ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(pairs)
def test_the_correlation_is_spearmans(values):
    first, second = np.array(values).T
    found = rank_correlation(first, second)
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert math.isnan(found.value)
        assert np.isnan([*found.interval, found.p_value]).all()
    else:
        assert found.value == pytest.approx(stats.spearmanr(first, second)[0])
        assert not found.interval.lower > found.value
        assert not found.interval.upper < found.value


def slow_influence(f, g) -> np.ndarray:
    """The formulas of `_influence`, record by record."""
    n = len(f)

    def c(d: float) -> float:
        return 1.0 if d > 0 else 0.5 if d == 0 else 0.0

    theta, var_f, var_g = (sum(a * b for a, b in zip(x, y, strict=True)) / n for x, y in ((f, g), (f, f), (g, g)))
    rho = theta / math.sqrt(var_f * var_g)
    values = []
    for i in range(n):
        on_theta = f[i] * g[i] - 3 * theta
        on_theta += sum(c(f[j] - f[i]) * g[j] + c(g[j] - g[i]) * f[j] for j in range(n)) / n
        on_f = f[i] ** 2 + 2 * sum(c(f[j] - f[i]) * f[j] for j in range(n)) / n - 3 * var_f
        on_g = g[i] ** 2 + 2 * sum(c(g[j] - g[i]) * g[j] for j in range(n)) / n - 3 * var_g
        values.append(on_theta / math.sqrt(var_f * var_g) - rho / 2 * (on_f / var_f + on_g / var_g))
    return np.array(values)


@settings(deadline=None)
@given(pairs)
def test_the_influence_equals_its_formula_record_by_record(values):
    first, second = np.array(values).T
    assume(len(set(first)) > 1 and len(set(second)) > 1)
    f, g = _centred_ranks(first), _centred_ranks(second)
    value, influence = _influence(f, g)
    np.testing.assert_allclose(influence, slow_influence(f, g), atol=1e-9)
    assert influence.mean() == pytest.approx(0, abs=1e-9)
    assert value == pytest.approx(stats.spearmanr(first, second)[0])


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_the_error_is_close_to_the_jackknife(grouped):
    rng = np.random.default_rng(7)
    n = 120
    groups = np.arange(n) // 3 if grouped else np.arange(n)
    shared = rng.normal(size=n)[groups]
    exposures = rng.choice([1.0, 2.0, 4.0], n)[groups]
    scores = 0.4 * exposures + shared + rng.normal(size=n)
    found = rank_correlation(scores, exposures, groups if grouped else None)
    left = [stats.spearmanr(scores[groups != g], exposures[groups != g])[0] for g in np.unique(groups)]
    error = math.sqrt((len(left) - 1) / len(left) * np.sum((np.array(left) - np.mean(left)) ** 2))
    half = stats.t.ppf(0.975, len(left) - 1) * error / (1 - found.value**2)
    assert math.atanh(found.interval.upper) - math.atanh(found.value) == pytest.approx(half, rel=0.05)
    assert math.atanh(found.value) - math.atanh(found.interval.lower) == pytest.approx(half, rel=0.05)
    assert found.n_groups == len(left)


@settings(deadline=None)
@given(pairs, st.sampled_from([0.01, 0.05, 0.3]))
def test_the_p_value_is_at_most_alpha_exactly_where_the_interval_leaves_out_nothing(values, alpha):
    found = rank_correlation(*np.array(values).T, confidence=1 - alpha)
    assume(not math.isnan(found.p_value) and abs(found.p_value - alpha) > 1e-9)
    assert (found.p_value < alpha) == (not found.interval.lower <= 0 <= found.interval.upper)


@settings(deadline=None)
@given(pairs, st.randoms())
def test_only_the_order_of_values_and_not_that_of_records_matters(values, random):
    first, second = np.array(values).T
    found = rank_correlation(first, second)
    order = list(range(len(values)))
    random.shuffle(order)
    _, dense = np.unique(first, return_inverse=True)
    other = rank_correlation(dense.astype(float)[order], np.exp(second)[order])
    turned = rank_correlation(-first, second)
    assert other.value == pytest.approx(found.value, nan_ok=True)
    assert other.interval == pytest.approx(found.interval, nan_ok=True)
    assert turned.interval == pytest.approx((-found.interval.upper, -found.interval.lower), nan_ok=True)


def test_undefined_values_are_left_out():
    first = np.array([1.0, 2.0, NAN, 4.0, 3.0, 5.0])
    second = np.array([1.0, 2.0, 8.0, NAN, 1.0, 4.0])
    known = np.array([0, 1, 4, 5])
    groups = np.array([0, 0, 1, 2, 3, 3])
    assert rank_correlation(first, second, groups) == rank_correlation(first[known], second[known], groups[known])
    assert rank_correlation(first, second).n_records == 4
    assert rank_correlation(first, second, groups).n_groups == 2


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_full_order_and_few_records_have_no_interval(values):
    found = rank_correlation(np.array(values), np.array(values))
    assert np.isnan([*found.interval, found.p_value]).all()
    assert found.n_records == len(values)


def test_infinite_scores_are_the_lowest_and_the_highest():
    scores = np.array([-math.inf, 0.0, 1.0, 0.5, math.inf])
    finite = np.array([-9.0, 0.0, 1.0, 0.5, 9.0])
    exposures = np.array([1.0, 1.0, 2.0, 4.0, 4.0])
    assert rank_correlation(scores, exposures) == rank_correlation(finite, exposures)


@pytest.mark.parametrize("clustered", [False, True], ids=["alone", "clustered"])
def test_the_interval_holds_the_true_correlation(clustered):
    rng = np.random.default_rng(8)
    n_trials, size = 400, 4 if clustered else 1

    def draw(n: int):
        groups = np.arange(n) // size
        exposures = rng.choice([0.0, 1.0, 2.0], n // size)[groups]
        return 0.5 * exposures + rng.normal(size=n // size)[groups] + rng.normal(size=n), exposures, groups

    truth = stats.spearmanr(*draw(400_000)[:2])[0]
    n_held = 0
    for _ in range(n_trials):
        ends = rank_correlation(*draw(120)).interval
        n_held += ends.lower <= truth <= ends.upper
    assert at_least(n_trials, 0.95) <= n_held < n_trials
