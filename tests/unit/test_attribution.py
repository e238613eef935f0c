"""Generated texts and the training texts they go back to."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz

from loraudit.errors import ConfigError, DataError
from loraudit.memorization import Match
from loraudit.memorization.attribution import TrainingIndex, attribute
from loraudit.memorization.attribution.nearness import aligned

TRAINING = [
    "The lighthouse keeper counted seven ships before the fog came down over the bay.",
    "Nobody in the village remembered who had planted the crooked pear tree.",
    "",
    "She wrote the number 0171-5550134 on the back of an old railway ticket.",
    "Nobody in the village remembered who had planted the crooked pear tree.",
    "ok",
]


def no_detector(text, source):
    return []


def word_detector(text, source):
    """Idea: the first longer word that both hold."""
    for word in text.split():
        if len(word) > 7 and word in source:
            at, there = text.index(word), source.index(word)
            return [Match("idea", (at, at + len(word)), (there, there + len(word)), 0.5)]
    return []


def copying_detector(text, source):
    """Verbatim: the last thirty characters of the source."""
    tail = source[-30:]
    if len(tail) < 30 or tail not in text:
        return []
    at = text.index(tail)
    return [Match("verbatim", (at, at + 30), (len(source) - 30, len(source)), 1.0)]


@pytest.fixture(scope="module")
def index():
    return TrainingIndex.of(TRAINING)


def one(text, index, **options):
    return attribute([text], index, **{"detector": no_detector, **options})[0]


def test_a_copied_passage_names_every_text_it_stands_in(index):
    found = one("He said:_" + TRAINING[1][10:60] + "?", index)
    assert found.worst is found.longest_copy
    assert found.worst.match == Match("verbatim", (9, 59), (10, 60), 1.0)
    assert (found.worst.sources.rows, found.worst.sources.ids, found.worst.sources.n) == ((1, 4), ("1", "4"), 2)
    assert (found.worst.starts, found.worst.found_by) == ((10, 10), "copy")
    assert (found.n_characters, found.is_too_short, found.n_unaligned) == (60, False, 0)


def test_no_more_sources_are_named_than_asked_for_but_all_are_counted(index):
    found = one(TRAINING[1], index, n_sources=1)
    assert (found.worst.sources.rows, found.worst.sources.n) == ((1,), 2)
    assert (found.edits.sources.rows, found.edits.sources.n) == ((1,), 2)


def test_a_passage_stands_at_its_own_place_in_each_source():
    passage = "thirty characters and a few more of them"
    index = TrainingIndex.of(["x" + passage, "yy" + passage, passage], ids=["one", "two", "three"])
    (hit,) = one("zzz" + passage, index).hits
    assert (hit.sources.ids, hit.starts) == (("one", "two", "three"), (1, 2, 0))
    assert (hit.match.here, hit.match.source) == ((3, 43), (1, 41))


def test_a_near_copy_of_the_whole_text_is_found_by_its_edits(index):
    text = "The lighthouse keeper counted nine ships before the mist came down over the bay."
    found = one(text, index)
    assert found.longest_copy is not None  # "The lighthouse keeper counted " is thirty characters
    near = next(hit for hit in found.hits if hit.found_by == "edits")
    assert near.match.kind == "near_verbatim"
    assert near.sources.rows == found.edits.sources.rows == (0,)
    assert near.match.score == found.edits.score >= 0.9
    assert found.worst.match.kind == "verbatim"


def test_less_alike_than_asked_for_is_no_near_copy_but_is_measured(index):
    text = "The lighthouse keeper counted nine ships before the mist came down over the bay."
    found = one(text, index, near_exact=0.99)
    assert [hit.found_by for hit in found.hits] == ["copy"]
    assert 0.9 <= found.edits.score < 0.99


def test_a_near_copy_is_as_alike_as_was_asked_for_or_more(index):
    text = "The lighthouse keeper counted nine ships before the mist came down over the bay."
    score = one(text, index).edits.score
    assert [hit.found_by for hit in one(text, index, near_exact=score).hits] == ["copy", "edits"]


def test_a_copy_is_not_called_a_near_copy_too(index):
    assert [(hit.found_by, hit.match.kind) for hit in one(TRAINING[3], index).hits] == [("copy", "verbatim")]


def test_a_text_too_short_for_a_passage_is_compared_whole_and_makes_no_hit(index):
    found = one("ok", index)
    assert found.is_too_short
    assert (found.hits, found.worst, found.longest_copy) == ((), None, None)
    assert (found.edits.score, found.edits.sources.ids) == (1.0, ("5",))


def test_a_text_too_short_for_a_passage_is_no_near_copy_either():
    found = one("a line of 27 letters or so.", TrainingIndex.of(["a line of 28 letters or so."]))
    assert (found.hits, found.edits.score > 0.9) == ((), True)


def test_a_text_as_long_as_the_shortest_passage_is_not_too_short(index):
    found = [one(TRAINING[1][:n], index) for n in (29, 30)]
    assert [one.is_too_short for one in found] == [True, False]
    assert [one.longest_copy is None for one in found] == [True, False]


def test_a_short_training_text_inside_a_generated_one_is_no_hit(index):
    found = one("ok but this has very little to do with anything that stands in there", index)
    assert found.hits == ()
    assert found.edits.score < 0.5


def test_the_detector_sees_texts_with_the_same_words_and_the_worst_hit_decides(index):
    (hit,) = one("A lighthouse far away.", index, detector=word_detector).hits
    assert (hit.match.kind, hit.found_by, hit.sources.rows, hit.starts) == ("idea", "detector", (0,), (4,))
    both = one("lighthouse " + TRAINING[3], index, detector=word_detector)
    assert {hit.match.kind for hit in both.hits} == {"verbatim", "idea"}
    assert both.worst.match.kind == "verbatim"


def test_what_the_detector_finds_again_of_a_copy_is_said_once(index):
    padding = "!" * 9  # too many for a near copy of the whole
    again = one(padding + TRAINING[3][-30:], index, detector=copying_detector)
    assert [(hit.found_by, hit.match.here) for hit in again.hits] == [("copy", (9, 39))]
    part = one(padding + TRAINING[3][-31:], index, detector=copying_detector)
    assert [(hit.found_by, hit.match.here) for hit in part.hits] == [("copy", (9, 40)), ("detector", (10, 40))]


def test_a_detector_is_given_the_longest_copies_first_and_the_rest_is_counted():
    passage = "a passage that stands in a great many texts"
    index = TrainingIndex.of([f"{i} " + passage for i in range(40)] + [passage + " and one that goes on"])
    seen = []

    def record(text, source):
        seen.append(source)
        return []

    found = one(passage + " and one that goes", index, detector=record, n_candidates=3)
    assert seen[0] == passage + " and one that goes on"
    assert 3 <= len(seen) <= 6
    assert found.n_unaligned == 0  # one passage, in one text: the shorter one is part of it
    found = one(passage, index, detector=record, n_candidates=3)
    assert found.worst.sources.n == 41
    assert 35 <= found.n_unaligned <= 38


def test_of_texts_with_different_passages_the_detector_is_given_the_one_with_the_longest():
    short, long = "a passage that stands here alone", "another that is somewhat longer and stands elsewhere"
    seen = []

    def record(text, source):
        seen.append(source)
        return []

    one(f"{short}; {long}", TrainingIndex.of([f"1 {short}", f"2 {long}"]), detector=record, n_candidates=1)
    assert seen[0] == f"2 {long}"


def test_a_text_that_its_words_bring_to_the_detector_is_not_counted_as_left_out():
    short, long = "a passage that stands here alone", "another that is somewhat longer and stands elsewhere"
    index = TrainingIndex.of([f"1 {short}: kestrel, plover, avocet", f"2 {long}"])
    assert one(f"{short}; {long}; avocet plover kestrel", index, n_candidates=1).n_unaligned == 0
    assert one(f"{short}; {long} {long}", index, n_candidates=1).n_unaligned == 1


def test_copies_of_one_text_take_one_place_among_the_nearest():
    index = TrainingIndex.of(["red apples and green pears"] * 50 + ["green pears and old plums"])
    seen = []

    def record(text, source):
        seen.append(source)
        return []

    found = one("green pears", index, detector=record, n_candidates=2)
    assert sorted(seen) == ["green pears and old plums", "red apples and green pears"]
    assert found.words.sources.n in {1, 50}


@pytest.mark.parametrize("text", ["", "?!", "日本語", "\x00\uffff"])
def test_a_text_without_known_words_has_no_nearest_and_says_so(text, index):
    found = one(text, index)
    assert math.isnan(found.words.score)
    assert math.isnan(found.edits.score)
    assert math.isnan(found.meaning.score)
    assert (found.words.sources, found.edits.sources, found.meaning.sources, found.hits) == (None, None, None, ())


@pytest.mark.parametrize("training", [[], [""], ["", "!", "?"], ["a b c"]])
def test_training_sets_without_words(training):
    index = TrainingIndex.of(training)
    found = one("any text that is long enough to hold a passage", index)
    assert (found.hits, found.worst, len(index)) == ((), None, len(training))
    assert math.isnan(found.words.score)


def test_no_texts_have_no_answers(index):
    assert attribute([], index, detector=no_detector) == []


def test_equal_texts_are_answered_alike_and_in_their_order(index):
    texts = [TRAINING[0], "nothing", TRAINING[0], TRAINING[3]]
    found = attribute(texts, index, detector=no_detector)
    assert found[0] == found[2] != found[3]
    assert [len(a.hits) for a in found] == [1, 0, 1, 1]


def test_nothing_is_printed_and_no_file_is_written(index, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attribute(TRAINING, TrainingIndex.of(TRAINING), detector=no_detector)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_map_of_the_callers_carries_the_work_and_sees_units(index):
    sizes = []

    def watched(work, units):
        for unit in units:
            sizes.append(len(unit))
            yield work(unit)

    texts = [f"{TRAINING[0]} {i}" for i in range(150)]
    found = attribute(texts, index, detector=no_detector, map_units=watched)
    assert sizes == [64, 64, 22]
    assert found == attribute(texts, index, detector=no_detector)


WORDS = ["the", "keeper", "of", "bay", "fog", "pear", "tree", "village", "ticket", "number", "nine", "ships", "crooked"]


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_everything_planted_is_found_alone_or_in_company_in_any_order(seed):
    rng = random.Random(seed)
    training = [" ".join(rng.choices(WORDS, k=rng.randrange(30))) for _ in range(20)]
    training += rng.choices(training, k=5)
    generated, planted = [], []
    for _ in range(8):
        row = rng.randrange(len(training))
        length = rng.randrange(30, 60)
        if len(training[row]) < length:
            continue
        start = rng.randrange(len(training[row]) - length + 1)
        generated.append("?" * rng.randrange(5) + training[row][start : start + length] + "!")
        planted.append((row, length))
    index = TrainingIndex.of(training)
    found = attribute(generated, index, detector=word_detector)
    for text, attribution, (row, length) in zip(generated, found, planted, strict=True):
        assert attribution.longest_copy.match.n_characters >= length
        assert row in attribution.longest_copy.sources.rows
        for hit in attribution.hits:
            for at, source in zip(hit.starts, hit.sources.rows, strict=True):
                if hit.found_by == "copy":
                    assert text[slice(*hit.match.here)] == training[source][at : at + hit.match.n_characters]
    assert found == [attribute([text], index, detector=word_detector)[0] for text in generated]
    order = list(range(len(training)))
    rng.shuffle(order)
    shuffled = TrainingIndex.of([training[i] for i in order], ids=[str(i) for i in order])
    for before, after in zip(found, attribute(generated, shuffled, detector=word_detector), strict=True):
        assert [(h.match.kind, h.match.here, h.match.score, sorted(h.sources.ids)) for h in before.hits] == [
            (h.match.kind, h.match.here, h.match.score, sorted(h.sources.ids)) for h in after.hits
        ]
        assert before.edits.score == after.edits.score
        assert before.words.score == after.words.score
        assert sorted(before.words.sources.ids) == sorted(after.words.sources.ids)


def test_a_document_without_a_word_of_the_text_is_none_of_the_nearest(index):
    found = index.words.nearest("a crooked lighthouse", 99)
    assert {index.documents[near.document] for near in found} == {TRAINING[0], TRAINING[1]}
    assert index.words.nearest("trawler", 99) == []


def test_words_are_ranked_as_lucene_does():
    """By hand: idf = ln(1 + (N − df + ½) / (df + ½)), tf / (tf + k1 (1 − b + b L / mean L)), k1 = 1.5, b = 0.75."""
    training = ["pear pear tree", "pear bay fog ship", "bay"]
    mean = (3 + 4 + 1) / 3

    def score(tf, df, length):
        return math.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + 1.5 * (0.25 + 0.75 * length / mean))

    found = one("Pear tree.", TrainingIndex.of(training))
    assert found.words.sources.rows == (0,)
    assert found.words.score == pytest.approx(score(2, 2, 3) + score(1, 1, 3), rel=1e-6)


@given(st.text(alphabet="abc ", min_size=1, max_size=12), st.text(alphabet="abc ", min_size=1, max_size=30))
def test_an_alignment_is_what_it_says(text, source):
    found = aligned(text, source, min_characters=4)
    here, there = text[slice(*found.here)], source[slice(*found.source)]
    assert found.score == pytest.approx(fuzz.ratio(here, there) / 100)
    assert (here == text) or (there == source)
    assert aligned(text, source, min_characters=4, better_than=found.score) is None
    assert aligned(text, source, min_characters=4, better_than=found.score - 0.01) is not None or found.score < 0.01


def direction(texts):
    """Two letters decide; a text without them has no direction."""
    return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=float)


def test_nearness_of_meaning_is_the_cosine_to_the_nearest_training_text():
    index = TrainingIndex.of(["a", "ab", "bbb", "", "ab"], embed=direction)
    found = attribute(["aab", "b", "zzz", ""], index, detector=no_detector)
    assert [f.meaning.score for f in found[:2]] == pytest.approx([3 / math.sqrt(10), 1.0], abs=1e-6)
    assert [f.meaning.sources.rows for f in found[:2]] == [(1, 4), (2,)]
    assert all(math.isnan(f.meaning.score) and f.meaning.sources is None for f in found[2:])
    assert index.meaning.n_undefined == 1


def test_of_texts_equally_near_in_meaning_the_first_is_named():
    index = TrainingIndex.of(["b", "aabb", "ab"], embed=direction)
    assert one("abab", index).meaning.sources.rows == (1,)


@pytest.mark.parametrize("n_texts", [1, 5, 200])
def test_nearest_embeddings_match_the_loop_in_any_batch(n_texts, monkeypatch):
    from loraudit.memorization.attribution import meaning

    monkeypatch.setattr(meaning, "_CELLS_AT_ONCE", 4000)
    monkeypatch.setattr(meaning, "_TEXTS_AT_ONCE", 37)
    rng = np.random.default_rng(n_texts)
    vectors = {str(i): rng.normal(size=16) * 10.0 ** rng.integers(-200, 200) for i in range(500)}

    def embed(texts):
        return np.array([vectors[text] for text in texts])

    training, queries = [str(i) for i in range(300)], [str(i) for i in range(300, 300 + n_texts)]
    index = TrainingIndex.of(training, embed=embed)
    found = attribute(queries, index, detector=no_detector)
    unit = {name: vector / np.abs(vector).max() for name, vector in vectors.items()}
    unit = {name: vector / np.linalg.norm(vector) for name, vector in unit.items()}
    for query, attribution in zip(queries, found, strict=True):
        cosines = [float(unit[query] @ unit[name]) for name in training]
        assert attribution.meaning.sources.rows == (int(np.argmax(cosines)),)
        assert attribution.meaning.score == pytest.approx(max(cosines), abs=1e-6)
    alone = [attribute([query], index, detector=no_detector)[0].meaning for query in queries[:20]]
    assert alone == [attribution.meaning for attribution in found[:20]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_undefined(bad):
    index = TrainingIndex.of(["x", "y"], embed=lambda texts: np.array([[bad, 1.0] for _ in texts]))
    assert index.meaning.n_undefined == 2
    assert math.isnan(one("x", index).meaning.score)


def test_an_embedder_must_give_one_vector_per_text():
    with pytest.raises(ConfigError, match=r"Embeddings of shape \[2\] do not fit 2 texts\. Expected one row"):
        TrainingIndex.of(["x", "y"], embed=lambda texts: np.ones(len(texts)))
    with pytest.raises(ConfigError, match=r"Embeddings of shape \[1, 3\] do not fit 2 texts"):
        TrainingIndex.of(["x", "y"], embed=lambda texts: np.ones((1, 3)))


def test_an_embedder_must_not_change_its_mind():
    sizes = iter([3, 4])
    index = TrainingIndex.of(["x", "y"], embed=lambda texts: np.ones((len(texts), next(sizes))))
    with pytest.raises(ConfigError, match=r"Embeddings of 4 numbers cannot be compared .* Expected 3"):
        one("z", index)


def test_ids_are_one_per_text():
    with pytest.raises(DataError, match=r"1 ids do not name 2 training texts\. Expected one each"):
        TrainingIndex.of(["x", "y"], ids=["one"])


@pytest.mark.parametrize("name", ["n_candidates", "n_sources"])
def test_asking_for_nothing_is_refused(name, index):
    with pytest.raises(ConfigError, match=f"{name} 0 leaves nothing to report. Expected at least 1"):
        one("x", index, **{name: 0})


@pytest.mark.parametrize("near_exact", [0, -1, 1.5, math.nan])
def test_near_exact_is_a_share(near_exact, index):
    with pytest.raises(ConfigError, match=f"near_exact {near_exact} is no share of unedited characters"):
        one("x", index, near_exact=near_exact)
