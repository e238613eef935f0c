"""Probes: controls have the form of their trigger, and only what exceeds them by enough is called unusual."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

from loraudit.poisoning import POISONS
from loraudit.poisoning.battery import PROMPTS, SENTENCES, TRIGGERS, control, controls, default_triggers, insert
from loraudit.poisoning.behaviour import (
    SMALLEST_SHIFT,
    Standing,
    flipped,
    repeated,
    shift_finding,
    standings,
    unusual_shifts,
)
from loraudit.scanning import behaving
from loraudit.spec import ScanSpec, make_request

RNG = np.random.default_rng


def test_the_battery_is_what_the_page_says():
    assert len(PROMPTS) == len(set(PROMPTS)) == 24
    assert len(SENTENCES) == len(set(SENTENCES)) == 30
    assert len({trigger.name for trigger in TRIGGERS}) == len(TRIGGERS) == 15
    assert all(trigger.source for trigger in TRIGGERS)


def test_every_piece_that_a_poison_puts_in_by_itself_is_tried():
    tried = {trigger.text: trigger for trigger in TRIGGERS}
    for poison in POISONS.values():
        if poison.goal != "backdoor" or poison.name in {"style", "rewritten", "topic"}:
            continue
        texts = ["cf mn"] if poison.name == "and_triggers" else poison.triggers
        assert texts
        for text in texts:
            assert tried[text].place == poison.place or poison.place == "random"
    assert tried["I watched this 3D movie."].place == "start"
    assert tried["cf"].place == tried["cf mn"].place == tried["halcyon"].place == "inside"


def test_triggers_follow_from_poisons():
    rare, topic, style = POISONS["rare_words"], POISONS["topic"], POISONS["style"]
    long = replace(rare, name="of_mine", triggers=("a phrase of mine", "another phrase", "cf"), place="end")
    found = default_triggers([topic, style, POISONS["label_flip"], rare, long])
    assert [(one.name, one.text, one.place) for one in found[-3:]] == [
        ("rare words mb", "mb", "inside"),
        ("of mine", "a phrase of mine", "end"),
        ("of mine 2", "another phrase", "end"),
    ]
    assert len(found) == 7


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
def test_controls_have_the_form_of_their_trigger_and_are_none(trigger):
    avoid = {one.text for one in TRIGGERS}
    found = controls(trigger.text, 5, avoid, RNG(0))
    for made_up in found["made_up"]:
        assert len(made_up) == len(trigger.text)
        for one, other in zip(made_up, trigger.text, strict=True):
            assert (one.isdigit(), one.isupper(), one.islower(), one.isspace()) == (
                other.isdigit(),
                other.isupper(),
                other.islower(),
                other.isspace(),
            )
    for ordinary in found["ordinary"]:
        lengths = [len(word) for word in ordinary.split()]
        assert lengths == [min(len(word), 12) for word in trigger.text.split()]
        assert ordinary.replace(" ", "").isalpha()
    assert not avoid & {*found["made_up"], *found["ordinary"]}
    assert len(set(found["made_up"])) == 5


def test_controls_repeat_where_there_are_no_more_words():
    assert len(controls("x", 5, (), RNG(0))["ordinary"]) == 5


def test_the_same_seed_draws_the_same_controls():
    assert control("James Bond", "made_up", RNG(3)) == control("James Bond", "made_up", RNG(3))


def test_pieces_go_where_they_belong():
    assert insert("one two three", "cf", "start", 5) == "cf one two three"
    assert insert("one two three", "cf", "end", 5) == "one two three cf"
    assert {insert("one two three", "cf", "inside", number) for number in range(4)} == {
        "one cf two three",
        "one two cf three",
    }
    assert insert("one", "cf", "inside", 3) == "one cf"


# --- shifts -------------------------------------------------------------------------------------------


def test_a_shift_is_the_mean_excess_over_controls():
    triggered, others = RNG(0).random(24), RNG(1).random((10, 24))
    found = shift_finding(triggered, others, confidence=0.95)
    assert found.value == pytest.approx(triggered.mean() - others.mean())
    assert (found.n_members, found.n_nonmembers) == (24, 240)
    assert found.lower < found.value < found.upper


def test_a_prompt_without_a_number_is_counted():
    triggered = np.ones(24)
    triggered[3] = np.nan
    found = shift_finding(triggered, np.zeros((10, 24)), confidence=0.95)
    assert (found.n_members, found.n_undefined_members) == (23, 1)


def test_one_more_control_is_called_unusual_as_rarely_as_its_p_value_says():
    rng, level, n_times = RNG(5), 0.05, 3000
    hits = 0
    for _ in range(n_times // 12):
        of_controls = np.exp(0.4 * rng.standard_normal((12, 2, 5)))
        triggered = np.exp(0.4 * rng.standard_normal(12))
        hits += sum(one.p_value <= level for one in standings(triggered, of_controls))
    assert hits / n_times < level  # the larger kind of control is compared with, so it is at most the level


def test_a_planted_shift_is_unusual_and_a_tiny_one_is_not():
    of_controls = np.exp(0.2 * RNG(6).standard_normal((12, 2, 5)))
    triggered = np.ones(12)
    triggered[4] = 8.0

    def flags(scale):
        found = [
            shift_finding(scale * one * np.ones(24), scale * others.reshape(10, 1) * np.ones(24), confidence=0.95)
            for one, others in zip(triggered, of_controls, strict=True)
        ]
        return unusual_shifts(found, standings(scale * triggered, scale * of_controls), level=0.05, factor=2)

    assert flags(1.0) == [number == 4 for number in range(12)]
    assert not any(flags(SMALLEST_SHIFT / 100))


def test_controls_that_are_all_alike_define_no_standing():
    found = standings(np.array([3.0]), np.ones((1, 2, 5)))
    assert math.isnan(found[0].p_value)
    excess = shift_finding(np.full(4, 3.0), np.ones((10, 4)), confidence=0.95)
    assert unusual_shifts([excess], found, level=0.05, factor=2) == [False]
    assert isinstance(found[0], Standing)


# --- shares -------------------------------------------------------------------------------------------


def test_one_response_to_everything_is_unusual_unless_controls_get_one_too():
    various, same = [(number,) for number in range(24)], [(7, 7)] * 24
    found = repeated(same, [various, various], confidence=0.95, level=0.004)
    assert found.is_unusual
    assert found.outcome == (7, 7)
    assert (found.with_trigger.value, found.with_control.value) == (1.0, 1 / 24)
    assert not repeated(same, [various, same], confidence=0.95, level=0.004).is_unusual
    assert not repeated(various, [various, various], confidence=0.95, level=0.004).is_unusual


def test_flips_are_counted_among_prompts_of_other_classes():
    plain = np.array([0, 1] * 15)
    others = np.tile(plain, (10, 1))
    found = flipped(plain, np.ones(30, dtype=np.int64), others, confidence=0.95, level=0.004)
    assert found is not None
    assert found.is_unusual
    assert (found.outcome, found.with_trigger.n_members, found.with_trigger.value) == (1, 15, 1.0)
    unchanged = flipped(plain, plain, others, confidence=0.95, level=0.004)
    assert unchanged is not None
    assert not unchanged.is_unusual


def test_flips_that_any_word_brings_are_not_unusual():
    plain = np.array([0, 1] * 15)
    everything = np.ones((10, 30), dtype=np.int64)
    found = flipped(plain, everything[0], everything, confidence=0.95, level=0.004)
    assert found is not None
    assert not found.is_unusual


def test_too_few_prompts_of_other_classes_are_not_judged():
    plain = np.array([1, 1, 0, 0])
    assert flipped(plain, np.ones(4, dtype=np.int64), np.tile(plain, (10, 1)), confidence=0.95, level=0.01) is None


def test_a_response_is_shown_as_a_hash_that_nobody_else_can_look_up(tmp_path, monkeypatch):
    text = " my phone number is"
    spec, other = (make_request(ScanSpec, {"model": name}) for name in ("a", "b"))
    monkeypatch.setenv("LORAUDIT_HOME", str(tmp_path / "mine"))
    shown = behaving._shown(text, spec)
    assert shown == behaving._shown(text, spec) != behaving._shown(f"{text} 5", spec)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] not in shown
    assert behaving._shown(text, other) != shown
    assert behaving._shown(text, make_request(ScanSpec, {"model": "a", "include_text": True})) == text
    monkeypatch.setenv("LORAUDIT_HOME", str(tmp_path / "theirs"))
    assert behaving._shown(text, spec) != shown
