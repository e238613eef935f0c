"""Texts as numbers: hashes stand for the words they were made of, and shared text is found as by a slow search."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.synthetic import private_records
from loraudit.validity.overlap import MOSTLY_SHARED, NEAR_DUPLICATE, NGRAM_WORDS, measure_overlap
from loraudit.validity.words import Words, count_matrix

# ---------------------------------------------------------------------------------------------
# The definitions: words one character after the other, sequences as tuples
# ---------------------------------------------------------------------------------------------


def slow_words(text: str) -> list[str]:
    """Runs of letters, runs of digits, and every other mark alone; spaces part."""
    words: list[str] = []
    last = ""
    for character in text.lower():
        if character.isdecimal():
            kind = "digit"
        elif character.isalnum():
            kind = "letter"
        else:
            kind = "" if character.isspace() else "mark"
        if kind in {"digit", "letter"} and kind == last:
            words[-1] += character
        elif kind:
            words.append(character)
        last = kind
    return words


def slow_ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = slow_words(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def slow_similarity(first: str, second: str) -> float:
    """Jaccard of the sets of word triples; 0 where both are empty."""
    one, two = set(slow_ngrams(first, 3)), set(slow_ngrams(second, 3))
    return len(one & two) / len(one | two) if one | two else 0.0


def overlap(members, nonmembers, seed: int = 0):
    is_member = np.arange(len(members) + len(nonmembers)) < len(members)
    return measure_overlap(Words.of([*members, *nonmembers]), is_member, rng=np.random.default_rng(seed))


few_words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=14).map(" ".join)
any_text = st.one_of(
    st.text(max_size=30), st.text(alphabet="aB3_é,.-½² \n²٣漢हि", max_size=40), st.sampled_from(["", " ", "ab1", "x"])
)

# ---------------------------------------------------------------------------------------------
# Words and their sequences
# ---------------------------------------------------------------------------------------------


@given(st.lists(any_text, max_size=6))
def test_equal_words_have_equal_numbers_and_others_have_not(texts):
    words = Words.of(texts)
    expected = [slow_words(text) for text in texts]
    assert len(words) == len(texts)
    assert np.diff(words.offsets).tolist() == [len(row) for row in expected]
    pairs = set(zip((word for row in expected for word in row), words.numbers.tolist(), strict=True))
    assert len(pairs) == len({word for word, _ in pairs}) == len({number for _, number in pairs})


@given(st.lists(st.one_of(few_words, any_text), max_size=6), st.integers(1, 8))
def test_equal_sequences_have_equal_hashes_and_others_have_not(texts, n):
    found = Words.of(texts).ngrams(n)
    expected = [slow_ngrams(text, n) for text in texts]
    assert np.diff(found.offsets).tolist() == [len(row) for row in expected]
    pairs = set()
    for row, sequences in enumerate(expected):
        pairs |= set(zip(sequences, found.of(row).tolist(), strict=True))
    assert len(pairs) == len({sequence for sequence, _ in pairs}) == len({value for _, value in pairs})


def test_hashes_of_real_text_do_not_collide():
    texts = private_records(150, seed=3)
    for n in (1, 2, 3, 7):
        expected = {sequence for text in texts for sequence in slow_ngrams(text, n)}
        assert len(np.unique(Words.of(texts).ngrams(n).hashes)) == len(expected)


def test_sequences_of_different_lengths_are_not_taken_for_each_other():
    words = Words.of(private_records(50, seed=4))
    together = np.concatenate([np.unique(words.ngrams(n).hashes) for n in (1, 2, 3)])
    assert len(np.unique(together)) == len(together)


def test_case_and_space_do_not_make_another_word_but_marks_do():
    words = Words.of(["The  CAT\n\tsat", "the cat sat", "the cat, sat"])
    assert words.ngrams(3).of(0).tolist() == words.ngrams(3).of(1).tolist()
    assert len(words.ngrams(3).of(2)) == 2
    assert not set(words.ngrams(3).of(1).tolist()) & set(words.ngrams(3).of(2).tolist())


def test_order_matters_within_a_sequence():
    words = Words.of(["to be or", "or be to"])
    assert words.ngrams(3).of(0).tolist() != words.ngrams(3).of(1).tolist()


def test_other_scripts_are_words_too():
    first, second = "Zoë a payé 45 € à Kraków.", "ΖΩΉ πλήρωσε 漢字 ٣٤"
    words = Words.of([first, second, first.upper()])
    assert np.diff(words.offsets).tolist() == [8, 4, 8]
    assert words.ngrams(1).of(0).tolist() == words.ngrams(1).of(2).tolist()


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("on 2021-03-04", "by 1999-12-31", True),
        ("2021-03-04", "2021-3-4", False),
        ("2021-03-04", "04/03/2021", False),
        ("costs £12.50", "was £99.00", True),
        ("costs £12.50", "was $99.00", False),
        ("page 7", "no digits here", False),
    ],
)
def test_shapes_tell_styles_of_numbers_whatever_the_numbers(first, second, is_shared):
    shapes = Words.of([first, second]).shapes
    assert bool(set(shapes.of(0).tolist()) & set(shapes.of(1).tolist())) == is_shared


def test_a_text_without_digits_has_no_shapes():
    shapes = Words.of(["none at all", "", "on 4 May 2021"]).shapes
    assert np.diff(shapes.offsets).tolist() == [0, 0, 2]


@pytest.mark.parametrize("texts", [[], [""], ["", "  \n"], ["a", "", "b c"]])
def test_empty_and_short_texts_have_no_sequences(texts):
    words = Words.of(texts)
    found = words.ngrams(7)
    assert len(words) == len(texts)
    assert found.offsets.tolist() == [0] * (len(texts) + 1)
    assert found.hashes.dtype == np.uint64


def test_one_sequence_where_a_text_is_just_long_enough():
    assert np.diff(Words.of(["a b c d e f", "a b c d e f g", "a b c d e f g h"]).ngrams(7).offsets).tolist() == [
        0,
        1,
        2,
    ]


# ---------------------------------------------------------------------------------------------
# Parts and counts
# ---------------------------------------------------------------------------------------------


@given(st.lists(few_words, min_size=1, max_size=6), st.data())
def test_taking_texts_takes_their_sequences(texts, data):
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=8))
    ngrams = Words.of(texts).ngrams(2)
    taken = ngrams.take(np.array(rows, dtype=np.int64))
    assert len(taken.offsets) == len(rows) + 1
    for position, row in enumerate(rows):
        assert taken.of(position).tolist() == ngrams.of(row).tolist()
    assert len(taken.hashes) == sum(len(ngrams.of(row)) for row in rows)


@given(st.lists(few_words, min_size=1, max_size=5), st.sampled_from([1, 7, 1 << 20]))
def test_counts_of_a_text_are_those_of_its_hashes(texts, n_columns):
    words = Words.of(texts)
    parts = [words.ngrams(1), words.ngrams(2)]
    found = count_matrix(parts, n_columns)
    assert found.shape == (len(texts), n_columns)
    for row in range(len(texts)):
        expected = Counter(int(value) % n_columns for part in parts for value in part.of(row))
        line = found[[row]].tocoo()
        assert dict(zip(line.col.tolist(), line.data.tolist(), strict=True)) == expected


# ---------------------------------------------------------------------------------------------
# Shared sequences of seven words
# ---------------------------------------------------------------------------------------------


@given(st.lists(few_words, max_size=4), st.lists(few_words, min_size=1, max_size=4))
def test_shared_sequences_equal_a_slow_search(members, nonmembers):
    found = overlap(members, nonmembers).ngram_share
    known = {sequence for text in members for sequence in slow_ngrams(text, 7)}
    expected = [math.nan] * len(members)
    for text in nonmembers:
        sequences = slow_ngrams(text, 7)
        expected.append(sum(s in known for s in sequences) / len(sequences) if sequences else math.nan)
    assert found.tolist() == pytest.approx(expected, nan_ok=True)


def test_shared_sequences_worked_by_hand():
    """Eight words have two sequences of seven; the member holds the first of them alone."""
    found = overlap(["zero one two three four five six seven"], ["one two three four five six seven eight", "one two"])
    assert NGRAM_WORDS == 7
    assert found.ngram_share.tolist() == pytest.approx([math.nan, 0.5, math.nan], nan_ok=True)


@given(st.lists(few_words, min_size=2, max_size=6), st.integers(0, 20))
def test_what_nonmembers_share_anyway_is_the_share_between_two_halves_of_them(nonmembers, seed):
    """Some split into halves gives the number: all of them are tried."""
    import itertools

    found = overlap(["x y z"], nonmembers, seed=seed).usual_share
    sequences = [slow_ngrams(text, 7) for text in nonmembers]
    possible = []
    for half in itertools.combinations(range(len(nonmembers)), len(nonmembers) // 2):
        known = {s for row in range(len(nonmembers)) if row not in half for s in sequences[row]}
        shares = [sum(s in known for s in sequences[row]) / len(sequences[row]) for row in half if sequences[row]]
        possible.append(np.mean(shares) if shares else math.nan)
    assert any(found == pytest.approx(value, nan_ok=True) for value in possible)


@pytest.mark.parametrize(("nonmembers", "expected"), [([], math.nan), (["a b c d e f g h"], math.nan)])
def test_too_few_nonmembers_have_no_usual_share(nonmembers, expected):
    assert overlap(["a b c d e f g h"], nonmembers).usual_share == pytest.approx(expected, nan_ok=True)


def test_copies_among_nonmembers_are_what_they_share_anyway():
    same = "this sentence of nine words stands in every record"
    assert overlap(["something else"], [same] * 6).usual_share == 1
    different = [" ".join(f"w{i}{letter}" for letter in "abcdefghij") for i in range(6)]
    assert overlap(["something else"], different).usual_share == 0


# ---------------------------------------------------------------------------------------------
# Near-duplicates
# ---------------------------------------------------------------------------------------------


def made_up(rng, n_words: int) -> list[str]:
    return [f"w{number}" for number in rng.integers(0, 50_000, n_words)]


def letters_only(words: list[str]) -> str:
    """Numbers spelt with letters, so that each stays one word."""
    return " ".join("".join(chr(97 + int(c)) if c.isdigit() else c for c in word) for word in words)


def test_one_changed_word_of_sixty_is_found():
    """58 triples, three of them changed: 55 / 61 = 90 % are shared. MinHash may miss a few in a hundred."""
    rng = np.random.default_rng(0)
    members = [made_up(rng, 60) for _ in range(100)]
    nonmembers = []
    for words in members:
        changed = list(words)
        changed[int(rng.integers(2, 58))] = "quince"
        nonmembers.append(changed)
    texts = [[letters_only(words) for words in side] for side in (members, nonmembers)]
    assert slow_similarity(texts[0][0], texts[1][0]) == pytest.approx(55 / 61)
    found = overlap(*texts).has_near_duplicate
    assert found[100:].mean() >= 0.96
    assert found[:100].tolist() == found[100:].tolist()


def test_texts_that_share_half_are_not_found():
    rng = np.random.default_rng(1)
    members = [made_up(rng, 60) for _ in range(60)]
    nonmembers = [words[:30] + made_up(rng, 30) for words in members]
    texts = [[letters_only(words) for words in side] for side in (members, nonmembers)]
    found = overlap(*texts)
    assert not found.has_near_duplicate.any()
    assert found.ngram_share[60:] == pytest.approx(np.full(60, 24 / 54), abs=0.02)
    assert (found.ngram_share[60:] < MOSTLY_SHARED).all()


def test_whatever_is_found_shares_four_fifths_of_its_triples():
    """Every number of changed words from none to twelve; none below the line is found, all well above it are."""
    rng = np.random.default_rng(2)
    members = [made_up(rng, 60) for _ in range(91)]
    nonmembers = []
    for row, words in enumerate(members):
        changed = list(words)
        for place in rng.choice(60, row % 13, replace=False):
            changed[place] = letters_only(made_up(rng, 1)) + "x"
        nonmembers.append(changed)
    texts = [[letters_only(words) for words in side] for side in (members, nonmembers)]
    similar = np.array([slow_similarity(*both) for both in zip(*texts, strict=True)])
    found = overlap(*texts).has_near_duplicate[91:]
    assert not found[similar < NEAR_DUPLICATE].any()
    assert found[similar >= 0.88].mean() >= 0.95
    assert (similar < NEAR_DUPLICATE).sum() > 20


def test_copies_on_the_same_side_are_no_overlap():
    same = "one text that stands twice among the members and nowhere else"
    found = overlap(
        [same, same], ["another text that stands twice on its side", "another text that stands twice on its side"]
    )
    assert not found.has_near_duplicate.any()


def test_both_records_of_a_pair_are_marked_and_case_does_not_hide_it():
    text = "The invoice of 4 May was sent to Priya Desai, who has not paid it yet."
    found = overlap(
        ["something else entirely, of no matter here", text], [text.upper(), "a third record about the weather"]
    )
    assert found.has_near_duplicate.tolist() == [False, True, True, False]


@pytest.mark.parametrize("text", ["", "one", "two words"])
def test_texts_without_a_triple_have_no_near_duplicate(text):
    found = overlap([text, "a text of five words"], [text, "quite another text of six"])
    assert not found.has_near_duplicate.any()
    assert math.isnan(found.ngram_share[2])


def test_three_words_are_enough_for_a_near_duplicate():
    assert overlap(["just three words"], ["just three words"]).has_near_duplicate.all()


def test_near_duplicates_in_other_scripts_are_found():
    text = "Пациент Ольга Смирнова пришла в клинику во вторник утром и жаловалась на сильную боль в колене"
    found = overlap([text], [text.replace("утром", "утром,"), "Совсем другой текст о погоде в горах и о море"])
    assert slow_similarity(text, text.replace("утром", "утром,")) < NEAR_DUPLICATE  # 12 of 16: not near enough
    assert not found.has_near_duplicate.any()
    assert overlap([text], [text.lower()]).has_near_duplicate.all()


def test_a_side_without_records_shares_nothing():
    found = overlap([], ["a b c d e f g h", "a b c d e f g h"])
    assert not found.has_near_duplicate.any()
    assert found.ngram_share.tolist() == [0, 0]
    assert overlap([], []).ngram_share.tolist() == []


def test_a_copy_is_found_among_many_records_made_from_one_template():
    """Six hundred members share three quarters of their triples with a non-member; the last of them is its copy."""
    rng = np.random.default_rng(3)
    template = made_up(rng, 63)

    def filled() -> str:
        return letters_only(
            [
                *template[:9],
                *made_up(rng, 1),
                *template[9:36],
                *made_up(rng, 1),
                *template[36:52],
                *made_up(rng, 1),
                *template[52:],
            ]
        )

    members = [filled() for _ in range(600)]
    found = overlap(members, [members[-1]])
    assert 0.7 < slow_similarity(members[0], members[-1]) < NEAR_DUPLICATE
    assert found.has_near_duplicate[-1]
