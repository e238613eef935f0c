"""Words that several formats of the report share."""

from __future__ import annotations

from collections.abc import Mapping

from loraudit.spec import AuditResult

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


def incomplete(result: AuditResult) -> list[str]:
    """What is missing of a partial result: each failed attack with its reason, records without a score."""
    missing = [f"the attack {a.name} failed: {a.reason}" for a in result.membership.attacks if a.status == "error"]
    sides = result.members, result.nonmembers
    lost = sum(n for side in sides for status, n in side.status.items() if status != "ok")
    return [*missing, *([f"{lost:,} records have no score"] if lost else [])]
