"""What every format of a study says in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from loraudit.report.study.measures import Measure
from loraudit.spec import Regression, StudyResult

STATUS_WORDS: Mapping[str, str] = {"ok": "finished", "failed": "FAILED", "absent": "not carried out"}
_BECAME: Mapping[str, str] = {"moved": "moved", "apart": "MOVED APART", "gone": "GONE"}
HOW_DRAWN = (
    "Headline figures of every cell; all panels of one measure have one scale. The axis with the most values runs "
    "along the figure, marks tell a second one apart, panels the others. Hollow marks and rows named 'not valid' are "
    "cells whose own validity gate or control failed."
)
HOW_ENDS = (
    "The largest of many numbers is large by chance too: what stands here was chosen among as many numbers as the last "
    "column says, and its interval, which is that of one number alone, is not widened for the choice. Expect both ends "
    "to move towards the middle when the cell is repeated with another seed. Cells of one base or one set of records "
    "share their chance."
)
HOW_PUBLISHED = (
    "Published figures are quoted as they are; how certain they are is not known here. A measured interval that does "
    "not hold the published number says that the two differ by more than the chance of these records, not which is "
    "right: models, records and recipes differ too."
)
HOW_REGRESSIONS = (
    "The same request with the same seed on one type of device gives the same bits, so any change beyond a millionth "
    "of a figure comes from another version, other libraries, another device or changed files. Moved: another number "
    "or another interval. Apart: the two intervals do not meet either. Gone: defined before, not now."
)
NO_NUMBER = "No cell has a number here."
_NOT_SAID = """
Cells that share a base, a split or a seed share their chance: that many of them agree is not as many confirmations.

Intervals are those of single figures. They are not widened for the number of cells looked at, nor for the choice of
the axes.

A grid says what its cells say, at its own values. Nothing is said between them or beyond.

What a single cell leaves open is stated in its own report.
"""
NOT_SAID = tuple(" ".join(words.split()) for words in _NOT_SAID.strip().split("\n\n"))


def cells_words(result: StudyResult) -> str:
    """How many cells of what, and what became of them."""
    statuses = Counter(cell.status for cell in result.cells)
    grids = len({cell.grid for cell in result.cells})
    n = len(result.cells)
    parts = [f"{statuses[status]:,} {STATUS_WORDS[status].lower()}" for status in STATUS_WORDS if statuses[status]]
    return (
        f"{_count(n, 'cell')} of {_count(grids, 'grid')}: {', '.join(parts) or 'nothing was asked'}. "
        f"{_count(result.n_findings, 'figure')} in findings.parquet and findings.csv, {len(result.headlines):,} of "
        "them shown here."
    )


def brackets_words(result: StudyResult) -> str:
    """At which confidence intervals are stated."""
    levels = sorted({one.finding.confidence for one in result.headlines})
    if not levels:
        return ""
    return f"Brackets: {' and '.join(f'{100 * level:g} %' for level in levels)} intervals of single figures."


def flaw_heading(result: StudyResult) -> str | None:
    """What stands above the cells that are not valid; None where all are."""
    flawed = sum(bool(cell.flaw) for cell in result.cells)
    finished = sum(cell.status == "ok" for cell in result.cells)
    if not flawed:
        return None
    return f"Not valid as it stands: {flawed:,} of {_count(finished, 'finished cell')}"


FLAWS_FOLLOW = (
    "A validity gate or a control of these cells failed, or their forecast refuses a method. Their figures are shown "
    "and marked; none of them may be quoted alone."
)


def empty_words(result: StudyResult) -> str | None:
    """That cells are missing; None where none is."""
    statuses = Counter(cell.status for cell in result.cells)
    said: list[str] = []
    if statuses["failed"]:
        said.append(f"{_count(statuses['failed'], 'cell')} failed")
    if statuses["absent"]:
        is_one = statuses["absent"] == 1
        said.append(f"{_count(statuses['absent'], 'cell')} {'was' if is_one else 'were'} not carried out")
    if not said:
        return None
    return f"{' and '.join(said)}. Run the same command again: finished cells are kept."


def regression_words(one: Regression) -> str:
    """What became of a figure, and how its cell was found."""
    found = "" if one.matched_by == "id" else " (cell found by grid and labels)"
    return f"{_BECAME[one.kind]}{found}"


def regressions_words(result: StudyResult, headlines: Sequence[Regression]) -> str | None:
    """How many figures moved; None where the study was not compared with an earlier one."""
    if result.spec.against is None:
        return None
    kinds = Counter(one.kind for one in result.regressions)
    if not kinds:
        return "No figure differs from the earlier run by more than a millionth of itself."
    counted = ", ".join(f"{kinds[kind]:,} {words}" for kind, words in _BECAME.items() if kinds[kind])
    return (
        f"{_count(len(result.regressions), 'figure')} changed since the earlier run ({counted.lower()}); "
        f"{len(headlines):,} of them among the headlines."
    )


def undrawn_words(measures: Sequence[Measure], n_drawn: int) -> str | None:
    """That some measures have no figure; None where all have one."""
    left = len(measures) - n_drawn
    if not left:
        return None
    return f"{_count(left, 'measure')} could not be drawn: no cell has a number of it, or there are too many rows."


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
