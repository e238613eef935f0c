"""Two runs over the same records: differences with what it takes to believe them, and the test beside each interval."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import (
    auc,
    auc_interval,
    auc_p_value,
    compare_scores,
    mcnemar,
    paired_auc_difference,
    threshold_at_fpr,
    tpr_at_fpr,
)
from loraudit.statistics.pairs import _bootstrap_difference

NAN = math.nan
OPTIONS = {"fprs": (0.1, 0.25), "n_resamples": 99, "confidence": 0.95}

tied = st.integers(-3, 3).map(float)
several = st.one_of(st.lists(tied, min_size=2, max_size=25), st.lists(st.floats(-5, 5), min_size=2, max_size=25))


def compared(first, second, is_member, *, seed: int = 0, **options):
    return compare_scores(first, second, is_member, rng=np.random.default_rng(seed), **(OPTIONS | options))


def pair(rng, n: int, shifts=(1.0, 0.5), shared: float = 0.6):
    """Two scores that share a part, of n members and n non-members."""
    is_member = np.arange(2 * n) < n
    common = math.sqrt(shared) * rng.normal(size=2 * n)
    first, second = (common + math.sqrt(1 - shared) * rng.normal(size=2 * n) + shift * is_member for shift in shifts)
    return first, second, is_member


def at_least(n_trials: int, rate: float) -> float:
    """So few successes fall short by chance once in a thousand simulations at this rate."""
    return float(stats.binom.ppf(0.001, n_trials, rate))


# ---------------------------------------------------------------------------------------------
# McNemar
# ---------------------------------------------------------------------------------------------


def answers(both: int, only_first: int, only_second: int, neither: int):
    table = [(True, True)] * both + [(True, False)] * only_first + [(False, True)] * only_second
    table += [(False, False)] * neither
    return np.array([a for a, _ in table], dtype=bool), np.array([b for _, b in table], dtype=bool)


def test_mcnemar_worked_by_hand():
    """One against nine: 2 · (1 + 10) / 2¹⁰; those that agree say nothing."""
    found = mcnemar(*answers(30, 1, 9, 60))
    assert (found.only_first, found.only_second) == (1, 9)
    assert found.p_value == pytest.approx(22 / 1024)


counts = st.integers(0, 40)


@given(counts, counts, st.integers(0, 5), st.integers(0, 5))
def test_mcnemar_is_twice_the_smaller_tail_of_a_fair_coin(only_first, only_second, both, neither):
    n = only_first + only_second
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(only_first, only_second) + 1))
    found = mcnemar(*answers(both, only_first, only_second, neither))
    assert found == pytest.approx((only_first, only_second, float(min(Fraction(1), 2 * tail))))
    if n:
        assert found.p_value == pytest.approx(stats.binomtest(only_second, n, 0.5).pvalue)


def test_two_runs_that_agree_everywhere_have_p_one():
    assert mcnemar(*answers(7, 0, 0, 5)) == (0, 0, 1.0)
    assert mcnemar(np.array([], dtype=bool), np.array([], dtype=bool)) == (0, 0, 1.0)


# ---------------------------------------------------------------------------------------------
# What is compared
# ---------------------------------------------------------------------------------------------


def test_numbers_are_those_of_each_run():
    first, second, is_member = pair(np.random.default_rng(0), 80)
    found = compared(first, second, is_member)
    sides = [(scores[is_member], scores[~is_member]) for scores in (first, second)]
    assert (found.auc.first, found.auc.second) == pytest.approx((auc(*sides[0]), auc(*sides[1])))
    expected = paired_auc_difference(*sides)
    assert (found.auc.value, *found.auc.interval, found.auc.p_value) == pytest.approx(
        (expected.value, *expected.interval, expected.p_value)
    )
    assert (found.n_members, found.n_nonmembers, found.n_left_out) == (80, 80, 0)
    for fpr in OPTIONS["fprs"]:
        difference, table = found.rates[fpr]
        rates = [tpr_at_fpr(*side, fpr=fpr) for side in sides]
        assert (difference.first, difference.second) == pytest.approx(rates)
        assert difference.value == pytest.approx(rates[0] - rates[1])
        called = [members > threshold_at_fpr(others, fpr=fpr) for members, others in sides]
        assert table == mcnemar(*called)
        assert table.only_first - table.only_second == pytest.approx(80 * difference.value)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_exchanging_the_runs_turns_every_difference_round(seed, ties, grouped):
    rng = np.random.default_rng(seed)
    first, second, is_member = pair(rng, 40)
    if ties:
        first, second = np.round(first), np.round(second)
    groups = np.arange(80) // 4 if grouped else None
    one, two = compared(first, second, is_member, groups=groups), compared(second, first, is_member, groups=groups)
    differences = [(one.auc, two.auc)]
    for fpr in OPTIONS["fprs"]:
        differences.append((one.rates[fpr].difference, two.rates[fpr].difference))
        (only_first, only_second, p_value), swapped = one.rates[fpr].mcnemar, two.rates[fpr].mcnemar
        assert swapped == (only_second, only_first, pytest.approx(p_value))
    for straight, turned in differences:
        assert turned.value == pytest.approx(-straight.value)
        assert (turned.first, turned.second) == (straight.second, straight.first)
        assert turned.p_value == pytest.approx(straight.p_value)
        assert turned.interval == pytest.approx((-straight.interval.upper, -straight.interval.lower))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_same_ordering_twice_differs_by_exactly_nothing(seed, grouped):
    """Second run: the same scores on another scale."""
    rng = np.random.default_rng(seed)
    first, _, is_member = pair(rng, 30)
    first = np.round(first, 1)
    groups = np.arange(60) // 3 if grouped else None
    found = compared(first, np.exp(first / 3), is_member, groups=groups)
    for difference in (found.auc, *(found.rates[fpr].difference for fpr in OPTIONS["fprs"])):
        assert difference.value == 0
        assert difference.interval == (0, 0)
        assert difference.p_value == 1
    assert found.rates[0.1].mcnemar == (0, 0, 1.0)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_a_record_without_a_score_in_either_run_is_left_out_and_counted(seed):
    rng = np.random.default_rng(seed)
    first, second, is_member = pair(rng, 40)
    first[rng.random(80) < 0.15] = NAN
    second[rng.random(80) < 0.15] = NAN
    complete = ~np.isnan(first) & ~np.isnan(second)
    groups = np.arange(80) // 2
    found = compared(first, second, is_member, groups=groups)
    assert found.n_left_out == (~complete).sum()
    assert found.n_members == (complete & is_member).sum()
    assert found.n_nonmembers == (complete & ~is_member).sum()
    alone = compared(first[complete], second[complete], is_member[complete], groups=groups[complete])
    assert (found.auc, found.rates) == (alone.auc, alone.rates)


def test_rates_that_the_common_records_cannot_resolve_are_refused():
    """99 non-members resolve 1.01 %; the hundredth has no score in the second run."""
    first, second, is_member = pair(np.random.default_rng(1), 100)
    fprs = (0.001, 0.01, 0.1)
    found = compared(first, second, is_member, fprs=fprs).rates
    assert found[0.001] is None
    assert found[0.01] is not None
    second[-1] = NAN
    found = compared(first, second, is_member, fprs=fprs).rates
    assert found[0.01] is None
    assert found[0.1] is not None
    assert list(found) == list(fprs)


@pytest.mark.parametrize("empty", [True, False])
def test_without_records_on_a_side_nothing_is_compared(empty):
    first, second, is_member = pair(np.random.default_rng(2), 20)
    first[is_member == empty] = NAN
    found = compared(first, second, is_member)
    assert math.isnan(found.auc.value)
    assert math.isnan(found.auc.p_value)
    assert found.rates == {0.1: None, 0.25: None}
    assert {found.n_members, found.n_nonmembers} == {0, 20}
    assert found.n_left_out == 20


def test_no_rate_asked_for_none_given():
    first, second, is_member = pair(np.random.default_rng(3), 30)
    assert compared(first, second, is_member, fprs=()).rates == {}


# ---------------------------------------------------------------------------------------------
# Intervals and tests of the rates
# ---------------------------------------------------------------------------------------------


def test_percentiles_of_two_hundred_less_one_resamples_worked_by_hand():
    """Of 199 resamples the fifth from each end is the 95 % interval, and two of them at or below 0 give p = 6 / 200."""
    drawn = (np.arange(199.0) - 1.5)[np.random.default_rng(0).permutation(199)]
    found = _bootstrap_difference(70.0, 10.0, drawn, 0.95)
    assert found.interval == (2.5, 192.5)
    assert found.p_value == pytest.approx(2 * 3 / 200)
    assert (found.value, found.first, found.second) == (60.0, 70.0, 10.0)


@pytest.mark.parametrize(("n_resamples", "confidence"), [(2000, 0.9), (1000, 0.8), (200, 0.9)])
def test_both_ends_of_the_bootstrap_interval_cut_off_as_many_resamples(n_resamples, confidence):
    drawn = np.arange(n_resamples) + 1.0
    found = _bootstrap_difference(0, 0, drawn, confidence).interval
    assert (drawn < found.lower).sum() == (drawn > found.upper).sum()


@pytest.mark.parametrize(("n_resamples", "confidence"), [(2000, 0.95), (2000, 0.9), (1000, 0.95), (100, 0.99)])
def test_the_p_value_of_a_rate_is_where_its_interval_touches_nothing(n_resamples, confidence):
    """As documented; with c of the resamples at or below 0, for every c near the edge and on either side."""
    edge = round(n_resamples * (1 - confidence) / 2)
    for n_beyond in range(max(0, edge - 3), edge + 4):
        for sign in (1, -1):
            found = _bootstrap_difference(0, 0, sign * (np.arange(n_resamples) - n_beyond + 0.5), confidence)
            excludes = found.interval.lower > 0 or found.interval.upper < 0
            assert excludes == (found.p_value <= 1 - confidence + 1e-12)


def test_the_paired_intervals_hold_the_true_differences():
    """Shifts of 1 and 0.5 at 10 % FPR: 39.0 % less 21.7 % of the members. 95 % intervals of 250 samples."""
    rng = np.random.default_rng(4)
    quantile = stats.norm.isf(0.1)
    rate = float(stats.norm.sf(quantile - 1) - stats.norm.sf(quantile - 0.5))
    area = float(stats.norm.cdf(1 / math.sqrt(2)) - stats.norm.cdf(0.5 / math.sqrt(2)))
    assert rate == pytest.approx(0.389 - 0.217, abs=2e-3)
    n_trials = 250
    n_rate = n_area = n_significant = 0
    for trial in range(n_trials):
        found = compared(*pair(rng, 150), seed=trial, fprs=(0.1,), n_resamples=199)
        difference = found.rates[0.1].difference
        n_rate += difference.interval.lower <= rate <= difference.interval.upper
        n_area += found.auc.interval.lower <= area <= found.auc.interval.upper
        n_significant += found.auc.p_value <= 0.05
    assert n_rate >= at_least(n_trials, 0.95)
    assert n_area >= at_least(n_trials, 0.95)
    assert n_area < n_trials  # no interval of everything
    assert n_significant > 0.6 * n_trials


def test_the_paired_interval_holds_the_difference_of_clustered_runs():
    rng = np.random.default_rng(5)
    n_trials, n = 200, 160
    groups = np.arange(2 * n) // 4
    is_member = np.arange(2 * n) < n
    n_area = n_naive = n_rate = 0
    for trial in range(n_trials):
        first, second = (
            rng.normal(size=2 * n) + 1.5 * rng.normal(size=len(groups))[groups] + is_member for _ in range(2)
        )
        found = compared(first, second, is_member, seed=trial, fprs=(0.1,), n_resamples=99, groups=groups)
        n_area += found.auc.interval.lower <= 0 <= found.auc.interval.upper
        n_rate += found.rates[0.1].difference.p_value > 0.05
        naive = paired_auc_difference((first[:n], first[n:]), (second[:n], second[n:])).interval
        n_naive += naive.lower <= 0 <= naive.upper
    assert n_area >= at_least(n_trials, 0.95)
    assert n_rate >= at_least(n_trials, 0.95)
    assert n_naive < at_least(n_trials, 0.95)


def test_two_runs_that_see_as_much_differ_as_rarely_as_stated():
    """The rate's p-value, McNemar's and DeLong's on pairs without a difference."""
    rng = np.random.default_rng(6)
    n_trials = 250
    wrong = np.zeros(2)
    for trial in range(n_trials):
        found = compared(*pair(rng, 100, shifts=(0.8, 0.8)), seed=trial, fprs=(0.1,), n_resamples=99)
        wrong += [found.auc.p_value <= 0.05, found.rates[0.1].difference.p_value <= 0.05]
    assert (n_trials - wrong >= at_least(n_trials, 0.95)).all()
    assert wrong[0] > 0


