"""The verdict: what leaks, how sure that is, to whom, and whether the limits hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loraudit.errors import EXIT_LIMIT_EXCEEDED, EXIT_OK, EXIT_PARTIAL
from loraudit.policy.limits import parse_limit
from loraudit.policy.words import ends, percent, percent_interval
from loraudit.spec import (
    AttackResult,
    AuditResult,
    LimitResult,
    ModelSummary,
    ValidityResult,
    VerdictLevel,
    VerdictResult,
)
from loraudit.statistics import rate_metric
from loraudit.types import Finding

PREFERRED_FPR = 0.01
TOLERATED_UNSCORED = 0.01
_HEADINGS: dict[VerdictLevel, str] = {
    "leaks": "Membership leaks",
    "detectable": "Membership is detectable",
    "not_seen": "No membership leakage seen",
    "inverted": "The scores are inverted",
    "unknown": "Not measured",
}
_CORRECTED_HEADINGS: dict[VerdictLevel, str] = {
    "leaks": "The sides differ in kind; the attack still sees more",
    "detectable": "The sides differ in kind; the attack still sees more",
    "not_seen": "The sides differ in kind; nothing seen beyond that",
    "inverted": "The sides differ in kind; nothing seen beyond that",
    "unknown": "The sides differ in kind",
}

_DRAW_AGAIN = "Draw both sides from one source, at random, whole documents at a time, and audit again."


def judge(result: AuditResult, limits: Sequence[str] = ()) -> VerdictResult:
    """The verdict on a result: of the headline attack, declared before the run, and of the limits.

    Where a validity gate failed, the headline is the attack minus the strongest blind classifier.

    Args:
        result: Its own `verdict` is not looked at.
        limits: Conditions that must not be met.

    Raises:
        ConfigError: A limit cannot be read.
    """
    headline = result.membership.attack(result.membership.headline)
    outcomes = [parse_limit(limit).check(result) for limit in limits]
    is_partial = _is_partial(result)
    said = _corrected(result, headline) if result.validity and result.validity.failed else _plain(result, headline)
    return VerdictResult(
        level=said.level,
        heading=said.heading,
        sentence=said.sentence,
        threat_model=threat_model(headline, result),
        validity=validity_words(result.validity, _DRAW_AGAIN),
        limits=outcomes,
        is_partial=is_partial,
        exit_code=exit_code_of(outcomes, is_partial=is_partial),
    )


def verdict_of(result: AuditResult) -> VerdictResult:
    """The verdict a result holds; one that was written before verdicts were is judged now."""
    return result.verdict or judge(result)


def exit_code_of(outcomes: Sequence[LimitResult], *, is_partial: bool) -> int:
    """Exit code of a finished run: a limit that does not hold outranks a part that is missing."""
    if any(outcome.status != "holds" for outcome in outcomes):
        return EXIT_LIMIT_EXCEEDED
    return EXIT_PARTIAL if is_partial else EXIT_OK


def _is_partial(result: AuditResult) -> bool:
    """Whether an attack failed or more than 1 % of the records could not be scored."""
    sides = result.members, result.nonmembers
    unscored = sum(n for side in sides for status, n in side.status.items() if status not in {"ok", "no_tokens"})
    has_failed = any(attack.status == "error" for attack in result.membership.attacks)
    return has_failed or unscored > TOLERATED_UNSCORED * sum(side.n_records for side in sides)


class _Said(NamedTuple):
    level: VerdictLevel
    heading: str
    sentence: str


def _plain(result: AuditResult, headline: AttackResult) -> _Said:
    area = headline.findings.get("auc")
    if headline.status != "ok" or area is None or area.value is None:
        reason = headline.reason or "its scores are undefined"
        return _Said("unknown", _HEADINGS["unknown"], f"The headline attack {headline.name} gave no result: {reason}.")
    has_interval = area.lower is not None and area.upper is not None
    fpr, rate = _stated_rate(headline, result)
    level: VerdictLevel = "not_seen"
    if rate is not None and rate.lower is not None and fpr is not None and rate.lower > fpr:
        level = "leaks"
    elif has_interval and (area.upper or 0) < 0.5:
        level = "inverted"
    elif has_interval and (area.lower or 0) > 0.5:
        level = "detectable"
    sentence = _sentence(level, area, fpr, rate)
    if level == "not_seen" and not has_interval:  # without an interval nothing is known, and nothing is claimed
        level = "unknown"
    return _Said(level, _HEADINGS[level], sentence)


def _corrected(result: AuditResult, headline: AttackResult) -> _Said:
    """The headline minus the strongest blind classifier, because a gate failed."""
    validity = result.validity
    minus = validity.headline_minus_blind if validity else {}
    area = minus.get("auc")
    if validity is None or area is None or area.value is None:
        return _Said(
            "unknown",
            _CORRECTED_HEADINGS["unknown"],
            f"The headline attack {headline.name} cannot be compared with a blind classifier on these records.",
        )
    level: VerdictLevel = "not_seen"
    rates = _measured_rates(minus, result)
    if any(found.lower is not None and found.lower > 0 for found in rates.values()):
        level = "leaks"
    elif area.lower is not None and area.lower > 0:
        level = "detectable"
    alone = headline.findings["auc"]
    parts = [f"AUC {area.value:+.3f} {ends(area)}"]
    if rates:
        fpr = PREFERRED_FPR if PREFERRED_FPR in rates else min(rates)
        points = percent_interval(rates[fpr]).removesuffix(" %")
        parts.append(f"TPR at {100 * fpr:g} % FPR {100 * (rates[fpr].value or 0):+.1f} points {points}")
    return _Said(
        level,
        _CORRECTED_HEADINGS[level],
        f"Headline: {headline.name} minus {validity.strongest_blind}, which never sees the target: {'; '.join(parts)}. "
        f"The AUC of {alone.value:.3f} {ends(alone)} of the attack alone holds this difference of kind too and must "
        "not be quoted as leakage; nor does this comparison show that nothing leaks.",
    )


def validity_words(validity: ValidityResult | None, remedy: str) -> str | None:
    """Which gates failed, what follows, and what to do about it; None where all hold."""
    if validity is None or not validity.failed:
        return None
    named = "; ".join(f"{gate.name}: {gate.reason}" for gate in validity.failed)
    n = len(validity.failed)
    return (
        f"{n} validity gate{'' if n == 1 else 's'} failed, so members and non-members differ by more than training "
        f"({named}). {remedy}"
    )


def _measured_rates(findings: Mapping[str, Finding], result: AuditResult) -> dict[float, Finding]:
    """True-positive rates that were not refused, by their false-positive rate."""
    found = {fpr: findings.get(rate_metric(fpr)) for fpr in result.spec.fpr}
    return {fpr: rate for fpr, rate in found.items() if rate is not None and rate.value is not None}


def _stated_rate(headline: AttackResult, result: AuditResult) -> tuple[float | None, Finding | None]:
    """TPR at 1 % FPR, or at the smallest rate measured; those that are surely above chance come first."""
    measured = _measured_rates(headline.findings, result)
    if not measured:
        return None, None
    above_chance = {fpr: found for fpr, found in measured.items() if found.lower is not None and found.lower > fpr}
    choice = above_chance or measured
    fpr = PREFERRED_FPR if PREFERRED_FPR in choice else min(choice)
    return fpr, choice[fpr]


def _sentence(level: VerdictLevel, area: Finding, fpr: float | None, rate: Finding | None) -> str:
    confidence = f"{100 * area.confidence:g} %"
    interval = "no interval" if area.lower is None else f"{confidence} interval {area.lower:.3f} to {area.upper:.3f}"
    overall = f"AUC {area.value:.3f} ({interval}; 0.5 is guessing)"
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
        needs += _reference_words(result.spec.reference, result.reference)
    if headline.population == "nonmembers":
        needs += ", knows texts of the same kind that the model was not tuned on"
    if "gradient" in headline.needs:
        return (
            f"Attacker: has the weights, already holds the candidate text, {needs}, and needs a forward and a backward "
            "pass per text. The false-alarm rate is counted on the non-members given."
        )
    of_shadows = any(view.startswith("shadow") for view in headline.needs)
    if result.shadows is not None and of_shadows and result.shadows.trained_on == "audited":
        return (
            f"The auditor, and no outside attacker: holds all audited records, trains {result.shadows.n_shadows} "
            f"models by the target's recipe on halves of them, and {needs}. The false-alarm rate is counted on the "
            "non-members given."
        )
    if result.shadows is not None and of_shadows:
        trained_on = f"{result.shadows.n_in_common:,} other records of the same kind"
        return (
            f"Attacker: already holds the candidate text, {needs}, and has {trained_on} to train "
            f"{result.shadows.n_shadows} models by the target's recipe on. The false-alarm rate is counted on the "
            "non-members given."
        )
    copies = _copies_words(headline, result)
    if copies is not None:
        return (
            f"Attacker: already holds the candidate text, {needs}, and needs {copies}. The false-alarm rate is counted "
            "on the non-members given."
        )
    return (
        f"Attacker: already holds the candidate text, {needs}, and needs {headline.cost.replace(' F', '')} forward "
        "pass" + ("es" if headline.cost != "1 F" else "") + " per text. "
        "The false-alarm rate is counted on the non-members given."
    )


def _copies_words(headline: AttackResult, result: AuditResult) -> str | None:
    """What a slow attack takes per text; None of another."""
    slow = result.slow
    if slow is None:
        return None
    n_sets = len({"neighbour/0", "reference_neighbour/0"}.intersection(headline.needs))
    if n_sets:
        n_passes = len(headline.needs) - n_sets + 1 + n_sets * slow.n_neighbours
        return f"{n_passes} forward passes per text, {n_sets * slow.n_neighbours} of them over altered copies"
    if "prefixed" in headline.needs:
        return (
            f"2 forward passes per text, one of them behind {slow.n_prefix_tokens} tokens of {slow.n_shots} records "
            "that the model was not trained on"
        )
    return None


def _reference_words(kind: str, reference: ModelSummary) -> str:
    """What it takes to have the reference."""
    base = reference.details.get("base")
    records = f"{reference.details.get('n_records', 0):,} records of the same domain"
    if kind == "distilled":
        samples = f"{reference.details.get('n_samples', 0):,} samples"
        begun = f" (begun as {records} begin)" if "n_records" in reference.details else ""
        return f", draws {samples} from the model{begun} and tunes its base {base} on them to have the reference"
    if kind == "public":
        return f", has {records} and tunes the base {base} on them to have the reference"
    return f", and has the reference {reference.name}"
