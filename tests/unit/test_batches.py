"""Batches and units hold every window once, within budget, the longest first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loraudit.data import cut_windows
from loraudit.scoring import Sequence, plan_batches, plan_units
from loraudit.scoring.batches import BATCHES_PER_UNIT, make_batch


@st.composite
def windows(draw):
    lengths = draw(st.lists(st.integers(2, 60), min_size=1, max_size=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [
        Sequence(rng.integers(0, 1000, length).astype(np.int32), draw(st.integers(1, length - 1))) for length in lengths
    ]


@given(windows(), st.integers(1, 300))
def test_every_window_is_in_one_batch(sequences, batch_tokens):
    batches = plan_batches(sequences, batch_tokens=batch_tokens)
    members = [member for batch in batches for member in batch.members]
    assert sorted(members) == list(range(len(sequences)))


@given(windows(), st.integers(1, 300))
def test_a_batch_keeps_to_the_budget_with_its_padding_unless_it_is_one_window(sequences, batch_tokens):
    for batch in plan_batches(sequences, batch_tokens=batch_tokens):
        assert batch.ids.size <= batch_tokens or len(batch.members) == 1


@given(windows(), st.integers(1, 300))
def test_the_longest_windows_come_first(sequences, batch_tokens):
    lengths = [n for batch in plan_batches(sequences, batch_tokens=batch_tokens) for n in batch.lengths.tolist()]
    assert lengths == sorted(lengths, reverse=True)


@given(windows(), st.integers(1, 300))
def test_a_batch_holds_its_windows_padded_on_the_right(sequences, batch_tokens):
    for batch in plan_batches(sequences, batch_tokens=batch_tokens):
        assert batch.ids.shape == (len(batch.members), batch.lengths.max())
        assert batch.ids.dtype == np.int64
        for row, member in enumerate(batch.members):
            length = batch.lengths[row]
            np.testing.assert_array_equal(batch.ids[row, :length], sequences[member].ids)
            assert not batch.ids[row, length:].any()


@given(windows(), st.integers(1, 300))
def test_kept_predictions_are_those_of_the_new_tokens_made_one_position_before(sequences, batch_tokens):
    for batch in plan_batches(sequences, batch_tokens=batch_tokens):
        expected = [
            (row, position - 1, int(sequences[member].ids[position]))
            for row, member in enumerate(batch.members)
            for position in range(sequences[member].first_new, len(sequences[member].ids))
        ]
        found = list(zip(batch.rows.tolist(), batch.columns.tolist(), batch.gold.tolist(), strict=True))
        assert found == expected
        assert (batch.columns < batch.lengths[batch.rows] - 1).all()


@given(windows())
def test_half_a_batch_is_a_batch_of_its_own(sequences):
    order = list(range(len(sequences)))[::-1]
    batch = make_batch(sequences, order)
    assert batch.members == order
    assert batch.lengths.tolist() == [len(sequences[i].ids) for i in order]


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 100))
def test_every_record_is_in_one_unit_of_at_most_so_many_tokens(lengths, batch_tokens):
    units = plan_units(lengths, batch_tokens=batch_tokens)
    assert sorted(position for unit in units for position in unit) == list(range(len(lengths)))
    assert all(units)
    for unit in units:
        assert sum(lengths[i] for i in unit) <= BATCHES_PER_UNIT * batch_tokens or len(unit) == 1


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 100))
def test_units_run_from_the_longest_record_to_the_shortest_and_keep_the_order_of_equals(lengths, batch_tokens):
    order = [position for unit in plan_units(lengths, batch_tokens=batch_tokens) for position in unit]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


@given(st.lists(st.integers(2, 200), min_size=1, max_size=20), st.integers(2, 40), st.data())
def test_the_windows_of_a_record_predict_each_of_its_tokens_once(lengths, max_length, data):
    stride = data.draw(st.integers(1, max_length - 1))
    for length in lengths:
        predicted = [
            w.start + column + 1
            for w in cut_windows(length, max_length=max_length, stride=stride)
            for column in make_batch([Sequence(np.arange(w.end - w.start), w.first_new - w.start)], [0]).columns
        ]
        assert predicted == list(range(1, length))
