"""One number as a cell of a table, the same on the page, in Markdown and in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from loraudit.policy import ends, percent, percent_interval
from loraudit.types import Finding

_SMALLEST_P = 1e-4


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with its interval, or a word in its place.

    Attributes:
        value: Such as "0.913" or "refused".
        interval: Such as "[0.905, 0.921]"; empty where there is none.
        note: Shown on hovering and under the table.
        false_alarms: For a rate, the non-members that were taken for members, such as "4 false alarms".
        remark: A further line, such as "sd 0.004".
    """

    value: str
    interval: str = ""
    note: str | None = None
    false_alarms: str = ""
    remark: str = ""


def cell_of(metric: str, finding: Finding | None) -> Cell:
    """A finding of this metric; an empty cell where there is none."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("refused" if finding.method == "refused" else "undefined", note=finding.note)
    if is_rate(metric):
        n = finding.n_false_positives
        alarms = "" if n is None else f"{n:,} false alarm" + ("" if n == 1 else "s")
        return Cell(percent(finding.value), percent_interval(finding), finding.note, alarms)
    return Cell(f"{finding.value:.3f}", ends(finding), finding.note)


def signed_cell(finding: Finding, p_value: float | None = None, *, is_rate: bool) -> Cell:
    """A difference that has a value, with its sign.

    Args:
        finding: The difference.
        p_value: Written below; None where there is none.
        is_rate: Of rates, which differ by percentage points.
    """
    factor, digits, unit = (100, 1, " points") if is_rate else (1, 3, "")

    def signed(value: float) -> str:
        return f"{round(factor * value, digits) + 0.0:+.{digits}f}"  # adding 0 takes the sign off -0.0

    interval = ""
    if finding.lower is not None and finding.upper is not None:
        interval = f"[{signed(finding.lower)}, {signed(finding.upper)}]{unit}"
    remark = "" if p_value is None else p_words(p_value)
    return Cell(f"{signed(finding.value or 0)}{unit}", interval, finding.note, remark=remark)


def is_rate(metric: str) -> bool:
    """Whether a metric is a true-positive rate, which is shown in percent."""
    return metric.startswith("tpr")


def p_number(value: float) -> str:
    """A p-value as it stands in a cell.

    >>> p_number(0.0314), p_number(3e-9)
    ('0.031', '< 0.0001')
    """
    return f"{value:.2g}" if value >= _SMALLEST_P else f"< {_SMALLEST_P:g}"


def p_words(value: float | None) -> str:
    """A p-value in a sentence.

    >>> p_words(0.0314), p_words(3e-9), p_words(None)
    ('p = 0.031', 'p < 0.0001', 'p undefined')
    """
    if value is None:
        return "p undefined"
    number = p_number(value)
    return f"p {number}" if number.startswith("<") else f"p = {number}"
