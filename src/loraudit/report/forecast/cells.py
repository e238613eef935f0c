"""Numbers of a forecast as they stand in tables and heat maps."""

from __future__ import annotations

import math

from loraudit.policy import ends
from loraudit.report.cells import Cell
from loraudit.types import Finding


def short(value: float) -> str:
    """A number of any size, to three digits.

    >>> short(0.0421), short(812.4), short(55296.0), short(4.2e-7), short(3.1e8)
    ('0.0421', '812', '55,296', '4.2e-7', '3.1e8')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if not math.isfinite(value):
        return "not finite"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def short_cell(value: float | None) -> Cell:
    """A number without an interval, or that it is undefined."""
    return Cell("undefined" if value is None or math.isnan(value) else short(value))


def short_finding(finding: Finding | None) -> Cell:
    """A number of any size with its interval; an empty cell where it was not asked for."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("undefined", note=finding.note)
    has_ends = finding.lower is not None and finding.upper is not None
    interval = f"[{short(finding.lower or 0)}, {short(finding.upper or 0)}]" if has_ends else ""
    return Cell(short(finding.value), interval, finding.note)


def rank_cell(finding: Finding) -> Cell:
    """A rank correlation with its interval."""
    if finding.value is None:
        return Cell("undefined", note=finding.note)
    return Cell(f"{finding.value:.2f}", ends(finding, 2) or "no interval", finding.note)


def rank_words(finding: Finding) -> str:
    """The same in a sentence."""
    return " ".join(part for part in (rank_cell(finding).value, rank_cell(finding).interval) if part)
