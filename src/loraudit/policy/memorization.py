"""Limits on what can be pulled out of a model: `memorization.MEASURE[.PART].FIELD`.

A measure that was taken at several prefix lengths, decodings or budgets is judged by its largest; a part narrows that.
All are of the members; their controls stand beside them in the report.
"""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.policy.conditions import field_of, is_field, unknown
from loraudit.spec import MemorizationResult
from loraudit.types import Finding

STRENGTHS = ("exact_memorization", "extraction_strength")
PARTED = {
    "greedy": "prefix length",
    "sampled": "prefix length",
    "near": "prefix length",
    "generated": "kind",
    "personal": "kind",
}
"""Measures of several parts, and what a part is."""
KNOWN = (*STRENGTHS, *PARTED)


def memorization_problem(rest: Sequence[str]) -> str | None:
    """What is wrong with a path below `memorization`, as far as it can be told without a result."""
    if not rest or rest[0] not in KNOWN:
        return f"names nothing that is measured; known: {', '.join(KNOWN)}"
    if len(rest) not in ({2, 3} if rest[0] in PARTED else {2}):
        return "does not name a measure and its field"
    if not is_field(rest[-1]):
        return f"asks for '{rest[-1]}', not value, upper95 or lower95"
    if len(rest) == 3 and PARTED[rest[0]] == "prefix length" and not rest[1].isdecimal():
        return f"asks for the prefix length '{rest[1]}', which is no number of tokens"
    return None


def look_up_memorization(rest: Sequence[str], result: MemorizationResult | None) -> float | str:
    """The number a path below `memorization` leads to, or why there is none.

    Prefix lengths that no record is long enough for count only where they are asked for by name. Where any other of the
    findings it speaks of has no number, there is none: what is not measured never passes.
    """
    if result is None:
        return "memorization was not measured (--memorization)"
    measure, *part, field = rest
    found = _findings(measure, result)
    if part:
        kind = PARTED[measure]
        known = list(dict.fromkeys(name for name, _ in found))
        if part[0] not in known:
            return unknown(f"{kind} of {measure}", part[0], known)
        found = [(name, finding) for name, finding in found if name == part[0]]
    else:
        found = [(name, finding) for name, finding in found if finding.n_members] or found
    if not found:
        return f"{measure} was not measured"
    numbers = [field_of(finding, measure, field) for _, finding in found]
    missing = next((number for number in numbers if isinstance(number, str)), None)
    return missing if missing is not None else max(number for number in numbers if not isinstance(number, str))


def _findings(measure: str, result: MemorizationResult) -> list[tuple[str, Finding]]:
    """Name of the part and finding of each."""
    if measure in STRENGTHS:
        return [("", one.mean.members) for one in result.strengths if one.name == measure]
    if measure == "greedy":
        return [(str(one.prefix), one.extracted.members) for one in result.greedy]
    if measure == "sampled":
        return [(str(one.prefix), one.extracted.members) for one in result.sampled]
    if measure == "near":
        return [(str(one.prefix), one.near.members) for one in result.near]
    if measure == "personal":
        return [(kind, one.members) for kind, one in result.personal.items()]
    return [(kind, one.members) for point in result.generated for kind, one in point.kinds.items()]
