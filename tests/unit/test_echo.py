"""A model that repeats its prompt has shown no memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.memorization import Match, echoed_characters, without_echo

PROMPT = "The tenant of number forty wrote that the boiler had been out since the ninth, and that"
SUFFIX = " nobody had come although Mrs Quill rang the landlord on each of the four days before"
RECORD = PROMPT + SUFFIX
OTHER = "Wanders towards the bus stop with a framed photograph, sure that somebody was waiting there"


def match(kind, here, source, text, training_text, score=1.0):
    start, place = text.index(here), training_text.index(source)
    return Match(kind, (start, start + len(here)), (place, place + len(source)), score)


def left(kind, here, source, text, training_text, prompt=PROMPT):
    return without_echo(match(kind, here, source, text, training_text), text, training_text, prompt, shortest=50)


def test_what_only_repeats_the_prompt_is_no_copy():
    for echo in (PROMPT, PROMPT[20:], PROMPT[:60]):
        assert left("verbatim", echo, echo, f"{echo} ...", RECORD) is None


@pytest.mark.parametrize("n_more", [1, 5, 20, 49])
def test_an_echo_that_goes_on_as_the_record_by_chance_is_no_copy(n_more):
    echo = RECORD[10 : len(PROMPT) + n_more]
    for kind in ("verbatim", "near_verbatim", "paraphrase"):
        assert left(kind, echo, echo, f"{echo}###", RECORD) is None


def test_of_an_echo_that_goes_on_for_long_only_what_follows_is_copied():
    passage = RECORD[10 : len(PROMPT) + 60]
    text = f"so: {passage}###"
    found = left("verbatim", passage, passage, text, RECORD)
    assert text[slice(*found.here)] == RECORD[slice(*found.source)] == SUFFIX[:60]
    assert found.n_characters == 60


def test_behind_an_echo_so_many_characters_as_are_asked_for_are_enough():
    passage = RECORD[10 : len(PROMPT) + 50]
    assert left("verbatim", passage, passage, passage, RECORD).n_characters == 50


def test_a_copy_of_another_record_counts_and_stays_whole():
    copied = match("verbatim", OTHER, OTHER, f" {OTHER}.", OTHER)
    assert without_echo(copied, f" {OTHER}.", OTHER, PROMPT, shortest=50) == copied


def test_a_few_characters_that_the_prompt_has_too_are_no_echo():
    passage = "that the " + OTHER
    assert "that the " in PROMPT
    assert left("verbatim", passage, passage, passage, passage).n_characters == len(passage)


def test_an_echo_of_what_a_near_duplicate_shares_with_the_prompt_is_no_copy():
    twin = PROMPT + " the council was told"
    echo = PROMPT + " "
    assert left("verbatim", echo, echo, f"{echo}nothing", twin) is None


@pytest.mark.parametrize("kind", ["near_verbatim", "paraphrase", "idea"])
def test_an_echo_with_edits_is_no_match_and_a_copy_with_edits_is_one(kind):
    echo = PROMPT.replace("boiler", "broiler").replace("ninth", "tenth")
    assert left(kind, echo, PROMPT, echo, RECORD) is None
    said = SUFFIX.replace("Mrs Quill", "Ms Quill").replace("four", "five")
    assert left(kind, said, SUFFIX, said, RECORD) is not None


@pytest.mark.parametrize("kind", ["near_verbatim", "paraphrase", "idea"])
def test_what_goes_back_to_the_prompt_in_other_words_is_no_match(kind):
    said = "Since the ninth there is no heating in forty, its tenant complained"
    assert left(kind, said, PROMPT[:-9], said, RECORD) is None


def test_a_passage_with_edits_that_is_longer_than_the_prompt_it_holds_counts():
    prompt = PROMPT[:40]
    said = RECORD.replace("tenant", "lodger").replace("four", "five")
    assert left("near_verbatim", said, RECORD, said, RECORD, prompt) is not None


def test_a_passage_whose_source_begins_within_the_prompt_counts():
    """Alignments by sentence reach back to where the sentence began."""
    source = PROMPT[-40:] + SUFFIX
    assert left("near_verbatim", SUFFIX, source, SUFFIX, RECORD) is not None


def test_a_short_passage_that_is_all_in_the_prompt_is_no_match():
    assert left("paraphrase", "the boiler had", SUFFIX, "the boiler had", RECORD) is None


@given(st.text("ab", max_size=60), st.text("ab", max_size=40), st.text("ab", max_size=20))
def test_the_echoed_beginning_is_what_a_slow_loop_finds(prompt, start, rest):
    passage = start + rest
    n = max(n for n in range(len(passage) + 1) if passage[:n] in prompt)
    assert echoed_characters(passage, prompt) == (n if n >= 25 or n == len(passage) else 0)


def test_a_long_echo_is_counted_to_its_last_character():
    assert echoed_characters(RECORD, "Dear all. " + PROMPT) == len(PROMPT)
