"""The sentence at the top: every level, with its numbers, its uncertainty and its attacker."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loraudit.policy.verdict import judge as verdict
from loraudit.policy.verdict import threat_model
from loraudit.policy.words import percent, percent_interval
from loraudit.spec import AttackResult, MembershipResult, ModelSummary
from loraudit.statistics import measure, rate_metric
from loraudit.types import Finding


def finding(value: float | None, lower: float | None, upper: float | None, **changes: Any) -> Finding:
    values = {"confidence": 0.95, "method": "m", "n_members": 1200, "n_nonmembers": 1100} | changes
    return Finding(value, lower, upper, **values)


def result(
    findings: dict[str, Finding],
    *,
    fpr: tuple[float, ...] = (0.1, 0.01, 0.001),
    status: str = "ok",
    reason: str | None = None,
    needs: tuple[str, ...] = ("reference", "target"),
    reference: str | None = "my-base",
    kind: str = "base",
    details: dict[str, Any] | None = None,
    cost: str = "2 F",
    population: str | None = None,
):
    """The parts of an `AuditResult` that a verdict reads."""
    headline = AttackResult(
        name="error_zone",
        summary="s",
        source="s",
        needs=list(needs),
        cost=cost,
        population=population,
        status=status,
        reason=reason,
        findings=findings,
    )
    other = headline.model_copy(update={"name": "loss", "status": "ok", "findings": {"auc": finding(0.99, 0.98, 1.0)}})
    side = SimpleNamespace(status={"ok": 1200}, n_records=1200)
    return SimpleNamespace(
        validity=None,
        members=side,
        nonmembers=side,
        membership=MembershipResult(headline="error_zone", attacks=[other, headline]),
        spec=SimpleNamespace(fpr=fpr, reference=kind),
        shadows=None,
        slow=None,
        reference=None
        if reference is None
        else ModelSummary(name=reference, kind="k", fingerprint="f", details=details or {}),
    )


REFUSED = finding(None, None, None, method="refused", note="Cannot state …")
AT_CHANCE = {
    "auc": finding(0.51, 0.48, 0.54),
    "tpr_at_fpr_10pct": finding(0.11, 0.08, 0.14),
    "tpr_at_fpr_1pct": finding(0.012, 0.004, 0.03),
    "tpr_at_fpr_0_1pct": REFUSED,
}


# ---------------------------------------------------------------------------------------------
# Levels
# ---------------------------------------------------------------------------------------------


def test_leaks_where_single_members_can_be_picked_out():
    found = verdict(result(AT_CHANCE | {"auc": finding(0.8, 0.78, 0.82), "tpr_at_fpr_1pct": finding(0.25, 0.2, 0.31)}))
    assert (found.level, found.heading) == ("leaks", "Membership leaks")
    assert found.sentence == (
        "An attacker who accepts 1 % false alarms picks out 25.0 % of the members (95 % interval [20.0, 31.0] %, "
        "25.0 times chance; n = 1,200 members and 1,100 non-members). "
        "AUC 0.800 (95 % interval 0.780 to 0.820; 0.5 is guessing)."
    )


def test_detectable_where_only_the_set_can_be_told():
    found = verdict(result(AT_CHANCE | {"auc": finding(0.56, 0.53, 0.59)}))
    assert (found.level, found.heading) == ("detectable", "Membership is detectable")
    assert found.sentence == (
        "That these records were trained on can be told of the set as a whole: AUC 0.560 (95 % interval 0.530 to "
        "0.590; 0.5 is guessing). How well single records can be picked out stays uncertain: an attacker who "
        "accepts 1 % false alarms picks out 1.20 % of the members (95 % interval [0.40, 3.00] %, 1.2 times chance; "
        "n = 1,200 members and 1,100 non-members)."
    )


def test_not_seen_is_not_called_safe():
    found = verdict(result(AT_CHANCE))
    assert (found.level, found.heading) == ("not_seen", "No membership leakage seen")
    assert found.sentence.startswith("AUC 0.510 (95 % interval 0.480 to 0.540; 0.5 is guessing). An attacker who")
    assert found.sentence.endswith(
        "A sample of this size cannot show that nothing leaks; it bounds what these attacks see."
    )
    assert not re.search(r"\bsafe\b|\bprivate\b|no leakage\.", found.sentence)


def test_inverted_asks_whether_the_sides_are_exchanged():
    found = verdict(result(AT_CHANCE | {"auc": finding(0.3, 0.27, 0.33)}))
    assert (found.level, found.heading) == ("inverted", "The scores are inverted")
    assert found.sentence == (
        "Non-members score higher than members: AUC 0.300 (95 % interval 0.270 to 0.330; 0.5 is guessing). Check "
        "that --members and --nonmembers are not exchanged and that both sides are of one kind."
    )


@pytest.mark.parametrize(
    ("status", "reason", "findings", "why"),
    [
        ("error", "ValueError: no", {}, "ValueError: no"),
        ("not_measured", "needs reference", {}, "needs reference"),
        ("ok", None, {"auc": finding(None, None, None, method="none")}, "its scores are undefined"),
        ("ok", None, {}, "its scores are undefined"),
    ],
)
def test_unknown_says_why(status, reason, findings, why):
    found = verdict(result(findings, status=status, reason=reason))
    assert (found.level, found.heading) == ("unknown", "Not measured")
    assert found.sentence == f"The headline attack error_zone gave no result: {why}."


def test_the_headline_decides_not_the_best_attack():
    """The other attack of these results has AUC 0.99."""
    assert verdict(result(AT_CHANCE)).level == "not_seen"


@pytest.mark.parametrize(
    ("area", "rate", "level"),
    [
        ((0.50, 0.5, 0.6), (0.01, 0.01, 0.02), "not_seen"),  # touching is not above
        ((0.55, 0.5000001, 0.6), (0.01, 0.01, 0.02), "detectable"),
        ((0.55, 0.4, 0.6), (0.02, 0.0101, 0.03), "leaks"),  # a few members stand out of a set that does not
        ((0.45, 0.4, 0.5), (0.01, 0.001, 0.02), "not_seen"),
        ((0.45, 0.4, 0.4999), (0.01, 0.001, 0.02), "inverted"),
        ((0.45, 0.4, 0.4999), (0.02, 0.0101, 0.03), "leaks"),  # what single members suffer comes first
        ((None, None, None), (0.5, 0.4, 0.6), "unknown"),
        ((0.7, None, None), (0.5, 0.4, 0.6), "leaks"),
        ((0.7, None, None), (0.01, 0.001, 0.02), "unknown"),  # no interval, no claim
    ],
)
def test_edges_between_levels(area, rate, level):
    findings = {"auc": finding(*area), "tpr_at_fpr_1pct": finding(*rate)}
    assert verdict(result(findings, fpr=(0.01,))).level == level


def test_members_that_stand_out_at_low_rates_leak_although_most_score_low():
    """A heavy upper tail of members with AUC below a half: single members can still be picked out."""
    rng = np.random.default_rng(0)
    is_member = np.arange(4000) < 2000
    scores = np.where(is_member, rng.normal(-0.4, 1, 4000), rng.normal(0, 1, 4000))
    scores[:200] = 10 + rng.random(200)
    findings = measure(
        {"a": scores}, is_member, fprs=(0.01,), n_resamples=100, confidence=0.95, rng=np.random.default_rng(0)
    )["a"]
    assert findings["auc"].upper < 0.5
    assert findings["tpr_at_fpr_1pct"].lower > 0.05
    assert verdict(result(findings, fpr=(0.01,))).level == "leaks"


def test_little_is_never_said_of_a_rate_that_may_be_large():
    """From 250 non-members the interval at 1 % begins at 0 whatever the scores; that is no sign of little."""
    findings = {
        "auc": finding(0.961, 0.945, 0.973),
        "tpr_at_fpr_10pct": finding(0.873, 0.797, 0.945),
        "tpr_at_fpr_1pct": finding(0.643, 0.0, 0.72),
    }
    assert "little" not in verdict(result(findings)).sentence


# ---------------------------------------------------------------------------------------------
# Which rate is stated
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "stated"),
    [
        ({0.1: 0.5, 0.01: 0.2, 0.001: 0.1}, "1 % false alarms picks out 20.0 %"),
        ({0.1: 0.5, 0.01: None, 0.001: None}, "10 % false alarms picks out 50.0 %"),
        ({0.1: 0.5, 0.05: 0.4}, "5 % false alarms picks out 40.0 %"),
        ({0.1: 0.5, 0.005: 0.123}, "0.5 % false alarms picks out 12.3 %"),
    ],
)
def test_one_percent_is_stated_or_else_the_smallest_that_was_measured(measured, stated):
    findings = {"auc": finding(0.8, 0.7, 0.9)}
    for fpr, rate in measured.items():
        findings[rate_metric(fpr)] = REFUSED if rate is None else finding(rate, rate - 0.05, rate + 0.05)
    assert stated in verdict(result(findings, fpr=tuple(measured))).sentence


@pytest.mark.parametrize("level", ["detectable", "not_seen"])
def test_too_few_records_for_any_rate_is_said(level):
    area = finding(0.8, 0.7, 0.9) if level == "detectable" else finding(0.6, 0.4, 0.8)
    few = {"auc": finding(area.value, area.lower, area.upper, n_members=6, n_nonmembers=7)}
    found = verdict(result(few | dict.fromkeys(("tpr_at_fpr_10pct", "tpr_at_fpr_1pct"), REFUSED)))
    assert found.level == level
    assert (
        "6 members and 7 non-members are too few to state how many single members can be picked out" in found.sentence
    )


def test_an_area_without_interval_says_so():
    assert "AUC 0.500 (no interval; 0.5 is guessing)" in verdict(result({"auc": finding(0.5, None, None)})).sentence


def test_confidence_is_that_of_the_finding():
    findings = {
        "auc": finding(0.8, 0.7, 0.9, confidence=0.9),
        "tpr_at_fpr_1pct": finding(0.2, 0.1, 0.3, confidence=0.9),
    }
    sentence = verdict(result(findings)).sentence
    assert sentence.count("90 % interval") == 2
    assert "95 %" not in sentence


# ---------------------------------------------------------------------------------------------
# Who could do it
# ---------------------------------------------------------------------------------------------


def test_the_attacker_of_a_reference_attack_has_the_reference():
    found = verdict(result(AT_CHANCE)).threat_model
    assert found == (
        "Attacker: already holds the candidate text, reads the probabilities the model gives to every token of a "
        "candidate text, and has the reference my-base, and needs 2 forward passes per text. "
        "The false-alarm rate is counted on the non-members given."
    )


def test_the_attacker_who_differentiates_has_the_weights():
    found = verdict(result(AT_CHANCE, needs=("target", "gradient"), cost="1 F + 1 B")).threat_model
    assert found.startswith("Attacker: has the weights, already holds the candidate text, reads the probabilities")
    assert found.endswith(
        "and needs a forward and a backward pass per text. The false-alarm rate is counted on the non-members given."
    )


def test_the_attacker_who_learns_from_nonmembers_knows_some():
    words = ", knows texts of the same kind that the model was not tuned on, and needs 2 forward passes per text."
    assert words in verdict(result(AT_CHANCE, population="nonmembers")).threat_model
    assert "knows texts" not in verdict(result(AT_CHANCE, population="all")).threat_model


@pytest.mark.parametrize(
    ("kind", "details", "words"),
    [
        (
            "distilled",
            {"base": "b", "n_samples": 10_000},
            "draws 10,000 samples from the model and tunes its base b on them to have the reference",
        ),
        (
            "distilled",
            {"base": "b", "n_samples": 10_000, "n_records": 1500},
            "draws 10,000 samples from the model (begun as 1,500 records of the same domain begin) and tunes",
        ),
        (
            "public",
            {"base": "b", "n_records": 1500},
            "has 1,500 records of the same domain and tunes the base b on them to have the reference",
        ),
    ],
)
def test_the_attacker_who_makes_a_reference_needs_what_it_is_made_of(kind, details, words):
    found = verdict(result(AT_CHANCE, kind=kind, details=details)).threat_model
    assert f"of a candidate text, {words}" in found
    assert "needs 2 forward passes per text" in found


def test_the_attacker_of_a_target_only_attack_needs_no_reference():
    parts = result(AT_CHANCE, needs=("target",), cost="1 F")
    found = threat_model(parts.membership.attack("error_zone"), parts)
    assert "reference" not in found
    assert "needs 1 forward pass per text" in found


def test_a_failed_headline_still_names_its_attacker():
    assert verdict(result({}, status="error", reason="no")).threat_model.startswith("Attacker: already holds")


# ---------------------------------------------------------------------------------------------
# Numbers as words
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.0, "100.0 %"), (0.25, "25.0 %"), (0.1, "10.0 %"), (0.0123, "1.23 %"), (0.0004, "0.04 %"), (0.0, "0.00 %")],
)
def test_percent(value, words):
    assert percent(value) == words


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (0.2, 0.31, "[20.0, 31.0] %"),
        (0.0, 0.0369, "[0.00, 3.69] %"),
        (0.05, 0.1, "[5.0, 10.0] %"),
        (None, None, "no interval"),
        (0.1, None, "no interval"),
    ],
)
def test_percent_interval(lower, upper, words):
    assert percent_interval(finding(0.1, lower, upper)) == words
