"""A study on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.contrast_result import show_sheet
from loraudit.errors import visible

if TYPE_CHECKING:
    from loraudit.spec import StudyFinding, StudyResult


def show_study(result: StudyResult, findings: Sequence[StudyFinding], *, verbose: bool = False) -> None:
    """What is not valid, finding, cells without a result, headline figures, what is published and what moved.

    Args:
        result: Of the study.
        findings: All figures of its cells.
        verbose: With every cell and the figures that moved beside the headlines.
    """
    from rich.text import Text

    from loraudit.report import study as told

    console = console_for_tables()
    flaw, flaws = told.flaw_heading(result), told.flaw_sheet(result)
    if flaw is not None and flaws is not None:
        console.print(Text(flaw, style="bold red"))
        console.print(Text(told.FLAWS_FOLLOW))
        show_sheet(console, flaws)
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    console.print(Text(f"{told.cells_words(result)} {told.brackets_words(result)}".strip(), style="dim"))
    missing, empty = told.empty_words(result), told.empty_sheet(result)
    if missing is not None and empty is not None:
        console.print(Text(missing, style="bold yellow"))
        show_sheet(console, empty)
    measures = told.measures_of(result)
    for sheet in told.figure_sheets(result, measures):
        show_sheet(console, sheet)
    ends, published = told.ends_sheet(measures) if verbose else None, told.published_sheet(result)
    for sheet in (ends, published):
        if sheet is not None:
            show_sheet(console, sheet)
    headlines, others = told.split_regressions(result)
    said = told.regressions_words(result, headlines)
    if said is not None:
        console.print(Text(f"\n{said}", style="bold yellow" if result.regressions else ""))
    for found, title in ((headlines, "Headline figures that changed"), (others if verbose else [], "Other figures")):
        sheet = told.regression_sheet(result, found, title)
        if sheet is not None:
            show_sheet(console, sheet)
    if verbose:
        show_sheet(console, told.cells_sheet(result, findings))
    console.print()
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))
