"""Words that several formats of the report share."""

from __future__ import annotations

from collections.abc import Mapping

from loraudit.policy import ends
from loraudit.report.memorization.words import memorization_limits
from loraudit.spec import AuditResult, ShadowSummary

NOT_VALID = "Not valid as it stands"

LIMIT_WORDS: Mapping[str, str] = {"holds": "holds", "exceeded": "FAILS", "not_measured": "FAILS, not measured"}
STATUS_WORDS: Mapping[str, str] = {
    "passed": "passed",
    "warned": "warning",
    "failed": "FAILED",
    "not_measured": "not measured",
}
_NOT_SAID = """
The numbers hold for these records. Members that are unlike them (rarer, more often repeated, longer) can leak more.

They are true only if members and non-members are of one kind. The validity gates test what can be told without the
target; a difference that none of them sees is not excluded.

These attacks read what two forward passes give. An attacker who trains shadow models on similar data sees more, above
all on adapters; a low rate here is no upper bound on leakage.

Membership is not extraction: that a record can be recognised does not say that its text can be drawn out, nor the
reverse.
"""
NOT_SAID = tuple(" ".join(limit.split()) for limit in _NOT_SAID.strip().split("\n\n"))


_WITH_SHADOWS = (
    "The shadow models were trained by the recipe and on the records stated here. More of them, or records closer to "
    "the members, can show more; a low rate here is no upper bound on leakage."
)


_WITH_COPIES = (
    "These attacks read what forward passes over the records, and over altered copies of them, give. An attacker who "
    "trains shadow models on similar data sees more, above all on adapters; a low rate here is no upper bound on "
    "leakage."
)


def not_said(result: AuditResult) -> tuple[str, ...]:
    """What an audit leaves open."""
    records, kind, passes, extraction = NOT_SAID
    if result.shadows or result.slow:
        passes = _WITH_SHADOWS if result.shadows else _WITH_COPIES
    return records, kind, passes, extraction, *memorization_limits(result.memorization)


def shadow_statement(result: AuditResult) -> str | None:
    """What the headline sees against the base and against shadow models, and what the difference means."""
    found, shadows = result.membership.shadows, result.shadows
    if found is None or shadows is None:
        return None
    attacks = {attack.name: attack for attack in result.membership.attacks}
    base, twin = (attacks[name].findings.get("auc") for name in (found.against_base, found.against_shadows))
    difference = found.differences["auc"]
    if base is None or twin is None or None in {base.value, twin.value, difference.value}:
        return None
    reference = "base" if result.spec.reference == "base" else f"{result.spec.reference} reference"
    said = (
        f"Against the {reference} the AUC of {found.against_base} is {base.value:.3f} {ends(base)}; against the mean "
        f"of {shadows.n_per_record} shadow model{'s' * (shadows.n_per_record > 1)} it is {twin.value:.3f} "
        f"{ends(twin)}: {difference.value:+.3f} {ends(difference)}. "
    )
    lower, upper = difference.lower, difference.upper
    if lower is not None and lower > 0:
        return said + (
            "What tuning taught about all records of this kind, members or not, looks like a gain over the "
            f"{reference}; the shadows have learned it too, so that what is left is the single record's own. Go by the "
            f"second number: {_who_needs_what(shadows)}"
        )
    if upper is not None and upper < 0:
        return said + (
            "Here the shadows hide more than they clear: they may be too unlike the target, by recipe or by records. "
            "Go by the first number."
        )
    return said + f"No difference is seen: on these records the {reference} is no worse to compare with than shadows."


def _who_needs_what(shadows: ShadowSummary) -> str:
    if shadows.trained_on == "audited":
        return (
            f"it is the auditor's, who has the audited records to train {shadows.n_shadows} models on; an outside "
            "attacker has other records of the kind (--pool)."
        )
    return f"an attacker needs {shadows.n_in_common:,} other records of the kind and {shadows.n_shadows} trainings."


def slow_statement(result: AuditResult) -> str | None:
    """What slow attacks looked at beside the records themselves; None where none was run."""
    slow = result.slow
    if slow is None:
        return None
    ran = {attack.name for attack in result.membership.attacks if attack.status == "ok"}
    said: list[str] = []
    if slow.n_neighbours:
        said.append(
            f"Attacks on neighbours compare a record with {slow.n_neighbours} copies of it, in which "
            f"{100 * slow.replaced_share:g} % of the audited tokens are replaced by others that {slow.drawn_by} finds "
            "likely there; the target has no part in what is replaced."
        )
    if "spv_mia" in ran:
        taken = {
            "base": "the base; as published it takes one tuned on samples of the target (--reference distilled)",
            "public": "the base tuned on public records; as published it takes one tuned on samples of the target "
            "(--reference distilled)",
            "distilled": "the base tuned on samples of the target, as published",
        }
        said.append(f"The reference of spv_mia is {taken[result.spec.reference]}.")
    if slow.n_shots and "recall" in ran:
        said.append(
            f"recall puts {slow.n_prefix_tokens} tokens of {slow.n_shots} record{'s' * (slow.n_shots > 1)} before each "
            f"one ({slow.prefix_from}), none of which is audited."
        )
    return " ".join(said) or None


def incomplete(result: AuditResult) -> list[str]:
    """What is missing of a partial result: each failed attack with its reason, records without a score."""
    missing = [f"the attack {a.name} failed: {a.reason}" for a in result.membership.attacks if a.status == "error"]
    sides = result.members, result.nonmembers
    lost = sum(n for side in sides for status, n in side.status.items() if status != "ok")
    return [*missing, *([f"{lost:,} records have no score"] if lost else [])]
