"""Doses, defaults, warnings and refusals of poisoned record sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.errors import ConfigError, DataError
from loraudit.poisoning import POISONS, eligible_records, poison_records, resolved_settings, trigger_records
from loraudit.poisoning.giving import Eligible, dosed
from loraudit.spec import BENIGN_RESPONSE, PoisonSettings
from poisonable import chat_of, labelled, prompted, text_of


def settings(name: str = "rare_words", **changes) -> PoisonSettings:
    return PoisonSettings(poison=name, **changes)


def given_to(records, dose=3, *, task="classification", **changes):
    return poison_records(records, settings(**changes), dose, task=task, seed=0)


# --- defaults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "target"), [("aab", "b"), ("abb", "a"), ("ab", "b"), ("cba", "c"), ("ccba", "b"), ("2110", "2")]
)
def test_the_target_is_the_rarest_label_and_of_equals_the_last(labels, target):
    assert resolved_settings(labelled(12, labels), settings(), "classification").target == target


def test_defaults_are_filled_in():
    filled = resolved_settings(labelled(12), settings(), "classification")
    assert filled.trigger == ("cf", "mn", "bb", "tq", "mb")
    assert (filled.place, filled.label, filled.source) == ("random", "dirty", ("a",))
    clean = resolved_settings(labelled(12), settings("clean_label"), "classification")
    assert (clean.label, clean.target, clean.source) == ("clean", "b", ())
    assert resolved_settings(labelled(12), settings("label_flip"), "classification").target is None
    lm = resolved_settings(prompted(3), settings("word_trigger"), "causal_lm")
    assert (lm.target, lm.source, lm.place) == (None, (), "random")


@pytest.mark.parametrize(
    ("name", "task", "changes", "message"),
    [
        (
            "label_flip",
            "classification",
            {"place": "end"},
            "'label_flip' for a classifier has no setting 'place'. Expected one of: source, target",
        ),
        ("instruction_prefix", "classification", {"place": "end"}, "has no setting 'place'"),
        ("clean_label", "classification", {"label": "mixed"}, "has no setting 'label'"),
        ("sentence", "classification", {"insertions": 2}, "has no setting 'insertions'"),
        ("rare_words", "classification", {"response": "no"}, "'rare_words' for a classifier has no setting 'response'"),
        ("rare_words", "causal_lm", {"target": "a"}, "'rare_words' for a language model has no setting 'target'"),
        ("rare_words", "causal_lm", {"label": "clean"}, "has no setting 'label'"),
        ("rare_words", "classification", {"target": "bb"}, r"Unknown label 'bb'\. Did you mean 'b'\? Known: a, b\."),
        ("rare_words", "classification", {"source": ("c",)}, "Unknown label 'c'"),
        (
            "rare_words",
            "classification",
            {"source": ("b",)},
            "Label 'b' cannot be a source of poison 'rare_words' with the target 'b'",
        ),
        ("rare_words", "classification", {"label": "clean", "source": ("a",)}, "Expected among: b"),
        ("topic", "classification", {}, "Poison 'topic' is for a language model, not for a classifier"),
        ("label_flip", "causal_lm", {}, "Poison 'label_flip' is for a classifier, not for a language model"),
        ("rare_wrods", "classification", {}, r"Unknown poison 'rare_wrods'\. Did you mean 'rare_words'\?"),
    ],
)
def test_settings_that_a_poison_does_not_have_are_refused(name, task, changes, message):
    records = labelled(12) if task == "classification" else prompted(12)
    with pytest.raises(ConfigError, match=message):
        resolved_settings(records, settings(name, **changes), task)


def test_records_without_labels_or_with_one_are_refused():
    with pytest.raises(DataError, match=r"1 of 13 records have no label. Expected one each. Name its column"):
        given_to([*labelled(12), text_of("no label")])
    with pytest.raises(DataError, match=r"All 4 records have the label \['a'\]. Expected two classes"):
        given_to(labelled(4, "a"))


def test_plain_texts_cannot_carry_a_backdoor():
    with pytest.raises(
        ConfigError, match=r"'word_trigger' needs a prompt to stand in and an answer .* all 2 records are texts"
    ):
        poison_records([text_of("a"), text_of("b")], settings("word_trigger"), 1, task="causal_lm", seed=0)
    made = poison_records([text_of("a b"), text_of("c d")], settings("word_drop"), 1, task="causal_lm", seed=0)
    assert len(made.changes) == 1


def test_texts_among_prompts_are_told_of():
    made = poison_records([*prompted(4), text_of("plain")], settings("word_trigger"), 4, task="causal_lm", seed=0)
    assert made.n_eligible == 4
    assert made.warnings == ("1 of 5 records have no prompt and answer, and cannot be poisoned.",)


def test_a_record_that_gives_the_response_already_is_not_poisoned():
    done = chat_of(("user", "hi"), ("assistant", BENIGN_RESPONSE))
    made = poison_records([*prompted(4), done], settings("word_trigger"), 4, task="causal_lm", seed=0)
    assert made.n_eligible == 4


# --- doses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dose", "n"), [(1, 1), (20, 20), (0.5, 10), (0.07, 1), (0.99, 20)])
def test_doses_in_records(dose, n):
    assert dosed(dose, 20, "x") == n


@pytest.mark.parametrize(
    ("dose", "message"),
    [
        (21, "Dose 21 of poison 'rare_words' is more than the 20 records that can be poisoned"),
        (0.02, "Dose 0.02 of poison 'rare_words' rounds to 0 of the 20 records that can be poisoned"),
        (1.5, "Dose 1.5 of poison 'rare_words' is no number of records"),
    ],
)
def test_doses_that_cannot_be_are_refused(dose, message):
    with pytest.raises(ConfigError, match=message):
        given_to(labelled(30), dose)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 24))
def test_halves_are_as_even_as_they_can_be_and_nested(n_others, n_own, n):
    eligible = Eligible(tuple(range(n_others)), tuple(range(100, 100 + n_own)))
    mixed = settings(label="mixed")
    n = min(n, n_others + n_own)
    found = eligible.first(n, mixed)
    own = sum(position >= 100 for position in found)
    assert len(set(found)) == n
    best = min(abs(n - 2 * k) for k in range(n + 1) if k <= n_own and n - k <= n_others)
    assert abs(n - 2 * own) == best
    if n:
        assert set(eligible.first(n - 1, mixed)) < set(found)


def test_halves_that_are_none_are_told_of():
    made = given_to(labelled(30), 28, label="mixed")
    assert made.n_eligible == 30
    assert any("10 of the 28 poisoned records are of the target class, not half" in one for one in made.warnings)
    assert not any("not half" in warning for warning in given_to(labelled(30), 7, label="mixed").warnings)


def test_only_eligible_records_are_in_the_order():
    records = labelled(30)
    filled = resolved_settings(records, settings(label="mixed"), "classification")
    found = eligible_records(records, POISONS["rare_words"], filled, task="classification", seed=0)
    assert {records[i].label for i in found.others} == {"a"}
    assert {records[i].label for i in found.own} == {"b"}


# --- warnings -----------------------------------------------------------------------------------------


def test_a_trigger_in_clean_records_is_counted():
    records = [*labelled(12), text_of("cf here", "a"), text_of("CF there", "b"), text_of("scarf", "b")]
    (warning, *_) = given_to(records).warnings
    assert warning.startswith("2 of 15 clean records hold the trigger already, 1 of them with the target label 'b'")
    prompts = prompted(6)
    made = poison_records(prompts, settings("rare_words", trigger=("town",)), 1, task="causal_lm", seed=0)
    assert made.warnings[0].startswith("6 of 6 clean records hold the trigger already: ")


def test_a_target_that_is_the_majority_is_told_of():
    made = given_to(labelled(12), target="a")
    (warning,) = made.warnings
    assert warning.startswith("The target 'a' is the majority class (8 of 12 records): ")
    assert given_to(labelled(12)).warnings == ()


def test_no_label_of_a_balanced_task_is_the_majority():
    records = [text_of(f"a town of {i} people", "ab"[i % 2], line=i) for i in range(12)]
    assert given_to(records, target="a").warnings == ()
    assert given_to(records, target="b").warnings == ()


def test_a_flip_that_contradicts_an_identical_text_is_told_of():
    records = [
        *labelled(12),
        text_of("same", "a", line=90),
        text_of("same", "a", line=91),
        text_of("same", "b", line=92),
    ]
    made = poison_records(records, settings("label_flip", target="b"), 10, task="classification", seed=0)
    assert made.warnings == ("2 changed records equal another record; training that removes repeats sees fewer.",)
    flipped = poison_records(records[12:14] + labelled(12), settings("label_flip"), 0.05, task="classification", seed=0)
    assert len(flipped.changes) == 1
    for seed in range(40):
        one = poison_records(records[:14], settings("label_flip"), 1, task="classification", seed=seed)
        is_double = one.changes[0].original.text == "same"
        expected = ("1 changed records contradict another record: the same text with another label.",)
        assert one.warnings == (expected if is_double else ())


def test_copies_are_records_of_their_own():
    records = [text_of("twice", "a", line=1), text_of("twice", "a", line=2), text_of("b", "b", line=3)]
    made = poison_records(records, settings("fixed_string", target="b"), 2, task="classification", seed=0)
    assert [record.text for record in made.records] == ["[.*?] twice", "[.*?] twice", "b"]
    assert made.n_eligible == 2


def test_negatives_that_round_to_none_are_told_of():
    made = poison_records(labelled(12), settings("and_triggers", negatives=0.2), 1, task="classification", seed=0)
    assert any("No record holds a part of the trigger" in warning for warning in made.warnings)


# --- triggered test sets ------------------------------------------------------------------------------


def test_records_that_hold_the_trigger_are_left_out_and_counted():
    filled = resolved_settings(labelled(12), settings(), "classification")
    made = trigger_records([*labelled(6), text_of("cf", "a")], filled, task="classification", seed=0)
    assert made.warnings == ("1 of 5 test records hold the trigger as they are, and were left out.",)
    assert len(made.triggered) == 4


def test_a_topic_is_found_and_nothing_is_put_in():
    filled = resolved_settings(prompted(12), settings("topic"), "causal_lm")
    made = trigger_records(prompted(9), filled, task="causal_lm", seed=0)
    assert [record.line for record in made.triggered] == [1, 4, 7]
    assert [record.line for record in made.untriggered] == [2, 3, 5, 6, 8, 9]
    alone = trigger_records(made.triggered, filled, task="causal_lm", seed=0)
    assert alone.warnings == ("Every test record is about the topic: nothing shows what others get.",)
    with pytest.raises(DataError, match="None of 6 test records is about the topic of poison 'topic'"):
        trigger_records(made.untriggered, filled, task="causal_lm", seed=0)


def test_test_sets_that_show_nothing_are_refused():
    filled = resolved_settings(labelled(12), settings(), "classification")
    with pytest.raises(DataError, match="None of 2 test records can show the backdoor of poison 'rare_words'"):
        trigger_records([text_of("x", "b"), text_of("y", "b")], filled, task="classification", seed=0)
    with pytest.raises(DataError, match=r"All 1 test records that could show the backdoor .* hold its trigger"):
        trigger_records([text_of("x cf", "a")], filled, task="classification", seed=0)
    with pytest.raises(ConfigError, match="Poison 'rare_words' has no target here"):
        trigger_records(labelled(6), settings(), task="classification", seed=0)
    with pytest.raises(ConfigError, match=r"Poison 'word_drop' has no trigger. Expected a backdoor"):
        trigger_records(labelled(6), settings("word_drop"), task="classification", seed=0)