# ---------------------------------------------------------------------------------------------
# The p-value of one AUC
# ---------------------------------------------------------------------------------------------


@given(several, several, st.sampled_from([0.05, 0.1, 0.2, 0.4]))
def test_a_two_sided_p_value_is_at_most_alpha_exactly_where_the_interval_leaves_out_a_half(members, nonmembers, alpha):
    one, zero = np.array(members), np.array(nonmembers)
    interval = auc_interval(one, zero, confidence=1 - alpha)
    p_value = auc_p_value(one, zero, alternative="two-sided")
    assume(not math.isnan(interval.lower))
    assume(abs(p_value - alpha) > 1e-9)
    assert (p_value <= alpha) == (interval.lower > 0.5 or interval.upper < 0.5)


@given(several, several, st.sampled_from([0.05, 0.1, 0.2]), st.sampled_from([1.0, 1.5]))
def test_a_one_sided_p_value_is_at_most_half_alpha_exactly_where_the_interval_is_above_a_half(
    members, nonmembers, alpha, factor
):
    one, zero = np.array(members), np.array(nonmembers)
    interval = auc_interval(one, zero, confidence=1 - alpha, error_factor=factor)
    p_value = auc_p_value(one, zero, error_factor=factor)
    assume(not math.isnan(interval.lower))
    assume(abs(p_value - alpha / 2) > 1e-9)
    assert (p_value <= alpha / 2) == (interval.lower > 0.5)


