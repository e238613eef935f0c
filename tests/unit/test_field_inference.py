"""Ranks of true values among candidates, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loraudit.errors import ConfigError
from loraudit.memorization import rank_candidates, top_k_accuracy
from loraudit.statistics import clopper_pearson

NAN = math.nan

FIELDS = [
    ([-9.0, -1.0, -2.0], 1),  # the likeliest of three
    ([-1.0, -2.0, -3.0, -4.0], 3),  # the last of four
    ([-5.0, -5.0], 0),  # tied with the only other
    ([-1.0, NAN], 0),  # its rival has no number
    ([NAN, -1.0], 0),  # it has none itself
    ([-7.0], 0),  # there is no other
]


@pytest.fixture
def found():
    return rank_candidates(
        np.array([value for values, _ in FIELDS for value in values]),
        np.cumsum([0, *(len(values) for values, _ in FIELDS)]),
        np.array([index for _, index in FIELDS]),
    )


def test_six_fields_worked_by_hand(found):
    assert found.ranks.tolist() == pytest.approx([1, 4, 1.5, 2, NAN, 1], nan_ok=True)
    assert found.last_ranks.tolist() == pytest.approx([1, 4, 2, 2, NAN, 1], nan_ok=True)
    assert found.n_candidates.tolist() == [3, 4, 2, 2, 2, 1]
    bits = [math.log2(3), 0, 1 - math.log2(1.5), 0, NAN, 0]
    assert found.bits.tolist() == pytest.approx(bits, nan_ok=True)


def test_accuracy_stands_beside_chance(found):
    first = top_k_accuracy(found, 1, confidence=0.95)
    assert first.finding.value == 2 / 5
    assert (first.finding.lower, first.finding.upper) == pytest.approx(clopper_pearson(2, 5))
    assert (first.finding.n_members, first.finding.n_undefined_members) == (5, 1)
    assert first.chance == pytest.approx((1 / 3 + 1 / 4 + 1 / 2 + 1 / 2 + 1) / 5)
    second = top_k_accuracy(found, 2, confidence=0.95)
    assert second.finding.value == 4 / 5
    assert second.chance == pytest.approx((2 / 3 + 2 / 4 + 1 + 1 + 1) / 5)
    assert top_k_accuracy(found, 4, confidence=0.95).finding.value == 1


def test_fields_of_one_person_are_not_independent(found):
    people = np.array([0, 1, 1, 1, 0, 0])  # both fields of the first are found, none of the second's
    accuracy = top_k_accuracy(found, 1, confidence=0.95, groups=people)
    assert accuracy.finding.method == "Clopper-Pearson, as of 2 independent records"


def test_a_model_that_cannot_tell_candidates_apart_is_not_credited():
    alike = rank_candidates(np.zeros(20), np.array([0, 10, 20]), np.array([0, 9]))
    assert alike.ranks.tolist() == [5.5, 5.5]
    assert top_k_accuracy(alike, 9, confidence=0.95).finding.value == 0
    assert top_k_accuracy(alike, 10, confidence=0.95).finding.value == 1


def test_longer_candidates_start_lower_unless_token_counts_are_given():
    log_probs, offsets, index = np.array([-6.0, -4.0]), np.array([0, 2]), np.array([0])
    assert rank_candidates(log_probs, offsets, index).ranks.tolist() == [2]
    assert rank_candidates(log_probs, offsets, index, n_tokens=np.array([3, 1])).ranks.tolist() == [1]


def test_no_fields_have_no_accuracy():
    none = rank_candidates(np.zeros(0), np.array([0]), np.zeros(0, dtype=int))
    accuracy = top_k_accuracy(none, 1, confidence=0.95)
    assert accuracy.finding.value is None
    assert math.isnan(accuracy.chance)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_true_value_that_is_no_candidate_is_refused(index):
    message = rf"True index {index} of field 1 names none of its 2 candidates.*; 1 of 2 fields are wrong\."
    with pytest.raises(ConfigError, match=message):
        rank_candidates(np.zeros(5), np.array([0, 3, 5]), np.array([2, index]))


def test_a_k_below_one_is_refused(found):
    with pytest.raises(ConfigError, match=r"k 0 is out of range\. Expected 1 or more\."):
        top_k_accuracy(found, 0, confidence=0.95)
