"""The auditor's upper bound in words and tables."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.policy import PREFERRED_FPR, ends, percent, percent_interval
from loraudit.report.cells import Cell, cell_of
from loraudit.spec import AuditResult, FusionPart, FusionResult
from loraudit.statistics import rate_metric
from loraudit.types import Finding


def fusion_statement(result: AuditResult) -> str | None:
    """What all scores show together, to whom, and what that does not say; None where a result holds none."""
    fusion = result.membership.fusion
    if fusion is None:
        return None
    label = fusion.label[0].upper() + fusion.label[1:]
    area = fusion.findings.get("auc")
    if area is None or area.value is None:
        return f"{label}: not measured; {fusion.reason or 'it is undefined'}."
    n = len(fusion.attacks)
    others = "documents" if _has_documents(result) else "records"
    said = (
        f"{label}: {_numbers(result, fusion, area)}, from {n} score{'s' * (n > 1)} weighed by a model that was told of "
        f"other {others} which are members. No outside attacker has those labels. It bounds what a weighted sum of "
        "these scores shows, not what other attacks would."
    )
    return " ".join([said, *_beyond_headline(result, fusion), *_beyond_blind(fusion)])


def _has_documents(result: AuditResult) -> bool:
    return any(side.n_groups != side.n_records for side in (result.members, result.nonmembers))


def _numbers(result: AuditResult, fusion: FusionResult, area: Finding) -> str:
    """AUC, and TPR at 1 % FPR or at the smallest rate measured."""
    rates = {fpr: fusion.findings.get(rate_metric(fpr)) for fpr in result.spec.fpr}
    known = {fpr: rate for fpr, rate in rates.items() if rate is not None and rate.value is not None}
    words = f"AUC {area.value:.3f} {ends(area)}".rstrip()
    if known:
        fpr = PREFERRED_FPR if PREFERRED_FPR in known else min(known)
        words += f", TPR at {100 * fpr:g} % FPR {percent(known[fpr].value or 0)} {percent_interval(known[fpr])}"
    return f"{words} (n = {area.n_members:,} members and {area.n_nonmembers:,} non-members)"


def _beyond_headline(result: AuditResult, fusion: FusionResult) -> list[str]:
    difference = fusion.beyond_headline.get("auc")
    if difference is None or difference.value is None:
        return []
    said = f"Minus the headline {result.membership.headline}: AUC {difference.value:+.3f} {ends(difference)}".rstrip()
    if difference.lower is not None and difference.lower > 0:
        return [f"{said}; the scores together hold more than the headline reads."]
    if difference.upper is not None and difference.upper < 0:
        return [f"{said}; weights learned from so few records cost more than they gain, so go by the headline."]
    return [f"{said}; it is not seen to show more than the headline alone."]


def _beyond_blind(fusion: FusionResult) -> list[str]:
    area, difference = fusion.blind_auc, fusion.beyond_blind
    if area is None or area.value is None:
        return []
    said = f"The same model of scores made without the target: AUC {area.value:.3f} {ends(area)}".rstrip()
    if area.lower is None or area.lower <= 0.5:
        return [f"{said}."]
    said += ". So the sides differ even without the target"
    if difference is None or difference.value is None:
        return [f"{said}, and how much of the bound is its doing is not known."]
    beyond = f"{difference.value:+.3f} {ends(difference)}".rstrip()
    if difference.lower is not None and difference.lower > 0:
        return [f"{said}, and only what lies beyond can be the target's doing: {beyond}."]
    return [f"{said}, and nothing is seen beyond it ({beyond}): the bound is not shown to be of the target's doing."]


@dataclass(frozen=True, slots=True)
class PartRow:
    """One score of a fusion.

    Attributes:
        name: As registered.
        auc: Of the fusion that the table speaks of.
        adds: What the score adds to it.
    """

    name: str
    auc: Cell
    adds: Cell


def fusion_tables(result: AuditResult) -> tuple[list[PartRow], list[PartRow]]:
    """What each score adds: one after the other, and where all others are there, the most missed first."""
    fusion = result.membership.fusion
    if fusion is None:
        return [], []
    missed = sorted(fusion.without, key=lambda part: (-(part.adds.value or 0), part.name))
    return [_row(part) for part in fusion.order], [_row(part) for part in missed]


def _row(part: FusionPart) -> PartRow:
    adds = part.adds
    value = "undefined" if adds.value is None else f"{adds.value:+.4f}"
    return PartRow(part.name, cell_of("auc", part.auc), Cell(value, ends(adds, 4), adds.note))
