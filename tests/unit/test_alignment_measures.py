"""PAN's measures on examples worked by hand (Potthast et al. 2010)."""

import math

import pytest

from loraudit.memorization.plagiarism.measures import Passages, joined, measure_detections

CASE = Passages((0, 100), (0, 100))


def test_a_perfect_detection_scores_one():
    found = measure_detections([CASE], [CASE])
    assert (found.precision, found.recall, found.granularity, found.plagdet) == (1, 1, 1, 1)
    assert (found.n_cases, found.n_detections) == (1, 1)


def test_two_overlapping_detections_of_one_case_are_counted_once_and_cost_granularity():
    halves = [Passages((0, 60), (0, 60)), Passages((40, 80), (40, 80))]
    found = measure_detections([CASE], halves)
    assert found.precision == 1
    assert found.recall == pytest.approx(160 / 200)
    assert found.granularity == 2
    assert found.plagdet == pytest.approx(2 * 0.8 / 1.8 / math.log2(3))


def test_means_are_over_passages_not_characters():
    short = Passages((200, 210), (200, 210))
    found = measure_detections([CASE, short], [Passages((0, 50), (0, 100)), Passages((500, 900), (500, 900))])
    assert found.recall == pytest.approx((150 / 200 + 0) / 2)
    assert found.precision == pytest.approx((1 + 0) / 2)
    assert found.granularity == 1
    assert found.plagdet == pytest.approx(2 * 0.375 * 0.5 / 0.875)


def test_a_detection_must_meet_the_case_on_both_sides_and_in_the_same_pair():
    wrong = [Passages((0, 100), (100, 200)), Passages((0, 100), (0, 100), pair=1)]
    found = measure_detections([CASE], wrong)
    assert (found.precision, found.recall, found.granularity, found.plagdet) == (0, 0, 1, 0)


def test_one_detection_over_two_cases_has_the_precision_of_both_together():
    cases = [Passages((0, 10), (0, 10)), Passages((20, 30), (20, 30))]
    found = measure_detections(cases, [Passages((0, 40), (0, 40))])
    assert found.precision == pytest.approx(40 / 80)
    assert found.recall == 1
    assert found.granularity == 1


def test_without_cases_recall_and_plagdet_are_undefined_and_without_detections_precision():
    none = measure_detections([], [CASE])
    assert none.precision == 0
    assert math.isnan(none.recall)
    assert math.isnan(none.plagdet)
    silent = measure_detections([CASE], [])
    assert math.isnan(silent.precision)
    assert (silent.recall, silent.plagdet, silent.granularity) == (0, 0, 1)


def test_detections_are_joined_only_where_both_sides_are_near():
    detections = [
        Passages((0, 5), (0, 5)),
        Passages((8, 12), (7, 12)),
        Passages((14, 20), (90, 99)),
        Passages((0, 5), (0, 5), pair=1),
    ]
    assert joined(detections, gap=3) == [
        Passages((0, 12), (0, 12)),
        Passages((14, 20), (90, 99)),
        Passages((0, 5), (0, 5), pair=1),
    ]
