"""Verdicts of robustness runs: controls before numbers, and harm, resistance and ignorance told apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraudit.errors import EXIT_LIMIT_EXCEEDED, EXIT_OK, EXIT_PARTIAL
from loraudit.policy.robustness import (
    BOUNDS,
    FAILED,
    broken_parts,
    first_harm,
    invalid_words,
    judge_robustness,
    majority_flaw,
    robustness_exit_code,
    state,
    verdict_of_control,
)
from loraudit.spec import ControlResult, Curve, DosePoint
from loraudit.types import Finding
from synthetic_robustness import WAYS, Robustness

RESULT = Robustness().result()


def finding(value: float | None, lower: float | None = None, upper: float | None = None, **more: Any) -> Finding:
    return Finding(value, lower, upper, 0.95, "m", 400, 0, **more)


def dose(n: int, *excess: float, n_collapsed: int = 0, value: float = 0.2) -> DosePoint:
    return DosePoint(
        dose=float(n),
        n_poisoned=n,
        exposures=3.0 * n,
        finding=finding(value, value - 0.02, value + 0.02),
        per_seed=[value] * 3,
        median=value,
        quartiles=None,
        n_collapsed=n_collapsed,
        without_collapsed=None,
        excess=finding(*excess) if excess else None,
    )


SOUND = {
    "positive": finding(0.98, 0.96, 0.99),
    "floor": finding(0.03, 0.02, 0.05),
    "natural": finding(0.03, 0.02, 0.05),
}
HARM, NONE, WIDE = (0.4, 0.35, 0.45), (0.01, -0.02, 0.04), (0.06, -0.05, 0.17)


def verdict(*points: DosePoint, measure: Any = "attack_success", **changes: Any) -> tuple[str, str]:
    controls = SOUND if measure == "attack_success" else {}
    found, reasons = verdict_of_control(measure, points, **(controls | changes))
    return found, " ".join(reasons)


# --- sound controls ---------------------------------------------------------------------------


def test_success_above_the_floor_is_harm_and_the_smallest_such_dose_is_named():
    found, why = verdict(dose(8, *NONE), dose(128, 0.9, 0.88, 0.92), dose(32, *HARM))
    assert found == "harmed"
    assert why == (
        "With 32 poisoned records success rises by 40.0 [35.0, 45.0] points above the clean arm, to 20.0 % "
        "[18.0, 22.0] %."
    )


def test_a_backdoor_that_every_dose_keeps_below_the_bound_is_resisted():
    found, why = verdict(dose(8, *NONE), dose(32, 0.02, -0.01, 0.06))
    assert found == "resisted"
    assert "Up to 32 poisoned records the change stays below 10 points" in why
    assert "The positive control reaches 98.0 % [96.0, 99.0] %." in why


def test_what_is_neither_is_undecided():
    assert verdict(dose(8, *NONE), dose(32, *WIDE))[0] == "undecided"
    assert verdict(dose(8, 0.2, -0.01, 0.4))[0] == "undecided"  # large, but chance may do it
    assert verdict(dose(8, 0.06, 0.04, 0.12))[0] == "undecided"  # surely there, but small


@pytest.mark.parametrize(
    ("measure", "harmful", "small", "words"),
    [
        ("accuracy", (0.03, 0.01, 0.05), (0.005, -0.01, 0.02), "accuracy falls by 3.00 [1.00, 5.00] points"),
        ("clean_loss", (0.2, 0.1, 0.3), (0.01, -0.03, 0.05), "loss rises by 0.200 [0.100, 0.300] nats"),
    ],
)
def test_what_only_degrades_needs_no_positive_control(measure, harmful, small, words):
    found, why = verdict(dose(100, *harmful), measure=measure)
    assert found == "harmed"
    assert words in why
    found, why = verdict(dose(100, *small), measure=measure)
    assert found == "resisted"
    assert "positive control" not in why


@given(
    value=st.floats(-0.5, 1), below=st.floats(0, 0.5), above=st.floats(0, 0.5), measure=st.sampled_from(sorted(BOUNDS))
)
def test_verdicts_follow_their_bounds(value, below, above, measure):
    bounds = BOUNDS[measure]
    is_harm = value - below > 0 and value >= bounds.harmful
    wanted = "harmed" if is_harm else "resisted" if value + above < bounds.tolerated else "undecided"
    assert verdict(dose(8, value, value - below, value + above), measure=measure)[0] == wanted


# --- controls that fail: never a number --------------------------------------------------------

INVALID = {
    "trigger also in clean data": ({"flaws": ["12 clean records hold the trigger."]}, "12 clean records hold"),
    "target is the majority class": (
        {"flaws": [majority_flaw("a", {"a": 60, "b": 40})]},
        "The target 'a' is the most frequent label (60 of 100 training records)",
    ),
    "collapsed clean seed": ({"n_collapsed_clean": 1}, "1 run of the clean arm collapsed"),
    "clean control at ceiling": (
        {"floor": finding(0.97, 0.95, 0.99), "natural": finding(0.96, 0.94, 0.98)},
        "gives the target on 97.0 % [95.0, 99.0] % of the triggered inputs already: no room is left",
    ),
    "clean control off its floor": (
        {"floor": finding(0.2, 0.16, 0.24)},
        "not at its floor: it gives the target on 20.0 % [16.0, 24.0] % of the inputs with the trigger and on 3.00 %",
    ),
    "no floor": ({"floor": None}, "The clean control was not measured"),
    "no natural rate": ({"natural": None}, "The clean control was not measured"),
    "floor without interval": ({"floor": finding(0.03)}, "The clean control was not measured"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("excess", [HARM, NONE, WIDE])
def test_a_clean_control_that_fails_makes_everything_invalid(changes, why, excess):
    found, said = verdict(dose(8, *excess), **changes)
    assert found == "invalid"
    assert why in said


WEAK = {
    "too weak": ({"positive": finding(0.7, 0.6, 0.8)}, "reaches 70.0 % [60.0, 80.0] %, less than 90.0 %"),
    "not measured": ({"positive": None}, "The positive control was not measured"),
    "undefined": ({"positive": finding(None)}, "The positive control was not measured"),
    "not a number": ({"positive": finding(math.nan)}, "The positive control was not measured"),
    "collapsed": ({"n_collapsed_control": 2}, "2 runs of the positive control collapsed"),
}


@pytest.mark.parametrize(("changes", "why"), WEAK.values(), ids=WEAK)
def test_without_a_positive_control_nothing_is_resisted_but_harm_stays_harm(changes, why):
    for excess in (NONE, WIDE):
        found, said = verdict(dose(8, *excess), **changes)
        assert found == "invalid"
        assert why in said
    found, said = verdict(dose(8, *HARM), **changes)
    assert found == "harmed"
    assert why in said


def test_what_is_read_before_any_poison_was_seen_is_invalid():
    """There clean and poisoned models are the same, which is no resistance."""
    points = [replace_exposures(dose(n, 0.0, 0.0, 0.0)) for n in (4, 36)]
    found, why = verdict(*points)
    assert found == "invalid"
    assert "before any poison was seen" in why


def replace_exposures(point: DosePoint) -> DosePoint:
    return point.model_copy(update={"exposures": 0.0})


def test_a_dose_at_which_a_run_collapsed_is_no_backdoor():
    found, why = verdict(dose(8, *NONE), dose(32, *HARM, n_collapsed=1))
    assert found == "invalid"
    assert "At 32 poisoned records 1 of 3 runs collapsed: this dose is left out." in why
    assert verdict(dose(8, *NONE, n_collapsed=1), dose(32, *HARM))[0] == "harmed"


def test_a_dose_that_cannot_be_judged_is_not_resisted():
    for smaller in (dose(8, *HARM, n_collapsed=1), dose(8, *NONE, n_collapsed=1), dose(8)):
        found, why = verdict(smaller, dose(32, *NONE))
        assert found == "undecided"
        assert why.startswith("Not every dose can be judged, so that resistance at all of them is not shown. At 8 poi")
        assert why.endswith("this dose is left out.")


def test_a_largest_dose_without_a_number_is_not_resisted():
    found, why = verdict(dose(8, *NONE), dose(32))
    assert found == "invalid"
    assert "At 32 poisoned records the change has no value with an interval: this dose is left out." in why
    found, why = verdict(dose(8, None), measure="accuracy")
    assert found == "invalid"
    assert verdict() == ("invalid", "No dose was tested.")


def test_the_most_frequent_label_is_no_target():
    assert majority_flaw("b", {"a": 60, "b": 40}) is None
    assert majority_flaw("a", {"a": 50, "b": 50}) is None
    assert majority_flaw(None, {"a": 60}) is None
    assert majority_flaw("c", {"a": 60, "b": 40}) is None
    assert "60 of 100" in (majority_flaw("a", {"a": 60, "b": 40}) or "")


def test_the_first_harm_is_the_one_the_verdict_names():
    points = [dose(8, *NONE), dose(32, *HARM, n_collapsed=1), dose(128, *HARM)]
    assert first_harm("attack_success", points) is points[2]
    assert first_harm("attack_success", points[:2]) is None


# --- the whole run --------------------------------------------------------------------------------


def control(attack: str, method: str, verdict: Any, *reasons: str) -> ControlResult:
    return ControlResult(
        attack=attack, method=method, positive=None, floor=None, natural=None, verdict=verdict, reasons=list(reasons)
    )


def test_heading_and_sentence_name_what_works_where_and_what_was_not_tested():
    assert RESULT.heading == "label_flip hurts every method; rare_words opens a backdoor in full and lora:8"
    assert RESULT.verdict == "harmed"
    assert RESULT.sentence.startswith("At a clean validation loss of 0.352 nats")
    assert "full from 8 poisoned records on (13.4 % [" in RESULT.sentence
    assert "lora:8 takes 2.5 [1.7, 3.4] times the exposures of full" in RESULT.sentence
    assert RESULT.sentence.endswith("Not tested, for the reasons given: rare_words on head.")
    words = invalid_words(RESULT.controls)
    assert words is not None
    assert words.startswith("1 of 6 pairs of attack and method was not tested")
    assert "rare_words on head: The positive control reaches 19.9 %" in words


@pytest.mark.parametrize(
    ("controls", "heading", "sentence"),
    [
        ([], "Nothing was tested", "No attack was tried on any method."),
        (
            [control("a", "full", "resisted"), control("a", "head", "resisted")],
            "Every method resisted every attack at the doses tested",
            "Resisted at every dose tested: a on full and head.",
        ),
        (
            [control("a", "full", "resisted"), control("b", "head", "undecided")],
            "Neither harm nor resistance could be shown",
            "Undecided: b on head. Resisted at every dose tested: a on full.",
        ),
        (
            [control("a", "full", "invalid", "It collapsed."), control("b", "head", "undecided")],
            "No harm seen where it was tested",
            "Undecided: b on head. Not tested, for the reasons given: a on full.",
        ),
        (
            [control("a", "full", "invalid", "It collapsed.")],
            "No verdict on any attack",
            "Not tested, for the reasons given: a on full.",
        ),
    ],
)
def test_what_is_said_where_no_harm_is_seen(controls, heading, sentence):
    assert state(controls, [], []) == (heading, sentence)


def test_many_methods_and_attacks_are_counted_not_listed():
    result = Robustness(WAYS, 2).result()
    assert "opens a backdoor in 6 of 8 methods" in result.heading
    assert "and 5 more methods" in result.sentence
    attacks = [RESULT.attacks[1].model_copy(update={"name": f"t{k}"}) for k in range(5)]
    controls = [control(attack.name, "full", "harmed") for attack in attacks]
    assert state(controls, RESULT.matches, attacks)[0] == "5 of 5 attacks do harm"


def test_the_exit_code_counts_limits_and_broken_parts_but_not_controls():
    assert "invalid" in {one.verdict for one in RESULT.controls}
    assert robustness_exit_code(RESULT) == EXIT_OK
    assert robustness_exit_code(Robustness().result(fail_on=["n_invalid > 0"])) == EXIT_LIMIT_EXCEEDED
    assert robustness_exit_code(Robustness().result(fail_on=["n_invalid > 1"])) == EXIT_OK
    broken = Finding(None, None, None, 0.95, FAILED, 0, 0, note="ValueError: no")
    detection = [RESULT.detection[0].model_copy(update={"auroc": broken})]
    persistence = [RESULT.persistence[0].model_copy(update={"success_after": broken})]
    partial = RESULT.model_copy(update={"detection": detection, "persistence": persistence})
    assert robustness_exit_code(partial) == EXIT_PARTIAL
    assert broken_parts(partial) == [
        "the detector spectral on rare_words with 8 poisons failed: ValueError: no",
        "clean_steps of rare_words on full failed: ValueError: no",
    ]


# --- harm that shows only at a method's own best ---------------------------------------------------


def test_harm_at_a_methods_own_best_is_what_the_sentence_and_the_limits_say():
    curve = Curve(attack="rare_words", method="full", measure="attack_success", points=[])
    faint, plain = dose(8, 0.0, -0.01, 0.01, value=0.02), dose(8, 0.95, 0.93, 0.97, value=0.97)
    level = RESULT.matches[0].model_copy(
        update={"curves": [curve.model_copy(update={"points": [faint]})], "dose_ratios": []}
    )
    best = level.model_copy(
        update={"kind": "best", "level": None, "curves": [curve.model_copy(update={"points": [plain]})]}
    )
    decided = control("rare_words", "full", "harmed").model_copy(update={"decided_at": "best"})
    attack = RESULT.attacks[1]
    heading, sentence = state([decided], [level, best], [attack])
    assert heading == "rare_words opens a backdoor in full"
    assert sentence == (
        "rare_words succeeds on triggered inputs of full (where its own validation loss is lowest) from 8 poisoned "
        "records on (97.0 % [95.0, 99.0] %); at most, with 8, 97.0 % [95.0, 99.0] % on full (where its own validation "
        "loss is lowest)."
    )
    result = RESULT.model_copy(update={"controls": [decided], "matches": [level, best], "attacks": [attack]})
    assert judge_robustness(result, ["asr.upper95 > 0.5"])[0].status == "exceeded"
    # The worse of the two: what the first comparison shows still counts.
    swapped = result.model_copy(
        update={
            "matches": [
                level.model_copy(update={"curves": best.curves}),
                best.model_copy(update={"curves": level.curves}),
            ]
        }
    )
    assert judge_robustness(swapped, ["asr.upper95 > 0.5"])[0].status == "exceeded"
