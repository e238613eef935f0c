"""Which records are long enough, and what a model is given of them, against a slow, obvious loop."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.auditing.memorizing.beginnings import beginnings, is_long_enough
from loraudit.data import Encoded, cut_windows, encode, record_id
from loraudit.types import Message, Record, TokenTable

CHAT = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def table_of(encoded) -> TokenTable:
    """Evidence without its numbers: place i of a record is the prediction of its token i + 1."""
    lengths = [max(0, len(item.ids) - 1) for item in encoded]
    return TokenTable(
        columns={},
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        is_audited=np.concatenate([np.zeros(0, dtype=bool), *(item.is_audited[1:] for item in encoded)]).astype(bool),
        n_windows=np.ones(len(lengths), dtype=np.int64),
        status=["ok"] * len(lengths),
    )


def by_hand(item: Encoded, prefix: int, suffix: int, max_length: int) -> tuple[list[int], list[int]] | None:
    """What is given and what follows; None where the record is not long enough."""
    first_window = range(1, min(len(item.ids), max_length))  # the first token is never predicted
    audited = [place for place in range(1, len(item.ids)) if item.is_audited[place]]
    asked = audited[prefix : prefix + suffix]
    if len(asked) < suffix:
        return None
    if any(place not in first_window for place in asked):
        return None
    if any(later - earlier != 1 for earlier, later in itertools.pairwise(asked)):
        return None
    return item.ids[: asked[0]].tolist(), item.ids[asked].tolist()


def compare(encoded, prefix, suffix, max_length) -> list[bool]:
    expected = [by_hand(item, prefix, suffix, max_length) for item in encoded]
    found = is_long_enough(table_of(encoded), prefix, suffix, max_length)
    assert found.tolist() == [one is not None for one in expected]
    rows = np.flatnonzero(found).tolist()
    for begun in beginnings(encoded, rows, prefix, suffix):
        assert (begun.given.tolist(), begun.suffix.tolist()) == expected[begun.row]
        assert begun.prefix == prefix
    return found.tolist()


@given(
    st.lists(st.lists(st.booleans(), max_size=14), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(2, 16),
)
def test_any_masks_are_cut_as_by_hand(masks, prefix, suffix, max_length):
    encoded = [
        Encoded(np.arange(100 * row, 100 * row + len(mask), dtype=np.int32), np.array(mask, dtype=bool))
        for row, mask in enumerate(masks)
    ]
    compare(encoded, prefix, suffix, max_length)


@pytest.mark.parametrize(("n_tokens", "fits"), [(9, False), (10, True), (11, True), (12, True)])
def test_a_record_is_long_enough_from_prefix_and_suffix_on(n_tokens, fits):
    """The first token stands for nothing: it is never predicted."""
    item = Encoded(np.arange(n_tokens, dtype=np.int32), np.ones(n_tokens, dtype=bool))
    assert compare([item], 4, 5, 64) == [fits]


@pytest.mark.parametrize(("max_length", "fits"), [(9, False), (10, True), (11, True)])
def test_the_last_token_that_is_asked_for_must_stand_in_the_first_window(max_length, fits):
    item = Encoded(np.arange(40, dtype=np.int32), np.ones(40, dtype=bool))
    assert compare([item], 4, 5, max_length) == [fits]
    (first, *_) = cut_windows(40, max_length=max_length, stride=max_length // 2)
    assert (first.end > 9) == fits  # tokens 1 to 4 are the prefix, 5 to 9 the suffix


def recorded(**content) -> Record:
    return Record(record_id(**content), "rows", 1, **content)


def test_of_a_prompt_and_its_completion_the_prompt_is_given_whole(tokenizer, texts):
    record = recorded(prompt=texts[0][:30], completion=texts[0][30:90])
    (item,) = encode([record], tokenizer)
    assert compare([item], 3, 8, 64) == [True]
    (begun,) = beginnings([item], [0], 3, 8)
    n_before = int(np.flatnonzero(item.is_audited)[0])
    assert n_before > 5
    assert len(begun.given) == n_before + 3
    assert tokenizer.decode(begun.given, skip_special_tokens=True).startswith(texts[0][:30])


def test_a_suffix_that_reaches_from_one_turn_into_the_next_is_not_asked_for(tokenizer, texts):
    words = [text[:24] for text in texts[:4]]
    turns = tuple(Message(role, text) for role, text in zip(("user", "assistant") * 2, words, strict=True))
    before, tokenizer.chat_template = tokenizer.chat_template, CHAT
    try:
        (item,) = encode([recorded(messages=turns)], tokenizer)
    finally:
        tokenizer.chat_template = before
    audited = np.flatnonzero(item.is_audited)
    (breaks,) = np.nonzero(np.diff(audited) > 1)
    assert len(breaks) == 1
    n_first, n_all = int(breaks[0]) + 1, len(audited)
    for prefix in range(1, n_all):
        for suffix in range(1, n_all - prefix + 1):
            is_within = prefix + suffix <= n_first or prefix >= n_first
            assert compare([item], prefix, suffix, 1000) == [is_within]
    (second,) = beginnings([item], [0], n_first, 2)
    assert words[2] in tokenizer.decode(second.given)


def test_a_record_that_could_not_be_scored_is_not_asked_for():
    """Its places stand in the table, and nothing was found out about them."""
    table = table_of([Encoded(np.arange(12, dtype=np.int32), np.ones(12, dtype=bool))] * 4)
    table = replace(table, status=["ok", "out_of_memory", "nonfinite", "ok"])
    assert is_long_enough(table, 4, 5, 64).tolist() == [True, False, False, True]
