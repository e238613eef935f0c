"""Candidates for a rank are what their definition says, drawn from any set of fields."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.errors import ConfigError
from loraudit.memorization.personal import PersonalField, all_candidates, candidates_for, normalised

FIELDS = st.builds(
    lambda kind, value: PersonalField(kind, (0, len(value)), value),
    st.sampled_from(["email", "person"]),
    st.sampled_from(["a", "A", "b", "B", "c", "d", "D", "e f", "E  F"]),
)


def keys(kind, values):
    return [normalised(kind, value) for value in values]


@given(FIELDS, st.lists(FIELDS, max_size=12), st.integers(2, 8), st.integers(0, 99))
def test_candidates_are_distinct_other_values_of_the_kind_and_as_many_as_there_are(field, others, n, seed):
    drawn = candidates_for(field, others, n_candidates=n, rng=np.random.default_rng(seed))
    possible = {one.key for one in others if one.kind == field.kind} - {field.key}
    assert len(drawn) == min(n - 1, len(possible))
    assert len(set(keys(field.kind, drawn))) == len(drawn)
    assert set(keys(field.kind, drawn)) <= possible
    assert set(drawn) <= {one.value for one in others if one.kind == field.kind}


@given(FIELDS, st.lists(FIELDS, max_size=12), st.integers(2, 8), st.randoms())
def test_the_order_and_number_of_repeats_of_the_others_change_nothing(field, others, n, random):
    shuffled = others + others[:3]
    random.shuffle(shuffled)
    one, other = (
        candidates_for(field, fields, n_candidates=n, rng=np.random.default_rng(5)) for fields in (others, shuffled)
    )
    assert one == other


@given(st.lists(FIELDS, max_size=12), st.integers(2, 8), st.integers(0, 99))
def test_drawing_for_all_at_once_is_drawing_for_one_after_the_other(fields, n, seed):
    rng = np.random.default_rng(seed)
    slowly = [candidates_for(field, fields, n_candidates=n, rng=rng) for field in fields]
    assert all_candidates(fields, n_candidates=n, rng=np.random.default_rng(seed)) == slowly


def test_every_other_value_is_drawn_equally_often():
    others = [PersonalField("person", (0, 1), name) for name in "abcdef"]
    rng = np.random.default_rng(0)
    drawn = [name for _ in range(2000) for name in candidates_for(others[2], others, n_candidates=3, rng=rng)]
    counts = [drawn.count(name) for name in "abdef"]
    assert sum(counts) == 4000
    assert max(abs(count - 800) for count in counts) < 5 * np.sqrt(2000 * 0.4 * 0.6)


def test_fewer_than_two_candidates_are_refused():
    field = PersonalField("person", (0, 1), "a")
    with pytest.raises(ConfigError, match=r"Number of candidates 1 leaves no choice. Expected at least 2"):
        candidates_for(field, [], n_candidates=1, rng=np.random.default_rng(0))
