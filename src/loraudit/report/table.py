"""The attack table, the same on the page and in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.report.cells import Cell, cell_of
from loraudit.spec import AuditResult
from loraudit.statistics import rate_metric


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
                [cell_of(metric, attack.findings.get(metric)) for metric in columns.values()],
                f"{area.n_members:,} + {area.n_nonmembers:,}" if area else "",
                area.n_undefined_members + area.n_undefined_nonmembers if area else 0,
                None if attack.status == "ok" else f"{attack.status.replace('_', ' ')}: {attack.reason}",
            )
        )
    return list(columns), rows
