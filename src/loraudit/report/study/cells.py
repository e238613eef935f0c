"""Figures of a study as they stand in tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from loraudit.policy import ends, percent, percent_interval
from loraudit.report.cells import Cell, signed_cell
from loraudit.report.forecast.cells import short
from loraudit.report.robustness.cells import count_words, open_interval
from loraudit.report.study.measures import Unit
from loraudit.spec import CellResult
from loraudit.types import Finding

_SMALLEST = 0.01
_TOO_FEW = "too few non-members"


def figure_cell(unit: Unit, finding: Finding | None) -> Cell:
    """A figure with its interval, or a word in its place; an empty cell where there is none."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        if finding.method == "refused":
            return Cell("refused", _TOO_FEW, finding.note)
        if unit == "count":
            return Cell("not bracketed", open_interval(finding.lower, finding.upper, count_words), finding.note)
        return Cell("undefined", note=finding.note)
    if unit == "share":
        return Cell(percent(finding.value), percent_interval(finding), finding.note)
    if unit in {"points", "change"}:
        cell = signed_cell(finding, is_rate=unit == "points")
        return Cell(cell.value, cell.interval or "no interval", finding.note)
    if unit == "count":
        interval = open_interval(finding.lower, finding.upper, count_words)
        return Cell(count_words(finding.value), interval or "no interval", finding.note)
    if finding.value != 0 and (abs(finding.value) >= 1000 or abs(finding.value) < _SMALLEST):
        known = finding.lower is not None and finding.upper is not None
        interval = f"[{short(finding.lower or 0)}, {short(finding.upper or 0)}]" if known else "no interval"
        return Cell(short(finding.value), interval, finding.note)
    return Cell(f"{finding.value:.3f}", ends(finding) or "no interval", finding.note)


def n_words(findings: Sequence[Finding | None]) -> str:
    """How many records figures rest on: members and non-members, or records of one kind; each number once."""
    said: list[str] = []
    for one in findings:
        if one is not None:
            sides = [f"{n:,}" for n in (one.n_members, one.n_nonmembers) if n]
            n_undefined = one.n_undefined_members + one.n_undefined_nonmembers
            said.append(" + ".join(sides or ["0"]) + (f" ({n_undefined:,} undefined)" if n_undefined else ""))
    return "; ".join(dict.fromkeys(said))


def labels_words(cell: CellResult) -> str:
    """Where in its grid a cell stands, in one line."""
    return ", ".join(f"{axis} {label}" for axis, label in cell.labels.items()) or cell.grid


def link_of(cell: CellResult) -> str | None:
    """Where the cell's own report is, relative to the study's; None where it has none.

    The folder is quoted, and begins with a dot: whatever a result file holds there, it names a place below the
    study's folder and nothing else.
    """
    parts = [part for part in cell.folder.replace("\\", "/").split("/") if part not in {"", "."}]
    if cell.status != "ok" or not parts or ".." in parts:
        return None
    return "./" + "/".join(quote(part, safe="") for part in [*parts, "report.html"])