@given(several, several)
def test_exchanging_sides_turns_the_one_sided_p_value_round(members, nonmembers):
    one, zero = np.array(members), np.array(nonmembers)
    above, below = auc_p_value(one, zero), auc_p_value(zero, one)
    both = auc_p_value(one, zero, alternative="two-sided")
    assume(not math.isnan(both))
    if auc(one, zero) not in (0.0, 0.5, 1.0):
        assert above + below == pytest.approx(1)
    assert both == pytest.approx(min(1, 2 * min(above, below)))


def test_full_separation_has_the_exact_p_value():
    """Four disjoint pairs all ordered one way: 1 in 16 by chance, either way 1 in 8; the other way round, 1."""
    high, low = np.arange(10.0, 14), np.arange(6.0)
    assert auc_p_value(high, low) == pytest.approx(1 / 16)
    assert auc_p_value(high, low, alternative="two-sided") == pytest.approx(1 / 8)
    assert auc_p_value(low, high) == 1
    assert auc_p_value(low, high, alternative="two-sided") == pytest.approx(1 / 8)


def test_equal_scores_have_p_one_and_a_single_record_says_nothing():
    assert auc_p_value(np.ones(5), np.ones(6)) == 1
    assert auc_p_value(np.ones(5), np.ones(6), alternative="two-sided") == 1
    assert math.isnan(auc_p_value(np.array([1.0]), np.array([0.0, 2.0, 3.0])))


@pytest.mark.parametrize("clustered", [False, True])
def test_p_values_are_spread_evenly_where_both_sides_are_alike(clustered):
    rng = np.random.default_rng(7)
    groups = np.arange(80) // 4 if clustered else None
    p_values = np.empty(800)
    for trial in range(800):
        sides = [
            rng.normal(size=80) + (1.5 * rng.normal(size=20)[groups] if groups is not None else 0) for _ in range(2)
        ]
        p_values[trial] = auc_p_value(*sides, member_groups=groups, nonmember_groups=groups)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert 0.03 <= (p_values <= 0.05).mean() <= 0.075
