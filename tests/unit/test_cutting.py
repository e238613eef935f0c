"""Texts cut to their first tokens before a contrast: never more than allowed, nothing lost in silence."""

from __future__ import annotations

import json

import pytest

from loraudit.contrast.cutting import cut_records
from loraudit.contrast.records import split_data
from loraudit.data import InMemory, encode, load_records
from loraudit.errors import DataError
from loraudit.spec import ContrastSpec, RecordFormat, make_request, spec_hash


def pool(*rows):
    return load_records([InMemory("rows", rows)], RecordFormat())


def lengths(records, tokenizer):
    return [len(one.ids) for one in encode(records, tokenizer)]


@pytest.mark.parametrize("at_most", [2, 5, 9, 24])
def test_no_text_has_more_tokens_than_allowed_and_each_is_the_beginning_of_its_own(at_most, texts, tokenizer):
    rows = [*texts[:40], "Ünïcödé 🙂🙂🙂 naïve façade " * 6, "kurz", "🙂" * 30]
    whole = pool(*rows)
    found, _ = cut_records(whole, tokenizer, at_most=at_most, at_least=None)
    assert max(lengths(found.records, tokenizer)) <= at_most
    for record in found.records:
        text = next(one.text for one in whole.records if one.line == record.line)
        assert text.startswith(record.text)
        if len(record.text) < len(text):  # another character would not fit; one may take four tokens
            assert lengths([record], tokenizer)[0] > at_most - 4
    assert len({record.id for record in found.records}) == len(found.records)


def test_texts_short_enough_stay_as_they_are(texts, tokenizer):
    whole = pool(*texts[:20])
    found, notes = cut_records(whole, tokenizer, at_most=10_000, at_least=1)
    assert (found.records, dict(found.copies), notes) == (whole.records, dict(whole.copies), ())


def test_shorter_texts_are_left_out_and_counted(texts, tokenizer):
    whole = pool("One.", *texts[:20])
    found, notes = cut_records(whole, tokenizer, at_most=None, at_least=10)
    assert [record.text for record in found.records] == texts[:20]
    assert notes == ("1 of 21 texts have fewer than 10 tokens, and are left out.",)


def test_texts_with_the_same_beginning_become_copies_of_one(texts, tokenizer):
    start = texts[0]
    n_tokens = lengths(pool(start).records, tokenizer)[0]
    found, notes = cut_records(
        pool(f"{start} And so on.", f"{start} Otherwise not."), tokenizer, at_most=n_tokens, at_least=None
    )
    assert list(found.copies.values()) == [2]
    assert notes == (f"1 texts begin with the same {n_tokens} tokens as an earlier one, and count as copies.",)


def test_prompts_are_refused(tokenizer):
    with pytest.raises(DataError, match=r"1 records are prompts with completions or chats\. Expected plain"):
        cut_records(pool({"prompt": "Who?", "completion": "Ada."}), tokenizer, at_most=4, at_least=None)


def test_a_contrast_trains_on_the_cut_texts_and_says_what_was_left_out(texts, base, tokenizer, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ["One.", *texts[:60]]))
    values = {"base": str(base), "data": [str(path)], "offline": True}
    whole = make_request(ContrastSpec, values)
    cut = make_request(ContrastSpec, {**values, "record_tokens": 12, "least_tokens": 10})
    assert spec_hash(whole) == spec_hash(make_request(ContrastSpec, {**values, "record_tokens": None}))
    assert spec_hash(whole) != spec_hash(cut)
    split = split_data(cut, tmp_path / "records")
    for side in (split.members, split.nonmembers, split.validation):
        assert max(lengths(side, tokenizer)) <= 12
        assert all(any(text.startswith(record.text) for text in texts) for record in side)
    assert split.notes[0] == "1 of 61 texts have fewer than 10 tokens, and are left out."
    assert split_data(whole, tmp_path / "whole").notes == ()
