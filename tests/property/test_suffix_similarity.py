"""Measures of likeness of two suffixes: against the loops that define them and values worked by hand."""

import math
from collections import Counter
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.memorization.similarity import (
    bleu,
    edit_similarity,
    rouge_l,
)

MEASURES = (edit_similarity, rouge_l, bleu)
tokens = st.lists(st.integers(0, 3), max_size=10)


def distance(a, b):
    @lru_cache(None)
    def d(i, j):
        if 0 in {i, j}:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def subsequence(a, b):
    @lru_cache(None)
    def d(i, j):
        if 0 in {i, j}:
            return 0
        return d(i - 1, j - 1) + 1 if a[i - 1] == b[j - 1] else max(d(i - 1, j), d(i, j - 1))

    return d(len(a), len(b))


@given(tokens, tokens)
def test_measures_match_their_definitions(generated, true):
    if not true:
        assert math.isnan(edit_similarity(generated, true))
        assert math.isnan(rouge_l(generated, true))
        return
    assert edit_similarity(generated, true) == pytest.approx(
        1 - distance(generated, true) / max(len(generated), len(true))
    )
    assert rouge_l(generated, true) == pytest.approx(2 * subsequence(generated, true) / (len(generated) + len(true)))


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), min_size=4, max_size=12))
def test_bleu_matches_its_definition(generated, true):
    precisions = []
    for n in range(1, 5):
        made = Counter(tuple(generated[i : i + n]) for i in range(len(generated) - n + 1))
        wanted = Counter(tuple(true[i : i + n]) for i in range(len(true) - n + 1))
        n_made = max(1, len(generated) - n + 1)
        precisions.append(sum(min(count, wanted[gram]) for gram, count in made.items()) / n_made)
    penalty = 1.0 if len(generated) > len(true) else math.exp(1 - len(true) / max(1, len(generated)))
    assert bleu(generated, true) == pytest.approx(penalty * math.prod(precisions) ** 0.25)


def test_bleu_worked_by_hand():
    """6/7, 5/6, 4/5 and 3/4 of the n-grams, product 3/7; five words of six are all right, at a penalty exp(-1/5)."""
    true = ["the", "cat", "sat", "on", "the", "mat"]
    assert bleu([*true, "today"], true) == pytest.approx((3 / 7) ** 0.25)
    assert bleu(true[:5], true) == pytest.approx(math.exp(-1 / 5))
    assert bleu(["the", "the", "the", "the", "the", "the", "the"], true) == 0


@given(st.lists(st.integers(0, 3), min_size=4, max_size=12))
def test_a_suffix_is_like_itself(true):
    assert [measure(true, true) for measure in MEASURES] == [1.0, 1.0, pytest.approx(1.0)]


def test_nothing_generated_is_unlike_and_nothing_true_is_undefined():
    assert [measure([], [1, 2, 3, 4]) for measure in MEASURES] == [0.0, 0.0, 0.0]
    assert [math.isnan(measure([1, 2], [])) for measure in MEASURES] == [True] * 3
    assert math.isnan(bleu([1, 2, 3], [1, 2, 3]))


def test_texts_are_compared_by_characters_and_words_by_words():
    assert edit_similarity("kitten", "sitting") == pytest.approx(4 / 7)
    assert edit_similarity(["a", "b", "c"], ["a", "x", "c"]) == pytest.approx(2 / 3)
    assert rouge_l(["police", "kill", "the", "gunman"], ["police", "killed", "the", "gunman"]) == 0.75
