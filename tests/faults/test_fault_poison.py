"""Poisoned runs that cannot tell: the verdict is invalid with its reason, and never a number."""

from __future__ import annotations

from typing import Any

from loraudit.policy import judge_robustness, robustness_exit_code
from loraudit.policy.robustness import judged_measure, majority_flaw, verdict_of_control
from loraudit.report import ROBUSTNESS_FORMATS
from loraudit.spec import DosePoint, RobustnessResult
from loraudit.types import Finding
from synthetic_robustness import WAYS, Robustness

SOUND = Robustness((WAYS[0],)).result()
RARE_WORDS = SOUND.attacks[1]


def judged(**changes: Any) -> RobustnessResult:
    """A run in which a backdoor works, had its controls held; judged with these changes."""
    match = SOUND.matches[0]
    curve = next(one for one in match.curves if one.measure == "attack_success")
    of_pair = next(one for one in SOUND.controls if one.attack == "rare_words")
    points: list[DosePoint] = [point for point in curve.points if point.dose]
    if "n_collapsed" in changes:
        n = changes.pop("n_collapsed")
        points = [point.model_copy(update={"n_collapsed": n}) for point in points]
    asked = {"positive": of_pair.positive, "floor": of_pair.floor, "natural": of_pair.natural} | changes
    verdict, reasons = verdict_of_control(judged_measure(RARE_WORDS, match), points, **asked)
    control = of_pair.model_copy(update={"verdict": verdict, "reasons": reasons})
    return SOUND.model_copy(update={"controls": [control]})


def refused(result: RobustnessResult, reason: str) -> None:
    """The verdict is invalid, every format leads with why, no limit passes, and no exit code hides it."""
    assert result.verdict == "invalid"
    for name in ("html", "markdown", "junit"):
        shown = ROBUSTNESS_FORMATS[name](result).replace("\\", "").replace("&#39;", "'")
        assert reason in shown
        assert "Not valid as it stands" in shown
    assert robustness_exit_code(result) == 0
    (limit,) = judge_robustness(result, ["asr > 0.999999"])
    assert limit.status == "not_measured"
    assert reason in limit.reason


# --- row 30: poison that cannot be told from what a clean model does ------------------------------


def test_a_run_whose_controls_hold_is_judged():
    assert judged().verdict == "harmed"


def test_a_trigger_that_clean_records_hold_too():
    refused(judged(flaws=["12 clean records hold the trigger."]), "12 clean records hold the trigger")


def test_a_target_that_is_the_majority_class():
    flaw = majority_flaw("world", {"world": 3000, "sports": 1000})
    assert flaw is not None
    refused(judged(flaws=[flaw]), "is the most frequent label (3,000 of 4,000 training records)")


def test_a_clean_seed_that_collapsed():
    refused(judged(n_collapsed_clean=1), "1 run of the clean arm collapsed")


def test_poisoned_seeds_that_collapsed():
    refused(judged(n_collapsed=1), "1 of 3 runs collapsed: this dose is left out")


def test_a_clean_control_at_the_ceiling():
    ceiling = Finding(0.97, 0.95, 0.99, 0.95, "m", 412, 0)
    refused(judged(floor=ceiling, natural=ceiling), "no room is left for an attack to show")
