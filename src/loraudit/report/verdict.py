"""The sentence at the top: what leaks, how sure that is, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loraudit.report.words import percent, percent_interval
from loraudit.spec import AttackResult, AuditResult
from loraudit.statistics import rate_metric
from loraudit.types import Finding

Level = Literal["leaks", "detectable", "not_seen", "inverted", "unknown"]
PREFERRED_FPR = 0.01
_HEADINGS: dict[Level, str] = {
    "leaks": "Membership leaks",
    "detectable": "Membership is detectable",
    "not_seen": "No membership leakage seen",
    "inverted": "The scores are inverted",
    "unknown": "Not measured",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit says in words.

    Attributes:
        level: `leaks` (single members can be picked out), `detectable` (the set as a whole can),
            `not_seen`, `inverted` (non-members score higher) or `unknown`.
        heading: Three or four words.
        sentence: With numbers and their uncertainty.
        threat_model: Who could do this, and with what.
    """

    level: Level
    heading: str
    sentence: str
    threat_model: str


def verdict(result: AuditResult) -> Verdict:
    """The verdict of the headline attack, declared before the run."""
    headline = result.membership.attack(result.membership.headline)
    area = headline.findings.get("auc")
    if headline.status != "ok" or area is None or area.value is None:
        return Verdict(
            "unknown",
            _HEADINGS["unknown"],
            f"The headline attack {headline.name} gave no result: {headline.reason or 'its scores are undefined'}.",
            threat_model(headline, result),
        )
    has_interval = area.lower is not None and area.upper is not None
    fpr, rate = _stated_rate(headline, result)
    level: Level = "not_seen"
    if rate is not None and rate.lower is not None and fpr is not None and rate.lower > fpr:
        level = "leaks"
    elif has_interval and (area.upper or 0) < 0.5:
        level = "inverted"
    elif has_interval and (area.lower or 0) > 0.5:
        level = "detectable"
    return Verdict(level, _HEADINGS[level], _sentence(level, area, fpr, rate), threat_model(headline, result))


def _stated_rate(headline: AttackResult, result: AuditResult) -> tuple[float | None, Finding | None]:
    """TPR at 1 % FPR, or at the smallest rate measured; those that are surely above chance come first."""
    measured = {
        fpr: found
        for fpr in result.spec.fpr
        if (found := headline.findings.get(rate_metric(fpr))) is not None and found.value is not None
    }
    if not measured:
        return None, None
    above_chance = {fpr: found for fpr, found in measured.items() if found.lower is not None and found.lower > fpr}
    choice = above_chance or measured
    fpr = PREFERRED_FPR if PREFERRED_FPR in choice else min(choice)
    return fpr, choice[fpr]


def _sentence(level: Level, area: Finding, fpr: float | None, rate: Finding | None) -> str:
    confidence = f"{100 * area.confidence:g} %"
    ends = "no interval" if area.lower is None else f"{confidence} interval {area.lower:.3f} to {area.upper:.3f}"
    overall = f"AUC {area.value:.3f} ({ends}; 0.5 is guessing)"
    sides = f"{area.n_members:,} members and {area.n_nonmembers:,} non-members"
    if fpr is None or rate is None or rate.value is None:
        single = f"{sides} are too few to state how many single members can be picked out"
    else:
        factor = rate.value / fpr
        single = (
            f"an attacker who accepts {100 * fpr:g} % false alarms picks out {percent(rate.value)} of the members "
            f"({confidence} interval {percent_interval(rate)}, {factor:.1f} times chance; n = {sides})"
        )
    if level == "leaks":
        return f"{single[0].upper()}{single[1:]}. {overall}."
    if level == "detectable":
        return (
            f"That these records were trained on can be told of the set as a whole: {overall}. "
            f"How well single records can be picked out stays uncertain: {single}."
        )
    if level == "inverted":
        return (
            f"Non-members score higher than members: {overall}. Check that --members and --nonmembers are not "
            "exchanged and that both sides are of one kind."
        )
    return (
        f"{overall}. {single[0].upper()}{single[1:]}. A sample of this size cannot show that nothing leaks; "
        "it bounds what these attacks see."
    )


def threat_model(headline: AttackResult, result: AuditResult) -> str:
    """Who could run the headline attack."""
    needs = "reads the probabilities the model gives to every token of a candidate text"
    if "reference" in headline.needs and result.reference is not None:
        needs += f", and has the reference {result.reference.name}"
    return (
        f"Attacker: already holds the candidate text, {needs}, and needs {headline.cost.replace(' F', '')} forward "
        "pass" + ("es" if headline.cost != "1 F" else "") + " per text. "
        "The false-alarm rate is counted on the non-members given."
    )
