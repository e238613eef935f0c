"""Each rule finds its own examples, leaves its counter-examples alone, and stays quick on hostile text."""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import os
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.memorization.personal import RULES, PersonalField, PersonalKind, normalised, personal_fields
from loraudit.memorization.personal.finding import without_overlaps
from loraudit.memorization.personal.payments import passes_luhn

POSITIVE = [(rule, example) for rule in RULES for example in rule.examples]
NEGATIVE = [(rule, text) for rule in RULES for text in rule.not_examples]


def unmarked(example):
    """The text of an example and where its field stands."""
    start, end = example.index("‹"), example.index("›") - 1
    return example.replace("‹", "").replace("›", ""), (start, end)


def found(text):
    return [(field.kind, field.value) for field in personal_fields(text)]


# --- the table ------------------------------------------------------------------------------------------


def test_there_is_one_rule_for_every_kind():
    kinds = [rule.kind for rule in RULES]
    assert sorted(kinds) == sorted(get_args(PersonalKind))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_every_rule_says_what_it_is_and_has_examples_and_counter_examples(rule):
    assert all(len(words) > 10 for words in (rule.summary, rule.source, rule.misses))
    assert len(rule.examples) >= 3
    assert len(rule.not_examples) >= 3


@pytest.mark.parametrize(("rule", "example"), POSITIVE, ids=lambda one: getattr(one, "kind", None))
def test_an_example_gives_exactly_its_field(rule, example):
    text, span = unmarked(example)
    assert personal_fields(text) == [PersonalField(rule.kind, span, text[slice(*span)])]


@pytest.mark.parametrize(("rule", "text"), NEGATIVE, ids=lambda one: getattr(one, "kind", None))
def test_a_counter_example_gives_no_field_of_that_kind(rule, text):
    assert list(rule.find(text)) == []


# --- one text ------------------------------------------------------------------------------------------


def test_several_kinds_stand_in_the_order_of_the_text():
    text = "DOB 17/05/1980, ada@example.com, (555) 555-0142, 12 North Elm Street, Springfield, IL 62701"
    assert [kind for kind, _ in found(text)] == ["date_of_birth", "email", "phone", "street_address", "postal_code"]


def test_of_two_that_overlap_the_longer_stays():
    assert found("https://ada:hunter2@git.example.com/") == [
        ("url_with_credentials", "https://ada:hunter2@git.example.com")
    ]
    fields = [PersonalField("a", (0, 3), "abc"), PersonalField("b", (2, 6), "cdef"), PersonalField("c", (6, 7), "g")]
    assert [field.kind for field in without_overlaps(fields, 7)] == ["b", "c"]


def test_of_two_equally_long_ones_the_more_specific_stays():
    assert found("call 078-05-1120") == [("us_ssn", "078-05-1120")]
    fields = [PersonalField("first", (1, 4), "bcd"), PersonalField("second", (0, 3), "abc")]
    assert [field.kind for field in without_overlaps(fields, 4)] == ["first"]


def test_ordinary_text_holds_nothing():
    assert found("") == []
    assert found("In 1996, 3 of 10 films won; by 2003-04 it was 12.5% (see p. 101-102, vol. 7).") == []


def test_spans_count_characters_beyond_the_basic_plane_once():
    assert personal_fields("😀 ada@example.com")[0].span == (2, 17)


def test_the_printed_form_holds_no_value():
    assert "ada" not in repr(personal_fields("ada@example.com"))


@given(st.lists(st.sampled_from([unmarked(example)[0] for _, example in POSITIVE] + ["", "x", "1", " "]), max_size=4))
def test_fields_never_overlap_and_their_values_stand_at_their_spans(pieces):
    text = " \n ".join(pieces)
    fields = personal_fields(text)
    assert all(text[slice(*field.span)] == field.value != "" for field in fields)
    assert all(one.span[1] <= two.span[0] for one, two in itertools.pairwise(fields))


@given(st.text(alphabet="a1 .-:/@+()#A\n\té０", max_size=60))
def test_any_text_can_be_searched(text):
    assert all(0 <= field.span[0] < field.span[1] <= len(text) for field in personal_fields(text))


