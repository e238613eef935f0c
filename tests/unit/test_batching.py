"""Which prompts go together: what costs least of all ways to cut them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from loraudit.generation.batching import _CALL_IN_ROWS, plan_batches


def cost(batches, lengths, new_tokens):
    total = 0
    for batch in batches:
        own = [lengths[place] for place in batch]
        total += (new_tokens + max(own) - min(own)) * (_CALL_IN_ROWS + len(batch))
    return total


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 5), st.integers(1, 30))
def test_no_other_way_to_cut_prompts_by_length_costs_less(lengths, size, new_tokens):
    found = plan_batches(lengths, size=size, new_tokens=new_tokens)
    assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in found)
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    ways = []
    for cuts in itertools.product([False, True], repeat=len(order) - 1):
        ends = [i + 1 for i, is_cut in enumerate(cuts) if is_cut]
        way = [order[a:b] for a, b in itertools.pairwise([0, *ends, len(order)])]
        if all(len(batch) <= size for batch in way):
            ways.append(cost(way, lengths, new_tokens))
    assert cost(found, lengths, new_tokens) == min(ways)


def test_no_prompts_make_no_batch():
    assert plan_batches([], size=4, new_tokens=3) == []


def test_prompts_of_a_few_lengths_keep_to_their_own():
    lengths = [16, 32, 50, 100] * 64
    found = plan_batches(lengths, size=64, new_tokens=50)
    assert [{lengths[place] for place in batch} for batch in found] == [{100}, {50}, {32}, {16}]


def test_single_prompts_of_near_lengths_join():
    assert plan_batches([20, 22, 21, 24], size=64, new_tokens=50) == [[3, 1, 2, 0]]
