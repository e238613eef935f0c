"""Fast alignment equals the plain-Python one; every match lies in the texts and says what it claims."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loraudit.memorization.plagiarism import LEE2023, PAN2014, LayeredDetector, Lee2023Detector
from loraudit.memorization.plagiarism.extension import cluster, widest_gap
from loraudit.memorization.plagiarism.folding import fold
from loraudit.memorization.plagiarism.substrings import common_substrings, gram_hashes
from slow_alignment import slow_common_substrings, slow_fold, slow_lee2023

WORDS = [
    "river",
    "stone",
    "letter",
    "window",
    "garden",
    "king",
    "music",
    "paper",
    "winter",
    "doctor",
    "table",
    "engine",
    "silver",
    "market",
    "bridge",
    "song",
]
SMALL = replace(LEE2023, shortest_case=12, longest_chance=30)

word = st.sampled_from(WORDS)
sentence = st.lists(word, min_size=1, max_size=7).map(lambda words: " ".join(words).capitalize() + ".")
text = st.lists(sentence, max_size=9).map(" ".join)


@st.composite
def related(draw):
    """A text, and one that holds some of its sentences, in part with other words."""
    source = draw(st.lists(sentence, min_size=1, max_size=9))
    here = draw(st.lists(st.one_of(sentence, st.sampled_from(source)), max_size=9))
    return " ".join(here), " ".join(source)


@settings(max_examples=100, deadline=None)
@given(related(), st.sampled_from([SMALL, LEE2023, PAN2014, replace(SMALL, longest_chance=1000)]))
def test_the_published_alignment_equals_the_slow_one(pair, parameters):
    fast, slow = Lee2023Detector(parameters)(*pair), slow_lee2023(*pair, parameters)
    assert [(m.kind, m.here, m.source) for m in fast] == [(m.kind, m.here, m.source) for m in slow]
    assert [m.score for m in fast] == pytest.approx([m.score for m in slow])


def test_the_alignments_above_were_not_all_empty():
    kinds = set()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(related(), st.sampled_from([SMALL, replace(SMALL, longest_chance=1000)]))
    def collect(pair, parameters):
        kinds.update(match.kind for match in Lee2023Detector(parameters)(*pair))

    collect()
    assert kinds == {"verbatim", "paraphrase", "idea"}


@settings(max_examples=120, deadline=None)
@given(st.text("ab", max_size=25), st.text("abc", max_size=25), st.integers(1, 6))
def test_common_substrings_equal_the_slow_ones(here, source, shortest):
    assert common_substrings(here, source, shortest=shortest) == slow_common_substrings(here, source, shortest)


@given(st.text(max_size=30), st.integers(1, 9))
def test_equal_substrings_have_equal_hashes_and_others_other_ones(value, n):
    grams = [value[i : i + n] for i in range(len(value) - n + 1)]
    assert len(set(zip(grams, gram_hashes(value, n).tolist(), strict=True))) == len(set(grams))
    assert len(set(gram_hashes(value, n).tolist())) == len(set(grams))


anything = st.text(st.characters(exclude_categories=()), max_size=60)


@settings(max_examples=200, deadline=None)
@given(st.one_of(anything, st.text("ab \n\u2003’…\u200béßΣİ한\u1ffd", max_size=30)))
def test_folding_equals_the_slow_one(value):
    folded = fold(value)
    assert (folded.text, folded.origins.tolist()) == slow_fold(value)


@settings(max_examples=100, deadline=None)
@given(anything, st.data())
def test_a_folded_span_and_its_original_fold_to_the_same(value, data):
    folded = fold(value)
    assume(folded.text)
    start = data.draw(st.integers(0, len(folded.text) - 1))
    end = data.draw(st.integers(start + 1, len(folded.text)))
    first, last = folded.original(start, end)
    assert 0 <= first < last <= len(value)
    assert folded.text[start:end] in fold(value[first:last]).text
    assert len(folded.lower) == len(folded.text) == len(folded.origins)


@settings(max_examples=60, deadline=None)
@given(anything, anything, st.text(st.characters(exclude_categories=("Cs",)), min_size=80, max_size=120))
def test_a_passage_that_stands_in_both_is_found_at_its_place(before, after, passage):
    assume(sum(c.isalnum() for c in fold(passage).text.strip()) >= 40)
    here, source = before + passage, passage + after
    matches = LayeredDetector()(here, source)
    assert any(m.kind == "verbatim" for m in matches)
    for match in matches:
        assert 0 <= match.here[0] < match.here[1] <= len(here)
        assert 0 <= match.source[0] < match.source[1] <= len(source)
        assert 0 <= match.score <= 1 + 1e-9
        if match.kind == "verbatim":
            assert _plain(here[slice(*match.here)]) == _plain(source[slice(*match.source)])


def _plain(value):
    return fold(unicodedata.normalize("NFD", value)).text.strip()


@settings(max_examples=40, deadline=None)
@given(text, text)
def test_matches_come_in_order_and_the_same_again(here, source):
    for detector in (LayeredDetector(), Lee2023Detector()):
        matches = detector(here, source)
        assert matches == detector(here, source)
        assert [m.here for m in matches] == sorted(m.here for m in matches)


@settings(max_examples=150, deadline=None)
@given(
    st.text("ab", max_size=40), st.text("abc", max_size=40), st.integers(1, 6), st.integers(0, 4), st.integers(0, 15)
)
def test_only_common_substrings_that_reach_too_little_are_left_out(here, source, shortest, gap, reach):
    """Those left out stand, with all that are at most `gap` away from each other, in fewer than `reach` characters."""
    everything = common_substrings(here, source, shortest=shortest)
    found = common_substrings(here, source, shortest=shortest, gap=gap, reach=reach)
    assert set(found) <= set(everything)
    chains = []
    for piece in everything:
        if chains and piece.here - (chains[-1][-1].here + chains[-1][-1].length) <= gap:
            chains[-1].append(piece)
        else:
            chains.append([piece])
    far = [piece for chain in chains for piece in chain if _reach(chain) >= reach]
    assert set(far) <= set(found)


def _reach(chain):
    return chain[-1].here + chain[-1].length - chain[0].here


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=25, unique=True), st.integers(0, 9)
)
def test_a_cluster_stays_whole_until_the_gap_is_smaller_than_its_widest(pairs, gap):
    seeds = np.array(sorted(pairs))
    labels = cluster(seeds, np.zeros(len(seeds), dtype=int), gap)
    widest = widest_gap(seeds, labels)
    assert widest <= gap
    for allowed in range(gap):
        finer = cluster(seeds, labels, allowed)
        assert (finer.max() == labels.max()) == (allowed >= widest)