@given(st.text("0123456789", min_size=2, max_size=19))
def test_luhn_agrees_with_its_definition(digits):
    total = 0
    for place, digit in enumerate(reversed([int(c) for c in digits])):
        double = digit * 2 if place % 2 else digit
        total += double - 9 if double > 9 else double
    assert passes_luhn(digits) == (total % 10 == 0)


# --- one spelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("email", "Ada@Example.com", "ada@example.COM"),
        ("phone", "+1 (555) 555-0100", "0015555550100"),
        ("phone", "555.555.0100", "(555) 555-0100"),
        ("iban", "GB82 WEST 1234 5698 7654 32", "GB82-WEST-1234-5698-7654-32"),
        ("credit_card", "4111 1111 1111 1111", "4111111111111111"),
        ("ip_address", "2001:db8:0:0:0:0:0:1", "2001:DB8::1"),
        ("street_address", "12 North Elm Street, Apt 4B", "12 north elm street Apt. 4B"),
        ("crypto_wallet", "BC1QW508D6", "bc1qw508d6"),
        ("person", "Ada  Lovelace", "ada lovelace"),
        ("ip_address", "No Address", "no address"),
    ],
)
def test_spellings_of_the_same_thing_are_one(kind, one, other):
    assert normalised(kind, one) == normalised(kind, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("secret", "abC", "abc"),
        ("crypto_wallet", "1BitcoinEaterAddressDontSendf59kuE", "1bitcoineateraddressdontsendf59kue"),
        ("phone", "+44 555 0100", "44 555 0100"),
        ("date_of_birth", "1/12/1980", "11/2/1980"),
    ],
)
def test_spellings_of_different_things_stay_apart(kind, one, other):
    assert normalised(kind, one) != normalised(kind, other)


# --- hostile and real text ------------------------------------------------------------------------------

HOSTILE = (
    *(
        "a",
        "1",
        "1 ",
        "0 ",
        "a@",
        "a@a.",
        "1.1.1.1 ",
        "::",
        "f:",
        "GB82 ",
        "4111 ",
        "4111-1111-1111-1111-",
        "call 5551",
    ),
    *("born 1/1/1980 ", "May 1, 1980 ", "passport A12345 ", "IL 62701 ", "A1B2C3 ", "1 Aa ", "1 Aa Aa Aa ", "rue de "),
    *(
        "password=a",
        "token=a1b2c3d4e5f6 ",
        "eyJaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----\n",
        "a://a:a@a.",
        "bc1a ",
        "3ab",
    ),
    *("+1(1)", "(555) ", "1 A Street, Apt ", "Calle Aa ", "aweg ", "中", "\n"),
)


def slowest(n_characters):
    """Seconds of the slowest rule on the slowest text."""
    seconds = {}
    for seed in HOSTILE:
        text = (seed * (n_characters // len(seed) + 1))[:n_characters]
        for rule in RULES:
            began = time.process_time()
            for _ in rule.find(text):
                pass
            seconds[rule.kind, seed] = time.process_time() - began
    return max((spent, *which) for which, spent in seconds.items())


def test_no_text_makes_a_rule_slow():
    assert slowest(50_000)[0] < 1.0  # 0.06 s measured; a rule of quadratic time would take minutes


@pytest.mark.slow
def test_no_long_text_makes_a_rule_slow():
    assert slowest(1_000_000)[0] < 5.0  # 1.2 s measured


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "opener", "expected"),
    [
        ("imdb/reviews.jsonl.xz", lzma.open, {"email": 30, "street_address": 9, "date_of_birth": 2}),
        ("news_c50/passages.jsonl.gz", gzip.open, {"phone": 801, "email": 23, "street_address": 2, "date_of_birth": 1}),
    ],
    ids=["imdb", "news_c50"],
)
def test_ordinary_prose_gives_few_fields(name, opener, expected):
    folder = os.environ.get("LORAUDIT_DATA")
    if not folder:
        pytest.skip("LORAUDIT_DATA names no folder with the data sets of docs/data.md")
    counts = {rule.kind: 0 for rule in RULES}
    with opener(Path(folder) / name, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for text in texts:
        for field in personal_fields(text):
            counts[field.kind] += 1
    assert {kind: n for kind, n in counts.items() if n} == expected  # as docs/personal-information.md states
