"""What the published detector and the default one find, where, and what they leave alone."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from loraudit.errors import ConfigError
from loraudit.memorization import worst
from loraudit.memorization.plagiarism import (
    LEE2023,
    PAN2014,
    AlignmentParameters,
    CopyParameters,
    LayeredDetector,
    Lee2023Detector,
    WordingParameters,
)
from loraudit.memorization.plagiarism.folding import fold
from loraudit.memorization.plagiarism.units import sentences, windows

ADDRESS = "Ms Ada Quill, 14 Lantern Row, Port Vesper, call 555-0134 after 6"
STORY = (
    "The harbour was quiet before dawn. Fishermen mended their nets under yellow lamps. "
    "A clerk from the customs house counted barrels and wrote the numbers down. "
    "Nobody noticed the small boat that left without a light. Rain began to fall over the hills."
)
OTHER = (
    "Our committee met on Tuesday to discuss the budget. Several members asked for new computers. "
    "The chair explained that prices had gone up since spring. A vote was put off until the next meeting. "
    "Coffee and sandwiches were served afterwards."
)
REWORDED = (
    "Before dawn the harbour lay quiet. Under yellow lamps, fishermen were mending nets. "
    "A customs house clerk was counting the barrels and writing down their numbers. "
    "The small boat leaving without a light was noticed by nobody."
)
DETECTORS = [LayeredDetector(), Lee2023Detector(), Lee2023Detector(PAN2014)]


def said(text, match):
    return text[slice(*match.here)]


# ---------------------------------------------------------------------------------------------
# Units
# ---------------------------------------------------------------------------------------------


def pieces(text, units):
    return [text[a:b] for a, b in zip(units.starts, units.ends, strict=True)]


def test_sentences_end_at_full_stops_but_not_at_abbreviations_or_numbers():
    text = "Dr. Vane paid 3.50 for it. Was J. Hill there? Yes he was, e.g. on Monday\n\nA new paragraph"
    assert pieces(text, sentences(text)) == [
        "Dr. Vane paid 3.50 for it",
        "Was J. Hill there",
        "Yes he was, e.g. on Monday",
        "A new paragraph",
    ]


def test_short_sentences_join_the_next_and_the_last_the_one_before():
    text = "Oh no. Really. The dog ran away again. Stop it."
    assert pieces(text, sentences(text)) == ["Oh no. Really", "The dog ran away again. Stop it"]


def test_words_are_stemmed_and_counted_per_sentence():
    units = sentences("Running runs ran. The Dogs were dogged.")
    column = units.numbers["run"]
    assert units.counts[units.columns == column].tolist() == [2]
    assert units.n_holding[column] == 1
    assert units.offsets[1] > np.flatnonzero(units.columns == column)[0]
    assert "dog" in units.numbers


def test_text_without_full_stops_is_cut_into_windows_that_hold_every_word_once():
    text = " ".join(f"word{i}" for i in range(101))
    units = windows(text, 20)
    assert len(units) == 5
    assert units.counts.sum() == 101
    assert max(np.diff(units.offsets)) <= 21
    assert len(sentences(text)) == 1


@pytest.mark.parametrize("text", ["", " \n ", "?", ". . ."])
def test_text_without_words_has_no_units(text):
    assert len(sentences(text)) == len(windows(text, 20)) == 0


# ---------------------------------------------------------------------------------------------
# Folding
# ---------------------------------------------------------------------------------------------


def test_folding_writes_blanks_quotes_dashes_and_accents_in_one_way():
    assert fold("“é”\u00a0\n —\u200b…").text == '"e\u0301" -...'
    assert fold("e\u0301").text == fold("é").text
    assert fold("ÀB").lower == "a\u0300b"


def test_folded_characters_know_where_they_stood():
    text = "😀 \n é…x"
    folded = fold(text)
    start = folded.text.index("e")
    assert text[slice(*folded.original(start, start + 1))] == "é"
    start = folded.text.index("...")
    assert text[slice(*folded.original(start, start + 4))] == "…x"


# ---------------------------------------------------------------------------------------------
# Copies
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "😀👩‍👧 naïve cafe\u0301 ", "\n\n\t"])
def test_a_copied_address_is_found_at_its_place_whatever_stands_before(prefix):
    here, source = prefix + "so I wrote it down: " + ADDRESS + " and left", "Contact " + ADDRESS + "."
    (match,) = LayeredDetector()(here, source)
    assert (match.kind, match.score) == ("verbatim", 1.0)
    assert said(here, match).strip(" ") == ADDRESS
    assert source[slice(*match.source)] == ADDRESS


def test_the_published_detector_cannot_see_a_copied_sentence_and_the_default_can():
    sentence = "the customs clerk counted forty one barrels of tar that night"
    assert Lee2023Detector()(sentence, sentence) == []
    assert worst(LayeredDetector()(sentence, sentence)).here == (0, len(sentence))


def test_unpunctuated_chat_that_says_the_same_is_a_paraphrase():
    here = "so yeah the customs clerk counted all the barrels last night and wrote their numbers into a green book lol"
    source = "last night a clerk at customs was counting barrels and their numbers were written in his green book ok"
    assert worst(LayeredDetector()(here, source)).kind == "paraphrase"
    assert Lee2023Detector()(here, source) == []


def test_a_copy_with_typing_errors_is_near_verbatim_and_so_is_one_in_capitals():
    edited = ADDRESS.replace("Lantern", "Lantren").replace("555-0134", "555-0135")
    (match,) = LayeredDetector()("Reach " + edited + " pm", "Contact " + ADDRESS + ".")
    assert match.kind == "near_verbatim"
    assert 0.85 <= match.score < 1
    (match,) = LayeredDetector()("REACH " + ADDRESS.upper() + " PM", "Contact " + ADDRESS + ".")
    assert match.kind == "near_verbatim"
    assert match.n_characters == len(ADDRESS)


def test_a_verbatim_part_of_a_copy_in_other_capitals_is_verbatim():
    here = ADDRESS.upper() + " " + STORY[:60]
    kinds = [m.kind for m in LayeredDetector()(here, ADDRESS + " " + STORY)]
    assert kinds == ["near_verbatim", "verbatim"]


def test_two_distant_edits_too_many_leave_the_part_that_is_alike():
    copied = "0123 alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima"
    here = copied.upper() + " .. xxxxxxxxxxxxxxxxxxx " + "mike november "
    source = copied + " yyyyyyyyyyyyyyyyyyyyyy mike november "
    strict = LayeredDetector(copying=CopyParameters(similarity=0.99))
    (match,) = [m for m in strict(here, source) if m.kind == "near_verbatim"]
    assert said(here, match).startswith(copied.upper()[:-1])
    assert match.n_characters <= len(copied) + 4


def test_rules_and_stock_phrases_are_not_copies():
    line = "-" * 80
    assert LayeredDetector()(STORY + line, line + OTHER) == []
    phrase = "Yours sincerely, the customer service team of the Port Vesper water board"
    here, source = STORY + " " + phrase, OTHER + " " + phrase
    assert worst(LayeredDetector()(here, source)).kind == "verbatim"
    assert LayeredDetector(usual=["Dear sir, thank you. " + phrase])(here, source) == []


def test_a_usual_template_with_something_private_in_it_is_still_a_copy():
    template = "Yours sincerely, the customer service team. We will call you under {} in the next days"
    filled = template.format("555-0134-2217, Ms Quill")
    detector = LayeredDetector(usual=[template.format("")])
    assert worst(detector(filled, filled)).kind == "verbatim"


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize(
    ("here", "source"), [("", ""), (" \n", STORY), ("x", "x"), (STORY, ""), ("😀", "\u0301"), (STORY, OTHER)]
)
def test_nothing_in_common_is_no_match(detector, here, source):
    assert detector(here, source) == []


# ---------------------------------------------------------------------------------------------
# Paraphrases
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS[:2])
def test_a_reworded_passage_is_a_paraphrase_at_its_place(detector):
    here = OTHER + " " + REWORDED
    matches = detector(here, STORY)
    assert {m.kind for m in matches} == {"paraphrase"}
    assert min(m.here[0] for m in matches) >= len(OTHER)


@pytest.mark.parametrize("make", [LayeredDetector, Lee2023Detector])
def test_a_paraphrase_model_decides_and_without_one_the_detector_says_so(make):
    seen = []

    def scorer(pairs):
        seen.extend(pairs)
        return [0.5 if len(seen) == len(pairs) else 0.9 for _ in pairs]

    here = OTHER + " " + REWORDED
    detector = make(paraphrase_scorer=scorer)
    assert detector(here, STORY) == []
    matches = detector(here, STORY)
    assert matches
    assert {(m.kind, m.score) for m in matches} == {("paraphrase", 0.9)}
    assert (said(here, matches[0]), STORY[slice(*matches[0].source)]) == seen[0]
    assert detector.notes == ()
    assert "not checked by a paraphrase model" in make().notes[0]


def test_a_summary_is_an_idea():
    source = (
        "The clerk of the customs house, whom everybody in the town knew for his green hat and for his loud voice, "
        "counted all of the barrels of tar on the quay that evening, because his master had sent word from the capital"
    )
    here = "The clerk counted barrels of tar on the quay"
    relaxed = WordingParameters(window=50, dice=0.2, strong_dice=0.2)
    assert [m.kind for m in LayeredDetector(wording=relaxed)(here, source)] == ["idea"]
    assert [m.kind for m in LayeredDetector(wording=replace(relaxed, idea_ratio=10))(here, source)] == ["paraphrase"]


def test_a_passage_that_is_a_copy_is_not_reported_again_as_a_paraphrase():
    matches = LayeredDetector()(OTHER + " " + STORY, STORY)
    assert [m.kind for m in matches] == ["verbatim"]


def test_published_parameters_are_the_published_ones():
    assert AlignmentParameters(150, 256, 0.30, 0.33, 4, 24, 0.34, 3.0) == PAN2014
    assert replace(PAN2014, shortest_case=50, longest_chance=50) == LEE2023


# ---------------------------------------------------------------------------------------------
# Bounds
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("kind", ["random", "repeated", "one letter", "one sentence again"])
def test_long_texts_take_bounded_time_and_memory(detector, kind):
    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "bdgkmpst" for b in "aeiou" for c in "lnrst"]
    texts = {
        "random": [" ".join(f"{w}{'.' * (i % 11 == 0)}" for i, w in enumerate(rng.choice(words, 5000))) for _ in "ab"],
        "repeated": ["ab" * 10_000, "ba" * 10_000],
        "one letter": ["a" * 20_000] * 2,
        "one sentence again": ["The dog ran home. " * 1100] * 2,
    }[kind]
    assert min(map(len, texts)) >= 19_000
    tracemalloc.start()
    began = time.process_time()
    detector(*texts)
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 10
    assert peak < 400e6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CopyParameters(seed=0), r"The seed 0 of a copy is out of range\. Expected 1 to 35"),
        (lambda: CopyParameters(shortest_verbatim=8), r"The seed 12 .* Expected 1 to 8"),
        (lambda: replace(LEE2023, longest_chance=-1), r"The alignment's longest_chance -1 is negative\. Expected 0"),
        (lambda: replace(LEE2023, gap=-1), r"The alignment's gap -1 is negative"),
        (lambda: WordingParameters(window=0), r"The wording's window 0 is too small\. Expected 1 or more"),
        (lambda: WordingParameters(gap=-2), r"The wording's gap -2 is too small\. Expected 0 or more"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
