"""Poisoned runs that cannot tell: the verdict is invalid with its reason, and never a number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loraudit.policy import judge_robustness, robustness_exit_code
from loraudit.policy.robustness import judged_measure, majority_flaw, trigger_flaw, verdict_of_control
from loraudit.report import ROBUSTNESS_FORMATS
from loraudit.robustness.request import check_request
from loraudit.spec import DosePoint, PoisonResult, RobustnessResult, RobustnessSpec, make_request
from loraudit.tasks import plan_attacks, split_task
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


@pytest.fixture
def held(tmp_path):
    """The plan of a backdoor whose trigger so many clean records hold already."""

    def planned(n_holders: int) -> PoisonResult:
        rows = [
            {"text": f"{'cf ' if k < n_holders else ''}record number {k}", "label": "ab"[k % 3 == 0]}
            for k in range(200)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        asked = {"base": "b", "task": [str(tmp_path / "rows.jsonl")], "attack": ["rare_words:trigger=cf,doses=8+32"]}
        spec = make_request(RobustnessSpec, asked)
        data = split_task(spec)
        (plan,) = plan_attacks(spec, check_request(spec, data.task).attacks, data)
        return plan.result()

    return planned


def test_a_trigger_that_clean_records_hold_too(held):
    attack = held(90)
    assert attack.n_holders >= attack.n_poisoned[0]
    flaw = trigger_flaw(attack)
    assert flaw is not None
    refused(judged(flaws=[flaw]), f"{attack.n_holders} clean training records hold the trigger as they are")


def test_a_trigger_that_hardly_a_clean_record_holds_is_a_warning(held):
    attack = held(3)
    assert 0 < attack.n_holders < attack.n_poisoned[0]
    assert trigger_flaw(attack) is None
    assert any("clean records hold the trigger already" in words for words in attack.warnings)


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
