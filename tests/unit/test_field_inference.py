"""Ranks of true values among candidates, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loraudit.errors import ConfigError
from loraudit.memorization import rank_candidates

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


def test_a_model_that_cannot_tell_candidates_apart_is_not_credited():
    alike = rank_candidates(np.zeros(20), np.array([0, 10, 20]), np.array([0, 9]))
    assert alike.ranks.tolist() == [5.5, 5.5]
    assert alike.last_ranks.tolist() == [10, 10]


def test_longer_candidates_start_lower():
    log_probs, offsets, index = np.array([-6.0, -4.0]), np.array([0, 2]), np.array([0])
    assert rank_candidates(log_probs, offsets, index).ranks.tolist() == [2]


def test_no_fields_have_no_ranks():
    none = rank_candidates(np.zeros(0), np.array([0]), np.zeros(0, dtype=int))
    assert [len(values) for values in none] == [0, 0, 0, 0]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_true_value_that_is_no_candidate_is_refused(index):
    message = rf"True index {index} of field 1 names none of its 2 candidates.*; 1 of 2 fields are wrong\."
    with pytest.raises(ConfigError, match=message):
        rank_candidates(np.zeros(5), np.array([0, 3, 5]), np.array([2, index]))
