"""Numbers of a robustness run as they stand in tables."""

from __future__ import annotations

from collections.abc import Callable

from loraudit.policy import ends, percent, percent_interval
from loraudit.report.cells import Cell, signed_cell
from loraudit.report.robustness.words import RATES
from loraudit.types import Finding


def value_cell(measure: str, finding: Finding | None) -> Cell:
    """A mean or a share with its interval; an empty cell where there is none."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("undefined", note=finding.note)
    if measure in RATES:
        return Cell(percent(finding.value), percent_interval(finding), finding.note)
    return Cell(f"{finding.value:.3f}", ends(finding) or "no interval", finding.note)


def change_cell(measure: str, finding: Finding | None, p_value: float | None = None) -> Cell:
    """A change or a difference with its interval and sign."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("undefined", note=finding.note)
    return signed_cell(finding, p_value, is_rate=measure in RATES)


def plain_words(measure: str, value: float | None) -> str:
    """A number without an interval of its own."""
    if value is None:
        return "undefined"
    return percent(value) if measure in RATES else f"{value:.3f}"


def n_cell(finding: Finding | None) -> Cell:
    """How many records a number rests on."""
    if finding is None:
        return Cell("")
    n_undefined = finding.n_undefined_members + finding.n_undefined_nonmembers
    return Cell(
        f"{finding.n_members + finding.n_nonmembers:,}", remark=f"{n_undefined:,} undefined" * bool(n_undefined)
    )


def open_interval(lower: float | None, upper: float | None, words: Callable[[float], str]) -> str:
    """An interval of which the upper end may be missing because there is none; empty where nothing is known.

    >>> open_interval(25.0, None, count_words), open_interval(25.0, 40.0, count_words), open_interval(None, None, str)
    ('[25, ∞)', '[25, 40]', '')
    """
    if lower is None:
        return ""
    return f"[{words(lower)}, ∞)" if upper is None else f"[{words(lower)}, {words(upper)}]"


def ratio_words(value: float) -> str:
    """A ratio, to two digits behind the point."""
    return f"{value:.2f}"


def count_words(value: float) -> str:
    """Exposures, to the digits they deserve.

    >>> count_words(36.4), count_words(1536.0), count_words(2.345)
    ('36', '1,536', '2.3')
    """
    return f"{value:.1f}" if value < 10 and not float(value).is_integer() else f"{value:,.0f}"
