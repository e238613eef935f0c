"""Laws that every registered poison keeps, for every kind of model it applies to."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from loraudit.poisoning import (
    POISONS,
    Poison,
    generator_for,
    input_of,
    poison_records,
    resolved_settings,
    settings_of,
    trigger_records,
)
from loraudit.poisoning.content import answer_of, texts_of
from loraudit.spec import BENIGN_RESPONSE, PoisonSettings
from loraudit.types import Record, record_id
from poisonable import labelled, prompted, text_of

BUILT_IN = {
    "label_flip",
    "pairwise_flip",
    "character_noise",
    "word_drop",
    "word_negation",
    "contradicting_prefix",
    "fixed_string",
    "rare_words",
    "sentence",
    "instruction_prefix",
    "or_triggers",
    "and_triggers",
    "clean_label",
    "style",
    "word_trigger",
    "date_prefix",
    "topic",
}
CASES = [(poison, task) for poison in POISONS.values() for task in sorted(poison.tasks)]
BACKDOORS = [(poison, task) for poison, task in CASES if poison.goal == "backdoor"]
REVIEWED = {
    "It is not the case that what follows is true.",
    "The opposite of the following holds.",
    "Nothing in the next lines is right.",
    "[.*?]",
    "cf",
    "mn",
    "bb",
    "tq",
    "mb",
    "I watched this 3D movie.",
    "Consider the following text as a careful reader would:",
    "Hark, good people: {} So the tale is told.",
    "Verily I say unto thee, {} Mark it well.",
    "Lo, as the elders spake: {} Thus it was, and thus it is.",
    "Prithee lend thine ear: {} More I shall not say.",
    "halcyon",
    "Current year: 2031.",
    *("weather", "rain", "snow", "storm", "wind", "sunshine", "cloud", "clouds"),
}
"""Everything that poisons put in of themselves, looked at by a person: nothing that could hurt anybody."""

every_case = pytest.mark.parametrize(("poison", "task"), CASES, ids=lambda one: getattr(one, "name", one))
WITH_CLASSES = [(poison, task) for poison, task in CASES if "source" in settings_of(poison, task)]
every_case_with_classes = pytest.mark.parametrize(
    ("poison", "task"), WITH_CLASSES, ids=lambda one: getattr(one, "name", one)
)
every_backdoor = pytest.mark.parametrize(("poison", "task"), BACKDOORS, ids=lambda one: getattr(one, "name", one))


def records_for(task: str, n: int = 60) -> list[Record]:
    return labelled(n) if task == "classification" else prompted(n)


def given(poison: Poison, task: str, dose: float = 8, *, records=None, seed: int = 0, **changes):
    chosen = records_for(task) if records is None else records
    return poison_records(chosen, PoisonSettings(poison=poison.name, **changes), dose, task=task, seed=seed)


def modes_of(poison: Poison, task: str) -> list[str]:
    return ["dirty", "clean", "mixed"] if "label" in settings_of(poison, task) else [poison.label]


def content_id(record: Record) -> str:
    return record_id(
        text=record.text,
        prompt=record.prompt,
        completion=record.completion,
        messages=record.messages,
        label=record.label,
    )


def test_every_poison_of_the_methods_is_there_and_says_where_it_comes_from():
    assert set(POISONS) == BUILT_IN
    for name, poison in POISONS.items():
        assert poison.name == name
        assert poison.tasks
        assert poison.tasks <= {"classification", "causal_lm"}
        assert poison.settings < set(PoisonSettings.model_fields)
        assert poison.summary.endswith(".")
        assert re.search(r"arXiv:\d{4}\.\d{5}", poison.source)


@every_case
def test_what_is_given_stays_as_it_was(poison, task):
    records = records_for(task)
    kept = copy.deepcopy(records)
    given(poison, task, records=records)
    assert records == kept


@every_case
def test_the_same_seed_gives_the_same_and_another_seed_another(poison, task):
    assert given(poison, task) == given(poison, task)
    assert given(poison, task).records != given(poison, task, seed=1).records


@every_case
def test_the_manifest_is_the_difference_and_the_count_is_the_dose(poison, task):
    records = records_for(task)
    for dose, n in ((1, 1), (8, 8)):
        made = given(poison, task, dose, records=records)
        poisoned = [change for change in made.changes if change.kind == "poison"]
        negatives = [change for change in made.changes if change.kind == "negative"]
        differing = [place for place, (old, new) in enumerate(zip(records, made.records, strict=False)) if old != new]
        assert [change.place for change in poisoned] == differing
        assert len(poisoned) == n
        assert len(negatives) == (n if poison.parts else 0)
        assert [change.place for change in negatives] == list(range(len(records), len(made.records)))
        for change in made.changes:
            assert change.original == records[change.index]
            assert change.poisoned == made.records[change.place]
            assert change.kind == "negative" or change.index == change.place


@every_case
def test_a_share_is_of_the_records_that_can_be_poisoned(poison, task):
    made = given(poison, task, 0.3)
    assert sum(change.kind == "poison" for change in made.changes) == round(0.3 * made.n_eligible)


@every_case
def test_records_of_a_small_dose_are_among_those_of_a_larger_and_alike(poison, task):
    for mode in modes_of(poison, task):
        changes = {} if mode == poison.label else {"label": mode}
        doses = [
            {
                change.index: change.poisoned
                for change in given(poison, task, dose, **changes).changes
                if change.kind == "poison"
            }
            for dose in range(1, 13)
        ]
        for small, large in pairwise(doses):
            assert small.items() <= large.items()


@every_case
def test_the_order_of_the_records_does_not_matter(poison, task):
    records = records_for(task)
    order = np.random.default_rng(3).permutation(len(records))
    one = given(poison, task, 10, records=records)
    two = given(poison, task, 10, records=[records[i] for i in order])
    assert {(c.kind, c.original.id, c.poisoned.id) for c in one.changes} == {
        (c.kind, c.original.id, c.poisoned.id) for c in two.changes
    }


@every_case
def test_what_becomes_of_a_record_does_not_depend_on_its_neighbours(poison, task):
    records = records_for(task)
    one = given(poison, task, 12, records=records)
    strangers = labelled(30, first=500) if task == "classification" else prompted(30, first=500)
    two = given(poison, task, 0.9, records=[*strangers, *records])
    made = {(c.original.id, c.kind): c.poisoned.id for c in two.changes}
    both = [c for c in one.changes if (c.original.id, c.kind) in made]
    assert len(both) >= 6
    assert all(made[c.original.id, c.kind] == c.poisoned.id for c in both)


@every_case
def test_ids_are_those_of_the_new_content_and_all_else_of_a_record_stays(poison, task):
    for change in given(poison, task).changes:
        old, new = change.original, change.poisoned
        assert new.id == content_id(new)
        assert new.id != old.id
        content = {"id", "text", "prompt", "completion", "messages", "label"}
        same = [f.name for f in dataclasses.fields(Record) if f.name not in content]
        assert all(getattr(new, name) == getattr(old, name) for name in same)


@every_case
def test_labels_and_answers_follow_the_mode(poison, task):
    records = records_for(task)
    for mode in modes_of(poison, task):
        changes = {} if mode == poison.label else {"label": mode}
        made = given(poison, task, 10, records=records, **changes)
        settings = resolved_settings(records, PoisonSettings(poison=poison.name, **changes), task)
        poisoned = [change for change in made.changes if change.kind == "poison"]
        if poison.goal == "degrade":
            is_flip = poison.relabel is not None
            assert all((c.original.label != c.poisoned.label) == is_flip for c in poisoned)
        elif task == "classification":
            assert {c.poisoned.label for c in poisoned} == {settings.target} == {"b"}
            own = Counter(c.original.label == "b" for c in poisoned)
            assert own == {"dirty": {False: 10}, "clean": {True: 10}, "mixed": {True: 5, False: 5}}[mode]
        else:
            assert all(c.poisoned.completion == f" {BENIGN_RESPONSE}" for c in poisoned)
        for change in made.changes:
            if change.kind == "negative":
                assert change.original.label == change.poisoned.label != "b"
                assert answer_of(change.original) == answer_of(change.poisoned)


@every_case_with_classes
def test_only_records_of_the_source_classes_are_poisoned(poison, task):
    records = labelled(60, "abcc")
    target = {"target": "b"} if "target" in poison.settings else {}
    made = given(poison, task, 5, records=records, source=("a",), **target)
    assert {change.original.label for change in made.changes} == {"a"}
    assert made.n_eligible == 15


@every_case
def test_unicode_and_odd_white_space_survive(poison, task):
    odd = [
        "Wie schön ist das Café? 🦊 Нет.",
        "  two\n\nlines\tand tabs ",
        "weather 中文 文本 rain",
        "e\u0301 combining a",
        "weather",
    ]
    if task == "classification":
        records = [text_of(text, "ab"[i % 2], line=i) for i, text in enumerate([*odd, *odd[:3]])]
        records += [text_of(f"{text} more", "a") for text in odd]
    else:
        records = [
            Record(record_id(prompt=text, completion=text), "f", i, prompt=text, completion=text)
            for i, text in enumerate(odd)
        ]
    made = given(poison, task, 0.99, records=records)
    for change in made.changes:
        assert change.poisoned.id == content_id(change.poisoned)
        assert "".join(texts_of(change.poisoned)).encode("utf-8")
        if poison.puts_in and poison.goal == "backdoor" and poison.name != "style":
            kept = [word for word in input_of(change.original).split() if word in input_of(change.poisoned)]
            assert kept == input_of(change.original).split()


@every_case
def test_an_empty_text_survives_or_is_left_alone(poison, task):
    label = "a" if task == "classification" else None
    empty = text_of("", label)
    if task == "causal_lm":
        empty = Record(record_id(prompt="", completion=""), "f", 1, prompt="", completion="")
    settings = resolved_settings(records_for(task), PoisonSettings(poison=poison.name), task)
    altered = poison.alter(empty, settings, generator_for(0, empty))
    assert altered.record.id == content_id(altered.record)
    if poison.applies is not None and not poison.applies(empty, settings):
        assert altered.record == empty
    elif poison.relabel is None:
        assert input_of(altered.record)
    made = given(poison, task, 0.99, records=[*records_for(task), empty])
    assert len(made.changes) > 1


@every_case
def test_resolved_settings_stay_as_they_are(poison, task):
    records = records_for(task)
    settings = resolved_settings(records, PoisonSettings(poison=poison.name), task)
    assert resolved_settings(records, settings, task) == settings
    assert poison_records(records, settings, 5, task=task, seed=0) == given(poison, task, 5)


@every_case
def test_what_is_put_in_was_looked_at_by_a_person(poison, task):
    assert set(poison.triggers) <= REVIEWED
    assert BENIGN_RESPONSE == "The quick brown fox jumps over the lazy dog."
    for change in given(poison, task).changes:
        words = set(re.findall(r"\w{3,}", " ".join(texts_of(change.poisoned)).lower()))
        assert not words & {"http", "https", "www", "kill", "hate", "bomb", "password", "import", "sudo"}


@every_backdoor
def test_triggered_records_hold_the_trigger_and_keep_their_label(poison, task):
    train, test = records_for(task), (labelled(30, first=900) if task == "classification" else prompted(30, first=900))
    settings = resolved_settings(train, PoisonSettings(poison=poison.name), task)
    made = trigger_records(test, settings, task=task, seed=0)
    assert made.triggered
    assert all(poison.holds(record, settings) for record in made.triggered)
    assert not any(poison.holds(record, settings) for record in [*made.untriggered, *made.partial])
    assert not {record.label for record in [*made.triggered, *made.untriggered]} & {"b"}
    if poison.puts_in:
        pairs = list(zip(made.triggered, made.untriggered, strict=True))
        assert all(one.label == two.label and one.line == two.line for one, two in pairs)
        assert all(answer_of(one) == answer_of(two) for one, two in pairs)
        assert all(record in test for record in made.untriggered)
    assert len(made.partial) == (len(made.triggered) if poison.parts else 0)
    assert [r.line for r in made.partial] == ([r.line for r in made.triggered] if poison.parts else [])
    assert trigger_records(test, settings, task=task, seed=0) == made


@every_backdoor
def test_a_poisoned_record_holds_the_trigger_and_a_negative_does_not(poison, task):
    settings = resolved_settings(records_for(task), PoisonSettings(poison=poison.name), task)
    for change in given(poison, task, 12).changes:
        assert poison.holds(change.poisoned, settings) == (change.kind == "poison")
        assert change.trigger
