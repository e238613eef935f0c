"""Means over records: the value, what the interval holds, and what it says of a sample without spread."""

import numpy as np
import pytest
from scipy import stats

from loraudit.statistics import Interval, mean_difference, mean_finding

SHARE = Interval(0.0, 1.0)


def test_without_groups_it_is_students_t():
    values = np.random.default_rng(0).normal(3, 2, 40)
    found = mean_finding(values, confidence=0.9)
    expected = stats.t.interval(0.9, 39, values.mean(), stats.sem(values))
    assert (found.value, found.lower, found.upper) == pytest.approx((values.mean(), *expected))
    assert (found.n_members, found.n_nonmembers) == (40, 0)


def test_all_zeros_have_the_exact_upper_bound():
    found = mean_finding(np.zeros(60), confidence=0.95, attainable=SHARE)
    assert (found.value, found.lower) == (0.0, 0.0)
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / 60))


def test_all_ones_mirror_all_zeros():
    found = mean_finding(np.ones(60), confidence=0.95, attainable=SHARE)
    assert (found.lower, found.upper) == pytest.approx((0.05 ** (1 / 60), 1.0))


def test_undefined_values_are_counted_on_their_side():
    values = np.array([0.2, np.nan, 0.4, np.nan, np.nan])
    found = mean_finding(values, confidence=0.95)
    assert found.value == pytest.approx(0.3)
    assert (found.n_members, found.n_undefined_members, found.n_nonmembers) == (2, 3, 0)
    found = mean_finding(values, confidence=0.95, are_members=False)
    assert (found.n_nonmembers, found.n_undefined_nonmembers, found.n_members) == (2, 3, 0)


def test_nothing_defined_has_no_value():
    found = mean_finding(np.full(3, np.nan), confidence=0.95, attainable=SHARE)
    assert (found.value, found.lower, found.upper) == (None, None, None)
    assert found.note == "No record defines it."


def test_one_document_has_a_value_and_no_interval():
    found = mean_finding(np.array([1.0, 2.0]), groups=np.zeros(2, dtype=int), confidence=0.95)
    assert (found.value, found.lower, found.upper) == (1.5, None, None)
    assert found.note == "A single document says nothing of others."


def test_records_of_one_document_are_worth_one():
    rng = np.random.default_rng(1)
    of_document = rng.normal(size=30)
    alone = mean_finding(of_document, confidence=0.95)
    repeated = mean_finding(np.repeat(of_document, 4), groups=np.repeat(np.arange(30), 4), confidence=0.95)
    assert (repeated.value, repeated.lower, repeated.upper) == pytest.approx((alone.value, alone.lower, alone.upper))


@pytest.mark.parametrize("share", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("n", [30, 300])
def test_intervals_of_rare_large_values_hold_the_mean(share, n):
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        values = np.where(rng.random(n) < share, rng.random(n), 0.0)
        found = mean_finding(values, confidence=0.95, attainable=SHARE)
        held += found.lower <= share / 2 <= found.upper
    assert held / 400 >= 0.9


# --- differences of means -------------------------------------------------------------------------------


def test_a_difference_of_means_is_welchs():
    rng = np.random.default_rng(4)
    first, second = rng.normal(1, 2, 30), rng.normal(0, 1, 50)
    found = mean_difference(first, np.append(second, np.nan), confidence=0.9)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high))
    assert (found.n_members, found.n_nonmembers, found.n_undefined_nonmembers) == (30, 50, 1)


def test_a_difference_of_means_takes_documents_whole():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=20), rng.normal(size=15)
    alone = mean_difference(first, second, confidence=0.95)
    repeated = mean_difference(
        np.repeat(first, 3),
        np.repeat(second, 2),
        confidence=0.95,
        first_groups=np.repeat(np.arange(20), 3),
        second_groups=np.repeat(np.arange(15), 2),
    )
    assert (repeated.value, repeated.lower, repeated.upper) == pytest.approx((alone.value, alone.lower, alone.upper))


def test_a_difference_of_means_without_a_spread_or_a_side():
    same = mean_difference(np.ones(3), np.zeros(4), confidence=0.95)
    assert (same.value, same.lower, same.upper) == (1.0, 1.0, 1.0)
    one = mean_difference(np.ones(1), np.zeros(4), confidence=0.95)
    assert (one.value, one.lower) == (1.0, None)
    assert one.note == "A single document says nothing of others."
    none = mean_difference(np.full(2, np.nan), np.zeros(4), confidence=0.95)
    assert (none.value, none.note) == (None, "A side has no record that defines it.")
