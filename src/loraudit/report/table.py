"""The attack table, the same on the page and in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.policy import percent, percent_interval
from loraudit.spec import AuditResult
from loraudit.statistics import rate_metric
from loraudit.types import Finding


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with its interval, or a word in its place.

    Attributes:
        value: Such as "0.913" or "refused".
        interval: Such as "[0.905, 0.921]"; empty where there is none.
        note: Shown on hovering and under the table.
        false_alarms: For a rate, the non-members that were taken for members, such as "4 false alarms".
    """

    value: str
    interval: str = ""
    note: str | None = None
    false_alarms: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One attack.

    Attributes:
        name: As registered.
        is_headline: Whether the verdict rests on it.
        cells: One per column of the table.
        n: Members and non-members with a score.
        n_undefined: Records without one.
        remark: Why there are no numbers, where there are none.
    """

    name: str
    is_headline: bool
    cells: list[Cell]
    n: str
    n_undefined: int
    remark: str | None = None


def attack_table(result: AuditResult) -> tuple[list[str], list[TableRow]]:
    """Column titles and rows, headline first, then by AUC."""
    columns = {
        "AUC": "auc",
        **{f"TPR at {100 * fpr:g} % FPR": rate_metric(fpr) for fpr in result.spec.fpr},
        "TPR at 0 false alarms": "tpr_at_zero_false_positives",
        "partial AUC": "partial_auc_fpr_10pct",
    }
    rows: list[TableRow] = []

    def order(attack: object) -> tuple[bool, float]:
        area = attack.findings.get("auc")  # type: ignore[attr-defined]
        return attack.name != result.membership.headline, -(area.value or 0) if area else 1  # type: ignore[attr-defined]

    for attack in sorted(result.membership.attacks, key=order):
        area = attack.findings.get("auc")
        rows.append(
            TableRow(
                attack.name,
                attack.name == result.membership.headline,
                [_cell(metric, attack.findings.get(metric)) for metric in columns.values()],
                f"{area.n_members:,} + {area.n_nonmembers:,}" if area else "",
                area.n_undefined_members + area.n_undefined_nonmembers if area else 0,
                None if attack.status == "ok" else f"{attack.status.replace('_', ' ')}: {attack.reason}",
            )
        )
    return list(columns), rows


def _cell(metric: str, finding: Finding | None) -> Cell:
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("refused" if finding.method == "refused" else "undefined", note=finding.note)
    if metric.startswith("tpr"):
        n = finding.n_false_positives
        alarms = "" if n is None else f"{n:,} false alarm" + ("" if n == 1 else "s")
        return Cell(percent(finding.value), percent_interval(finding), finding.note, alarms)
    ends = "" if finding.lower is None else f"[{finding.lower:.3f}, {finding.upper:.3f}]"
    return Cell(f"{finding.value:.3f}", ends, finding.note)
