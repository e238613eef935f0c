"""Passages that a text shares with documents: the index against the loops that define them."""

import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loraudit.errors import ConfigError
from loraudit.memorization.attribution import SpanIndex
from loraudit.memorization.attribution import spans as spans_module

# NUL, the last character of the first plane, a lone surrogate, an emoji, a letter and an accent on it.
ODD = "a\x00\uffff\ud800😀e\u0301"


def texts(alphabet, *, max_size=24):
    return st.lists(st.text(alphabet=alphabet, max_size=max_size), max_size=6)


def by_definition(text, documents, min_characters):
    """{(start, end): {document: first start}} of passages that no longer passage of the text contains."""
    shared = {}
    for start in range(len(text)):
        for end in range(start + min_characters, len(text) + 1):
            homes = {i: d.find(text[start:end]) for i, d in enumerate(documents) if text[start:end] in d}
            if homes:
                shared[start, end] = homes
    return {
        (start, end): homes
        for (start, end), homes in shared.items()
        if not any((a, b) != (start, end) and a <= start and end <= b for a, b in shared)
    }


def found_in(index, some):
    return [
        {span.here: dict(zip(span.documents.tolist(), span.starts.tolist(), strict=True)) for span in spans}
        for spans in index.find(some)
    ]


alphabets = st.sampled_from(["a", "ab", "abc", ODD])


@settings(deadline=None)
@given(alphabets.flatmap(lambda a: st.tuples(texts(a), texts(a))), st.integers(1, 9))
@example((["aaaaaaaa"], ["aaaaaaaaaaaaaaaa", "aaaa", "", "aaaa"]), 3)
@example((["ab"], ["a", "b", "ab"[:1] + "\x00"]), 2)
@example((["", "abcabcabc"], ["abcabcabcabc", "cabcab"]), 4)
def test_every_shared_passage_is_found_and_nothing_else(given_texts, min_characters):
    some, documents = given_texts
    index = SpanIndex.of(documents, min_characters=min_characters)
    assert found_in(index, some) == [by_definition(text, documents, min_characters) for text in some]


@settings(deadline=None)
@given(alphabets.flatmap(lambda a: st.tuples(texts(a), texts(a))), st.integers(1, 6))
def test_a_text_is_answered_alike_in_any_company(given_texts, min_characters):
    some, documents = given_texts
    index = SpanIndex.of(documents, min_characters=min_characters)
    assert found_in(index, some) == [found_in(index, [text])[0] for text in some]
    assert found_in(index, some[::-1]) == found_in(index, some)[::-1]


@settings(deadline=None)
@given(alphabets.flatmap(lambda a: st.tuples(texts(a), texts(a))), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_order_of_documents_changes_their_numbers_only(given_texts, min_characters, random):
    some, documents = given_texts
    order = list(range(len(documents)))
    random.shuffle(order)
    renumbered = found_in(SpanIndex.of([documents[i] for i in order], min_characters=min_characters), some)
    original = [{here: {order[i]: at for i, at in homes.items()} for here, homes in one.items()} for one in renumbered]
    assert original == found_in(SpanIndex.of(documents, min_characters=min_characters), some)


@settings(deadline=None)
@given(alphabets.flatmap(lambda a: st.tuples(texts(a), texts(a))), st.integers(1, 6))
def test_work_cut_into_small_pieces_gives_the_same(given_texts, min_characters):
    some, documents = given_texts
    whole = found_in(SpanIndex.of(documents, min_characters=min_characters), some)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_SAMPLES_AT_ONCE", "_PAIRS_AT_ONCE", "_KEPT_BEFORE_REDUCING", "_COMPARED_AT_ONCE"):
            patch.setattr(spans_module, name, 3)
        assert found_in(SpanIndex.of(documents, min_characters=min_characters), some) == whole


@settings(deadline=None)
@given(texts("ab"), texts("ab"), st.integers(1, 5))
def test_colliding_hashes_are_not_believed(some, documents, min_characters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans_module, "_MIX", np.uint64(0))
        index = SpanIndex.of(documents, min_characters=min_characters)
        assert len(np.unique(index.hashes)) <= 1
        assert found_in(index, some) == [by_definition(text, documents, min_characters) for text in some]


@pytest.mark.parametrize("min_characters", [10, 30, 31, 50])
def test_a_passage_of_the_shortest_length_is_found_wherever_it_begins(min_characters):
    rng = np.random.default_rng(0)
    document = "".join(rng.choice(list("abcdefghij"), 300))
    index = SpanIndex.of([document], min_characters=min_characters)
    starts = range(len(document) - min_characters + 1)
    planted = ["?" + document[start : start + min_characters] + "!" for start in starts]
    assert found_in(index, planted) == [{(1, 1 + min_characters): {0: document.find(text[1:-1])}} for text in planted]
    too_short = [document[start : start + min_characters - 1] for start in starts]
    assert found_in(index, too_short) == [{} for _ in starts]


def test_a_passage_does_not_cross_from_one_document_to_the_next():
    documents = ["the first half of a sentence ", "and its second half elsewhere"]
    index = SpanIndex.of(documents, min_characters=20)
    (spans,) = index.find(["".join(documents)])
    assert [(span.here, span.documents.tolist()) for span in spans] == [((0, 29), [0]), ((29, 58), [1])]


def test_offsets_count_characters_as_python_does():
    source = "vor dem Wort: 😀😀 Gru\u0308\u00dfe aus dem Tal \U0010ffff Ende"
    text = "\ud83dx" + source[14:40] + "!"
    (spans,) = SpanIndex.of([source], min_characters=12).find([text])
    assert [(span.here, span.starts.tolist()) for span in spans] == [((2, 28), [14])]


@pytest.mark.parametrize(("widest", "n_bytes"), [("z", 1), ("ÿ", 1), ("Ā", 2), ("\uffff", 2), ("😀", 4)])
def test_characters_take_no_more_room_than_they_need(widest, n_bytes):
    assert SpanIndex.of(["plain", "", widest], min_characters=3).characters.codes.itemsize == n_bytes


def test_a_long_repeat_costs_time_but_no_memory_and_is_whole():
    """4 000 × 4 000 / 11 pairs of places, of one passage."""
    index = SpanIndex.of(["a" * 4000, "a" * 50], min_characters=30)
    (spans,) = index.find(["a" * 3000])
    assert [(span.here, span.documents.tolist(), span.starts.tolist()) for span in spans] == [((0, 3000), [0], [0])]


def test_memory_is_about_two_bytes_per_character_of_plain_text():
    document = "".join(np.random.default_rng(1).choice(list("abcdefghij "), 100_000))
    index = SpanIndex.of([document], min_characters=30)
    assert index.n_bytes / len(document) < 2.2
    assert sys.getsizeof(document) == pytest.approx(len(document), rel=0.01)


@pytest.mark.parametrize("min_characters", [0, -5])
def test_no_passage_is_shorter_than_one_character(min_characters):
    with pytest.raises(ConfigError, match=rf"min_characters {min_characters} holds no passage\. Expected at least 1"):
        SpanIndex.of(["text"], min_characters=min_characters)
