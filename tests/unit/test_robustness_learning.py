"""Methods that learn next to nothing, and places that have seen no poison: neither may pass for resistance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loraudit.robustness.comparison import Comparison
from loraudit.robustness.examination import examine
from loraudit.robustness.learning import learning_of
from loraudit.robustness.outcomes import CLEAN, Checkpoint, RunOutcomes, Said
from loraudit.spec import PoisonResult, PoisonSettings, RobustnessSpec, make_request
from loraudit.tasks import triggered, untriggered

GOLD = np.arange(60) % 3
EPOCHS = (0.0, 1.0, 2.0)
ATTACK = PoisonResult(
    name="rare",
    poison="rare_words",
    goal="backdoor",
    settings=PoisonSettings(poison="rare_words", target="a"),
    doses=[8.0],
    n_poisoned=[8],
    control_poisoned=20,
    n_eligible=60,
    n_triggered=60,
    warnings=[],
)
CLASSES = {"a": 20, "b": 20, "c": 20}


def spec() -> RobustnessSpec:
    return make_request(RobustnessSpec, {"base": "b", "task": ["t.jsonl"], "resamples": 100})


def said(values: Any) -> Said:
    return Said(np.array(values, dtype=float), np.full(60, 0.5), np.ones(60, dtype=np.int64), GOLD)


def run(
    method: str, losses: Any, hits: Any = None, *, dose: float = 8.0, right: Any = None, **more: Any
) -> RunOutcomes:
    """A run with these validation losses, which gets the share `right` right and hits with the share `hits`."""
    shares = hits or [0.0] * len(losses)
    known = right or [0.4, 0.9, 0.9]
    checkpoints = []
    for step, (loss, share, knows) in enumerate(zip(losses, shares, known, strict=True)):
        predicted = np.where(np.arange(60) < 60 * knows, GOLD, (GOLD + 1) % 3)
        sets = {
            CLEAN: said(predicted),
            triggered("rare"): said(np.arange(60) < 60 * share),
            untriggered("rare"): said(np.zeros(60)),
        }
        checkpoints.append(Checkpoint(step, EPOCHS[step], loss, sets))
    is_poisoned = hits is not None
    return RunOutcomes(
        method,
        "rare" if is_poisoned else None,
        dose if is_poisoned else 0.0,
        8 if is_poisoned else 0,
        more.get("is_control", False),
        more.get("seed", 0),
        checkpoints,
    )


def arms(method: str, losses: Any, hits: Any, **more: Any) -> list[RunOutcomes]:
    return [
        run(method, losses, **more),
        run(method, losses, hits, **more),
        run(method, losses, [0.0, 1.0, 1.0], dose=0.3, is_control=True, **more),
    ]


def verdicts(runs: list[RunOutcomes]) -> dict[str, str]:
    found = examine(runs, [ATTACK], spec(), CLASSES, [{} for _ in runs])
    return {control.method: control.verdict for control in found.controls}


def test_nobody_resists_at_the_untouched_base():
    """One arm never falls below where it began: at that level every method is still the base."""
    runs = [*arms("full", [1.0, 0.3, 0.2], [0.0, 1.0, 1.0]), *arms("head", [1.0, 1.2, 1.1], [0.0, 0.0, 0.0])]
    comparison = Comparison(spec(), [ATTACK], runs, 0.6)
    for match in comparison.matches():
        assert all(point.exposures > 0 for curve in match.curves for point in curve.points if point.dose)
    assert verdicts(runs) == {"full": "harmed", "head": "undecided"}


def test_a_method_that_learns_next_to_nothing_does_not_pull_the_others_back():
    """At the level of a near-guess the clean arms of the others guess too, which would make them invalid."""
    slow = arms("head", [1.0, 0.97, 0.96], [0.0, 0.0, 0.0])
    runs = [*arms("full", [1.0, 0.3, 0.2], [0.0, 1.0, 1.0]), *arms("lora", [1.0, 0.5, 0.4], [0.0, 1.0, 1.0]), *slow]
    found = examine(runs, [ATTACK], spec(), CLASSES, [{} for _ in runs])
    first = found.matches[0]
    assert (first.kind, first.level) == ("validation_loss", 0.4)
    assert first.epochs["head"] is None
    assert first.epochs["full"] == pytest.approx(6 / 7)
    assert "the lowest that full and lora reach;" in first.description
    (warning,) = found.warnings
    assert warning == (
        "head learns next to nothing: its clean validation loss falls by 0.040 nats where that of the best method "
        "falls by 0.800. It is left out of the comparison at the same clean fit."
    )
    reasons = {control.method: " ".join(control.reasons) for control in found.controls}
    assert verdicts(runs) == {"full": "harmed", "lora": "harmed", "head": "undecided"}
    assert "It does not reach the clean validation loss of the other methods" in reasons["head"]


def test_a_method_alone_is_read_at_its_own_lowest_level():
    runs = [*arms("full", [1.0, 0.3, 0.2], [0.0, 1.0, 1.0]), *arms("head", [1.0, 0.99, 0.98], [0.0, 0.0, 0.0])]
    match = Comparison(spec(), [ATTACK], runs, 0.6).matches()[0]
    assert (match.kind, match.level) == ("validation_loss", 0.2)
    assert "the lowest that full reaches;" in match.description


def test_resisted_is_only_said_where_it_holds_at_the_own_best_too():
    """Wide at its own best: what was not judged there is not resisted."""
    runs = [*arms("full", [1.0, 0.5, 0.2], [0.0, 0.0, 0.08]), *arms("lora", [1.0, 0.6, 0.5], [0.0, 0.0, 0.0])]
    assert verdicts(runs) == {"full": "undecided", "lora": "resisted"}


def test_learning_is_that_of_the_worst_run_and_a_tenth_of_the_best():
    best = [np.array([2.0, 1.0])]
    assert learning_of({"a": best, "b": [np.array([2.0, 1.91])]}).lowest == {"a": 1.0}
    assert learning_of({"a": best, "b": [np.array([2.0, 1.89])]}).lowest == {"a": 1.0, "b": 1.89}
    assert learning_of({"a": best, "b": [np.array([2.0, 1.5]), np.array([2.0, 2.5])]}).lowest == {"a": 1.0}


def test_methods_without_a_loss_and_methods_that_only_get_worse_are_named():
    found = learning_of({"a": [np.array([np.nan, np.nan])], "b": [np.array([1.0, 1.1])]})
    assert found.lowest == {}
    assert found.warnings[0].startswith("a has no validation loss")
    assert found.warnings[1].startswith("b learns nothing")
