"""Single records and the set as a whole: p-values that hold for anybody's scores, and sample sizes that deliver."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loraudit.statistics import (
    auc,
    auc_interval,
    auc_p_value,
    calibrated_p_values,
    detectable_auc,
    fewest_for_rate,
    n_to_detect,
    set_test,
    split_in_halves,
)

INF, NAN = math.inf, math.nan

score = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False), st.sampled_from([-INF, INF]))
scores = st.lists(score, min_size=1, max_size=20)


def shift_of(area: float) -> float:
    """Between two normals of unit variance whose AUC this is."""
    return math.sqrt(2) * float(stats.norm.ppf(area))


# ---------------------------------------------------------------------------------------------
# p-values of single records
# ---------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(score, st.just(NAN)), max_size=15), st.lists(score, max_size=15))
def test_p_values_count_the_nonmembers_that_score_as_high(values, nonmembers):
    expected = []
    for value in values:
        if math.isnan(value):
            expected.append(NAN)
            continue
        n_as_high = 0
        for other in nonmembers:
            n_as_high += other >= value
        expected.append((1 + n_as_high) / (1 + len(nonmembers)))
    found = calibrated_p_values(np.array(values, dtype=float), np.array(nonmembers, dtype=float))
    assert found.tolist() == pytest.approx(expected, nan_ok=True)


def test_three_records_worked_by_hand():
    """Above all four, tied with the second highest, and below all."""
    found = calibrated_p_values(np.array([9.0, 3.0, -1.0]), np.array([4.0, 3.0, 1.0, 0.0]))
    assert found.tolist() == [1 / 5, 3 / 5, 5 / 5]


@given(st.lists(score, min_size=2, max_size=20))
def test_whoever_of_a_pool_is_drawn_as_the_new_nonmember_is_called_no_more_often_than_stated(pool):
    """Exchangeable: every record of the pool is the new one with the same probability. Ties only make it stricter."""
    values = np.array(pool)
    found = np.array([calibrated_p_values(values[[i]], np.delete(values, i))[0] for i in range(len(values))])
    for level in found:
        assert (found <= level).mean() <= level + 1e-12


@given(scores, st.randoms(use_true_random=False))
def test_a_higher_score_never_has_a_higher_p_value_and_order_does_not_matter(nonmembers, random):
    rising = np.linspace(-4, 4, 17)
    base = calibrated_p_values(rising, np.array(nonmembers))
    assert (np.diff(base) <= 0).all()
    shuffled = list(nonmembers)
    random.shuffle(shuffled)
    np.testing.assert_array_equal(calibrated_p_values(rising, np.array(shuffled)), base)
    assert base.min() >= 1 / (1 + len(nonmembers))


# ---------------------------------------------------------------------------------------------
# How many it takes
# ---------------------------------------------------------------------------------------------


def test_noether_worked_by_hand():
    """(1.6449 + 0.8416)² / (6 · 0.053²) = 6.1826 / 0.016854 = 366.8; at 0.6: 6.1826 / 0.06 = 103.04."""
    assert n_to_detect(0.553) == 367
    assert n_to_detect(0.6) == 104


@pytest.mark.parametrize("area", [0.5, 0.3, 0.0, NAN])
def test_no_sample_detects_what_is_not_above_chance(area):
    assert n_to_detect(area) is None


@given(st.floats(0.501, 0.99), st.floats(1, 20))
def test_clustered_records_are_worth_less(area, design_effect):
    plain, clustered = n_to_detect(area), n_to_detect(area, design_effect=design_effect)
    assert max(2, design_effect * (plain - 1)) - 1e-6 <= clustered <= design_effect * plain + 1


@given(st.floats(0.5001, 1), st.floats(0.5001, 1))
def test_a_larger_area_takes_no_more_records(first, second):
    low, high = sorted((first, second))
    assert n_to_detect(low) >= n_to_detect(high) >= 2


@pytest.mark.parametrize("area", [0.553, 0.6, 0.65])
def test_so_many_records_detect_the_area_four_times_in_five(area):
    """One-sided Mann-Whitney of scipy, normal scores: 800 trials have a standard error of 1.4 points."""
    rng = np.random.default_rng(0)
    n, n_trials = n_to_detect(area), 800
    members, nonmembers = rng.normal(shift_of(area), 1, (n_trials, n)), rng.normal(0, 1, (n_trials, n))
    p_values = stats.mannwhitneyu(members, nonmembers, alternative="greater", axis=1, method="asymptotic").pvalue
    assert (p_values <= 0.05).mean() == pytest.approx(0.8, abs=0.05)


def test_an_area_of_0_553_is_thirteen_standard_errors_in_ten_thousand_a_side():
    """The figures of METHODS 1.4, on samples that stand exactly at the quantiles of two normals."""
    grid = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    assert auc(grid + shift_of(0.553), grid) == pytest.approx(0.553, abs=1e-4)
    assert stats.norm.isf(auc_p_value(grid + shift_of(0.553), grid)) == pytest.approx(13, abs=0.15)


@pytest.mark.parametrize(("n_members", "n_nonmembers"), [(200, 200), (80, 300)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_detectable_area_has_an_interval_above_a_half_four_times_in_five(n_members, n_nonmembers, confidence):
    rng = np.random.default_rng(1)
    area, n_trials = detectable_auc(n_members, n_nonmembers, confidence=confidence), 500
    n_found = 0
    for _ in range(n_trials):
        members, nonmembers = rng.normal(shift_of(area), 1, n_members), rng.normal(0, 1, n_nonmembers)
        n_found += auc_interval(members, nonmembers, confidence=confidence).lower > 0.5
    assert n_found / n_trials == pytest.approx(0.8, abs=0.065)  # 3.6 standard errors


def test_the_detectable_area_worked_by_hand():
    """0.5 + (1.95996 + 0.84162) · √(401 / 480000) = 0.5 + 2.80158 · 0.028904."""
    assert detectable_auc(200, 200) == pytest.approx(0.58097, abs=1e-4)


@given(st.integers(1, 500), st.integers(1, 500))
def test_more_records_detect_less_and_sides_are_alike(n_members, n_nonmembers):
    area = detectable_auc(n_members, n_nonmembers)
    assert 0.5 < area <= 1
    assert detectable_auc(n_nonmembers, n_members) == pytest.approx(area)
    assert detectable_auc(n_members + 1, n_nonmembers) <= area
    assert detectable_auc(n_members, n_nonmembers, confidence=0.99) >= area


@pytest.mark.parametrize("fpr", [0.5, 0.3, 0.1, 0.05, 0.01, 0.005, 0.001])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_fewest_nonmembers_for_a_rate_equal_counting_up(fpr, confidence):
    n, tail = 1, (1 - confidence) / 2
    while (1 - fpr) ** n > tail:
        n += 1
    assert fewest_for_rate(fpr, confidence=confidence) == n


def test_the_published_number_of_nonmembers_without_a_false_positive():
    """METHODS 1.4: FPR ≤ 0.1 % from zero false positives takes 2 995, one-sided 95 %; docs: 368 at 1 %."""
    assert fewest_for_rate(0.001, confidence=0.9) == 2995
    assert fewest_for_rate(0.01) == 368
    assert fewest_for_rate(1.0) == 1


# ---------------------------------------------------------------------------------------------
# Halves
# ---------------------------------------------------------------------------------------------


@st.composite
def grouped_sides(draw):
    """Labels and documents, each document on one side."""
    sides = [draw(st.lists(st.integers(0, 6), min_size=1, max_size=25)) for _ in range(2)]
    groups = np.array(sides[0] + [20 - group for group in sides[1]])
    order = np.array(draw(st.permutations(range(len(groups)))))
    return (np.arange(len(groups)) < len(sides[0]))[order], groups[order]


@given(grouped_sides(), st.integers(0, 99))
def test_documents_stay_whole_and_half_of_each_side_is_tested(sides, seed):
    is_member, groups = sides
    is_second = split_in_halves(is_member, groups, np.random.default_rng(seed))
    second, first = set(groups[is_second]), set(groups[~is_second])
    assert not second & first
    for side in (is_member, ~is_member):
        documents = set(groups[side])
        assert len(documents & second) == len(documents) // 2


@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(0, 99))
def test_records_without_documents_are_halved_one_by_one(labels, seed):
    is_member = np.array(labels)
    is_second = split_in_halves(is_member, None, np.random.default_rng(seed))
    for side in (is_member, ~is_member):
        assert is_second[side].sum() == side.sum() // 2


def test_a_document_on_both_sides_stays_whole_too():
    is_member, groups = np.arange(40) % 2 == 0, np.arange(40) // 2
    is_second = split_in_halves(is_member, groups, np.random.default_rng(0))
    assert not set(groups[is_second]) & set(groups[~is_second])
    assert is_second.any()
    assert not is_second.all()


def test_every_record_is_tested_half_of_the_time():
    is_member = np.arange(30) < 12
    rng = np.random.default_rng(0)
    share = np.mean([split_in_halves(is_member, None, rng) for _ in range(2000)], axis=0)
    assert share == pytest.approx(np.full(30, 0.5), abs=0.05)  # 4.5 standard errors


# ---------------------------------------------------------------------------------------------
# The set as a whole
# ---------------------------------------------------------------------------------------------


def sample(rng, n_members: int, n_nonmembers: int, shift: float):
    is_member = np.arange(n_members + n_nonmembers) < n_members
    return rng.normal(size=len(is_member)) + shift * is_member, is_member


@pytest.mark.parametrize("shift", [-0.4, 0.0, 0.15, 0.4])
@pytest.mark.parametrize("ties", [False, True])
def test_the_set_test_agrees_with_scipy(shift, ties):
    rng = np.random.default_rng(3)
    values, is_member = sample(rng, 400, 300, shift)
    values = np.round(values) if ties else values
    is_second = split_in_halves(is_member, None, rng)
    found = set_test(values, is_member, is_second, None)
    members, nonmembers = values[is_second & is_member], values[is_second & ~is_member]
    expected = stats.mannwhitneyu(members, nonmembers, alternative="greater").pvalue
    assert stats.norm.isf(found.p_mann_whitney) == pytest.approx(stats.norm.isf(expected), rel=0.05, abs=0.05)
    welch = stats.ttest_ind(members, nonmembers, equal_var=False, alternative="greater").pvalue
    assert found.p_welch == pytest.approx(welch)
    assert found.n_to_detect == n_to_detect(auc(members, nonmembers))


def test_the_half_that_chose_has_no_say_and_missing_scores_none_either():
    rng = np.random.default_rng(4)
    values, is_member = sample(rng, 100, 120, 0.5)
    is_second = split_in_halves(is_member, None, rng)
    spoilt = np.where(is_second, values, rng.choice([NAN, INF, -1e9], len(values)))
    expected = set_test(values, is_member, is_second, None)
    assert set_test(spoilt, is_member, is_second, None)[1:] == expected[1:]
    more = np.append(values, [NAN] * 4), np.append(is_member, [True, False] * 2), np.append(is_second, [True] * 4)
    assert set_test(*more, None)[1:] == expected[1:]


def test_copies_within_a_document_add_no_evidence():
    """Each record ten times in a document of its own: the p-value stays, and ten times as many records are needed."""
    rng = np.random.default_rng(5)
    values, is_member = sample(rng, 60, 60, 0.45)
    everybody = np.ones(120, dtype=bool)
    plain = set_test(values, is_member, everybody, None)
    copied = set_test(np.repeat(values, 10), np.repeat(is_member, 10), np.ones(1200, bool), np.repeat(range(120), 10))
    assert copied.p_mann_whitney == pytest.approx(plain.p_mann_whitney)
    naive = set_test(np.repeat(values, 10), np.repeat(is_member, 10), np.ones(1200, bool), None)
    assert naive.p_mann_whitney < 1e-3 * plain.p_mann_whitney
    assert copied.n_to_detect == pytest.approx(10 * plain.n_to_detect, rel=0.05)


def test_welch_is_not_stated_of_records_that_come_in_documents():
    rng = np.random.default_rng(6)
    values, is_member = sample(rng, 40, 40, 1.0)
    found = set_test(values, is_member, np.ones(80, dtype=bool), np.arange(80) // 2)
    assert math.isnan(found.p_welch)
    assert found.p_mann_whitney < 0.01


@pytest.mark.parametrize("missing", [True, False])
def test_an_empty_side_tests_nothing(missing):
    values, is_member = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, False, False])
    values = np.where(is_member == missing, NAN, values)
    found = set_test(values, is_member, np.ones(4, dtype=bool), None)
    assert math.isnan(found.p_mann_whitney)
    assert math.isnan(found.p_welch)
    assert found.n_to_detect is None


def test_scores_that_are_all_the_same_tell_nothing():
    found = set_test(np.ones(20), np.arange(20) < 10, np.ones(20, dtype=bool), None)
    assert found.p_mann_whitney == 1
    assert math.isnan(found.p_welch)
    assert found.n_to_detect is None


def test_a_side_of_equal_scores_is_tested_without_a_warning():
    """As where most members share one score, such as a vote of 1."""
    values = np.concatenate([np.full(30, 1.1), np.linspace(0, 1.5, 30)])
    found = set_test(values, np.arange(60) < 30, np.ones(60, dtype=bool), None)
    spread = np.linspace(0, 1.5, 30).std(ddof=1) / math.sqrt(30)
    assert found.p_welch == pytest.approx(stats.t.sf((1.1 - 0.75) / spread, 29))


def test_an_infinite_score_is_ranked_but_has_no_mean():
    """A mean with an infinite term is no number; dropping the strongest members would state another one."""
    rng = np.random.default_rng(7)
    values, is_member = sample(rng, 40, 40, 1.0)
    values[:5] = INF
    found = set_test(values, is_member, np.ones(80, dtype=bool), None)
    above = (values[:40, None] > values[None, 40:]).mean()
    assert found.n_to_detect == n_to_detect(above)
    assert math.isnan(found.p_welch)


@pytest.mark.parametrize("clustered", [False, True])
def test_the_set_test_errs_at_its_level_on_sides_that_are_alike(clustered):
    """400 trials at 10 %: between 6 and 15 % with probability 0.998. Ignoring documents would err thrice as often."""
    rng = np.random.default_rng(8)
    is_member = np.arange(240) < 120
    groups = np.arange(240) // 6 if clustered else None
    p_values = np.empty(400)
    for trial in range(400):
        values = rng.normal(size=240) + (1.5 * rng.normal(size=40)[groups] if groups is not None else 0)
        is_second = split_in_halves(is_member, groups, rng)
        p_values[trial] = set_test(values, is_member, is_second, groups).p_mann_whitney
    assert 0.06 <= (p_values <= 0.1).mean() <= 0.15
    assert 0.4 <= (p_values <= 0.5).mean() <= 0.6
