"""Rates and means over training runs, changes from the clean arm, collapse: numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loraudit.statistics import (
    CHANGE_OF_SHARE,
    Interval,
    collapsed,
    excess_change,
    mean_finding,
    mean_over_runs_of,
    rate_over_runs,
    wilson,
    without_collapsed,
)

NAN = math.nan


def some_hits(n_hits: int, n: int) -> np.ndarray:
    return (np.arange(n) < n_hits).astype(float)


# --- one run ---------------------------------------------------------------------------------


def test_wilson_of_three_in_ten():
    # z = 1.959964, z² = 3.841459; centre (.3 + 3.841459/20) / (1 + .3841459) = .4920729/1.3841459 = .3555065
    # half √(3.841459 · (.3 · .7/10 + 3.841459/400)) / 1.3841459 = √(3.841459 · .0306036) / 1.3841459
    #      = .3428730/1.3841459 = .2477145
    assert wilson(3, 10) == pytest.approx((0.1077920, 0.6032210), abs=1e-6)
    found = rate_over_runs(some_hits(3, 10)[None], confidence=0.95).finding
    assert (found.value, found.lower, found.upper) == pytest.approx((0.3, 0.1077920, 0.6032210), abs=1e-6)
    assert found.n_nonmembers == 10
    assert found.n_members == 0
    assert "One training run" in str(found.note)


def test_wilson_without_trials_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_none_of_hundred_has_a_one_sided_bound():
    # .05^(1/100) = e^(-2.995732/100) = .970487
    found = rate_over_runs(np.zeros((1, 100)), confidence=0.95).finding
    assert (found.value, found.lower) == (0.0, 0.0)
    assert found.upper == pytest.approx(0.029513, abs=1e-6)
    assert found.method == "exact one-sided bound for 0 of 100"


def test_all_of_hundred_mirrors_none():
    found = rate_over_runs(np.ones((1, 100)), confidence=0.95).finding
    assert (found.value, found.upper) == (1.0, 1.0)
    assert found.lower == pytest.approx(0.970487, abs=1e-6)


# --- several runs ----------------------------------------------------------------------------


def test_runs_without_a_hit_are_bounded_by_records_and_the_note_speaks_of_runs():
    found = rate_over_runs(np.zeros((3, 100)), confidence=0.95).finding
    assert (found.lower, found.upper) == pytest.approx((0.0, 0.029513), abs=1e-6)
    # 1 − .05^(1/3) = 1 − .368403 = 63 %
    assert "All 3 runs are without a single hit" in str(found.note)
    assert "63 % of all" in str(found.note)
    assert "without a single miss" in str(rate_over_runs(np.ones((3, 100)), confidence=0.95).finding.note)


def test_runs_that_agree_on_each_record_are_worth_one():
    hits = np.tile(some_hits(30, 100), (4, 1))
    found = rate_over_runs(hits, confidence=0.95).finding
    assert (found.lower, found.upper) == pytest.approx(wilson(30, 100))
    assert "as of 100 independent" in found.method


def test_runs_with_equal_rates_and_unequal_records_are_worth_their_sum():
    # Each record is hit in just two of four runs: its mean is ½ throughout, so nothing is left to vary over records,
    # and the most that 4 · 100 outcomes can be worth is 400.
    hits = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]).repeat(50, axis=1)
    hits[0, 0], hits[1, 0] = 1.0, 1.0
    hits[2, 0], hits[3, 0] = 0.0, 0.0
    found = rate_over_runs(hits, confidence=0.95).finding
    assert found.value == 0.5
    assert "as of 100 independent" in found.method  # no spread at all: nothing can be estimated
    hits[0, 1] = 0.0
    assert "as of 400 independent" in rate_over_runs(hits, confidence=0.95).finding.method


def test_runs_that_differ_widen_the_interval():
    hits = np.stack([some_hits(k, 100) for k in (10, 50, 90)])
    found = rate_over_runs(hits, confidence=0.95).finding
    assert found.value == pytest.approx(0.5)
    # Spread .4/√3 = .2309 on the logit scale .9238; t of 2 degrees 4.30: far beyond what 100 records say.
    assert found.lower < 0.05
    assert found.upper > 0.95
    assert "spread of 3 runs" in found.method


def test_an_extreme_rate_of_many_runs_stays_inside():
    hits = np.stack([some_hits(k, 1000) for k in (1000, 1000, 999, 1000, 1000)])
    found = rate_over_runs(hits, confidence=0.95).finding
    assert 0.9 < found.lower < found.value < found.upper < 1


def test_median_and_quartiles():
    runs = rate_over_runs(np.stack([some_hits(k, 10) for k in (1, 2, 4, 9)]), confidence=0.95)
    assert runs.per_run == pytest.approx((0.1, 0.2, 0.4, 0.9))
    assert runs.median == pytest.approx(0.3)
    assert runs.quartiles == pytest.approx((0.175, 0.525))  # a quarter of the way from .1 to .2, and from .9 to .4
    assert rate_over_runs(np.zeros((3, 10)), confidence=0.95).quartiles is None


# --- undefined -------------------------------------------------------------------------------


def test_a_record_that_one_run_does_not_define_is_left_out_and_counted():
    hits = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, NAN, 0.0]])
    runs = rate_over_runs(hits, confidence=0.95)
    assert runs.finding.value == pytest.approx(3 / 6)
    assert (runs.finding.n_nonmembers, runs.finding.n_undefined_nonmembers) == (3, 1)
    assert runs.per_run == pytest.approx((2 / 3, 1 / 3))


def test_a_run_that_defines_nothing_is_left_out_in_words():
    runs = rate_over_runs(np.stack([some_hits(5, 10), np.full(10, NAN), some_hits(5, 10)]), confidence=0.95)
    assert runs.finding.value == 0.5
    assert runs.finding.n_undefined_nonmembers == 0
    assert runs.per_run == (0.5, None, 0.5)
    assert "1 of 3 runs define nothing" in str(runs.finding.note)


@pytest.mark.parametrize("function", [rate_over_runs, mean_over_runs_of])
def test_nothing_defined_has_no_value(function):
    runs = function(np.full((2, 3), NAN), confidence=0.95)
    assert runs.finding.value is None
    assert (runs.finding.n_nonmembers, runs.finding.n_undefined_nonmembers) == (0, 3)
    assert "No record is defined in any run" in runs.finding.note
    assert (runs.per_run, runs.median, runs.quartiles) == ((None, None), None, None)
    apart = function(np.array([[1.0, NAN], [NAN, 1.0]]), confidence=0.95)
    assert "No record is defined in every run" in apart.finding.note


def test_hits_are_shares():
    with pytest.raises(ValueError, match=r"Hits hold a value outside \[0, 1\]"):
        rate_over_runs(np.array([[0.0, 1.5]]), confidence=0.95)


# --- means and changes -----------------------------------------------------------------------


def test_one_run_has_the_interval_of_a_mean_over_records():
    values = np.random.default_rng(0).normal(2, 1, 50)
    found = mean_over_runs_of(values[None], confidence=0.9).finding
    expected = mean_finding(values, confidence=0.9)
    assert (found.value, found.lower, found.upper) == pytest.approx((expected.value, expected.lower, expected.upper))


def test_means_keep_within_what_is_attainable():
    values = np.random.default_rng(0).random((3, 20)) / 10
    found = mean_over_runs_of(values, confidence=0.95, attainable=Interval(0.0, 1.0)).finding
    assert 0 <= found.lower < found.value < found.upper < 1


def test_what_seed_and_record_do_to_both_arms_cancels():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(4, 1)) + rng.normal(size=(1, 30))
    found = excess_change(clean + 0.25, clean, confidence=0.95)
    assert (found.value, found.lower, found.upper) == pytest.approx((0.25, 0.25, 0.25))
    assert found.method.endswith("paired by seed and record")


def test_a_change_of_nothing_still_has_an_interval_where_ends_are_known():
    found = excess_change(np.zeros((2, 50)), np.zeros((2, 50)), confidence=0.95, attainable=CHANGE_OF_SHARE)
    # 1 − .05^(1/50) = .058155
    assert (found.lower, found.upper) == pytest.approx((-0.058155, 0.058155), abs=1e-6)


def test_arms_of_other_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"poisoned arm of shape \(2, 3\) cannot be paired with a clean one of \(1, 3\)"
    ):
        excess_change(np.zeros((2, 3)), np.zeros((1, 3)), confidence=0.95)


# --- collapse --------------------------------------------------------------------------------


def test_one_class_is_collapsed_even_where_it_is_right():
    labels = np.array(["a"] * 99 + ["b"])
    assert collapsed(np.array(["a"] * 100), labels)
    assert collapsed(np.array(["b"] * 100), labels)


def test_better_than_the_commonest_class_is_a_sign_test():
    labels = np.repeat([0, 1], 50)  # the guess is 0 and right on the first half

    def run(n_lost: int, n_won: int) -> np.ndarray:
        return np.concatenate([np.arange(50) < n_lost, np.arange(50) < n_won]).astype(int)

    # 10 lost, 20 won: P(at least 20 of 30) = .0494; 19 of 29: .0680
    assert not collapsed(run(10, 20), labels)
    assert collapsed(run(10, 19), labels)
    assert not collapsed(run(10, 19), labels, confidence=0.9)
    assert collapsed(run(25, 25), labels)
    assert not collapsed(labels, labels)


def test_worse_than_the_commonest_class_is_collapsed():
    labels = np.repeat([0, 1, 2], [60, 20, 20])
    assert collapsed(np.roll(labels, 50), labels)


def test_predictions_need_labels():
    with pytest.raises(ValueError, match="2 predictions cannot be judged by 3 labels"):
        collapsed(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="at least one record"):
        collapsed(np.zeros(0), np.zeros(0))


def test_means_without_collapsed_runs():
    assert without_collapsed([0.9, 0.5, 0.7], [False, True, False]) == pytest.approx(0.8)
    assert without_collapsed([0.9, None], [True, False]) is None
