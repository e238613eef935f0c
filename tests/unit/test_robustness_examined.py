"""From made-up outcomes to curves and verdicts: which comparison decided, and macro F1 over the doses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from loraudit.policy.robustness import curve_of, judge_robustness, point_at, state
from loraudit.robustness.examination import examine
from loraudit.robustness.outcomes import CLEAN, Checkpoint, RunOutcomes, Said
from loraudit.spec import PoisonResult, PoisonSettings, RobustnessSpec, make_request
from loraudit.tasks import triggered, untriggered

N = 120
GOLD = np.array([0, 0, 1] * (N // 3))
ATTACK = PoisonResult(
    name="cf",
    poison="rare_words",
    goal="backdoor",
    settings=PoisonSettings(poison="rare_words", target="b", trigger=("cf",)),
    doses=[8.0],
    n_poisoned=[8],
    control_poisoned=90,
    n_eligible=300,
    n_triggered=N,
    warnings=[],
)


def said(values, gold=GOLD) -> Said:
    return Said(np.asarray(values, dtype=float), np.full(N, 0.3), np.ones(N, dtype=int), np.asarray(gold))


def hits(share: float) -> np.ndarray:
    return (np.arange(N) < round(share * N)).astype(float)


def run(method, losses, shares, *, attack=None, dose=0.0, is_control=False, n_wrong=12, seed=0) -> RunOutcomes:
    predicted = np.where(np.arange(N) < n_wrong + seed, 1 - GOLD, GOLD)
    checkpoints = [
        Checkpoint(
            10 * epoch,
            float(epoch),
            loss,
            {
                CLEAN: said(predicted),
                triggered("cf"): said(hits(share)),
                untriggered("cf"): said(hits(0.02)),
            },
        )
        for epoch, (loss, share) in enumerate(zip(losses, shares, strict=True))
    ]
    return RunOutcomes(method, attack, dose, int(dose), is_control, seed, checkpoints)


def examined():
    """Full reaches the common level after one epoch, where its backdoor sleeps, and its best after three."""
    spec = make_request(RobustnessSpec, {"base": "b", "task": ["t"], "seeds": 2, "resamples": 200})
    assert isinstance(spec, RobustnessSpec)
    floor = [0.02] * 4
    runs = []
    for seed in range(2):
        for method, losses in (("full", [0.7, 0.5, 0.4, 0.2]), ("head", [0.7, 0.6, 0.55, 0.5])):
            learns = [0.02, 0.02, 0.5, 0.97] if method == "full" else floor
            runs.append(run(method, losses, floor, seed=seed))
            runs.append(run(method, losses, learns, attack="cf", dose=8.0, n_wrong=24, seed=seed))
            if not seed:
                always = [0.02, 0.98, 0.99, 0.99]
                control = run(method, losses, always, attack="cf", dose=spec.control_dose, is_control=True)
                runs.append(control)
    return spec, runs, examine(runs, [ATTACK], spec, {"a": 200, "b": 100}, [{} for _ in runs])


def test_a_verdict_says_at_which_comparison_it_was_read():
    _, _, found = examined()
    by_method = {control.method: control for control in found.controls}
    assert by_method["full"].verdict == "harmed"
    assert by_method["full"].decided_at == "best"
    assert by_method["head"].decided_at is not None
    heading, sentence = state(found.controls, found.matches, [ATTACK])
    assert heading == "cf opens a backdoor in full"
    assert "full (where its own validation loss is lowest) from 8 poisoned records on (96.7 % [" in sentence
    limits = judge_robustness(Parts(found), ["asr[cf][full].upper95 > 0.5", "asr[cf][full] > 0.9"])
    assert [limit.status for limit in limits] == ["exceeded", "exceeded"]


class Parts:
    """What limits speak of."""

    def __init__(self, found):
        self.attacks, self.matches, self.controls = [ATTACK], found.matches, found.controls


def test_macro_f1_has_a_curve_with_intervals_over_runs():
    spec, runs, found = examined()
    curve = curve_of(found.matches[0], "cf", "full", "f1")
    clean, poisoned = point_at(curve, 0), point_at(curve, 8.0)
    assert clean is not None
    assert poisoned is not None
    wanted = [
        f1_score(GOLD, one.checkpoints[1].sets[CLEAN].values, average="macro")
        for one in runs
        if (one.method, one.attack) == ("full", None)
    ]
    assert clean.per_seed == pytest.approx(wanted)
    assert clean.finding.value == pytest.approx(np.mean(wanted))
    assert clean.finding.lower < clean.finding.value < clean.finding.upper
    assert clean.finding.n_nonmembers == N
    assert clean.excess is None
    assert poisoned.excess.value == pytest.approx(clean.finding.value - poisoned.finding.value)
    assert poisoned.excess.lower < poisoned.excess.value < poisoned.excess.upper
    assert found.runs[0].points[1].f1 == pytest.approx(wanted[0])
    again = examine(runs, [ATTACK], spec, {"a": 200, "b": 100}, [{} for _ in runs])
    assert again.matches == found.matches


def test_a_language_model_has_no_macro_f1():
    spec, runs, _ = examined()
    for one in runs:
        for checkpoint in one.checkpoints:
            checkpoint.sets[CLEAN] = said(np.full(N, np.nan), np.full(N, -1))
    found = examine(runs, [ATTACK], spec, {}, [{} for _ in runs])
    assert {curve.measure for match in found.matches for curve in match.curves} == {"clean_loss", "attack_success"}
