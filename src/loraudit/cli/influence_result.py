"""A prediction of single records on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.contrast_result import show_sheet
from loraudit.errors import visible

if TYPE_CHECKING:
    from loraudit.spec import InfluenceResult

_SHORT = ("epoch", "predicted gap, saturating", "do they agree", "n, measured")


def show_influence(result: InfluenceResult, *, verbose: bool = False) -> None:
    """Finding, methods side by side, what can be extracted, correlations of single records, and warnings.

    Args:
        result: Of the run.
        verbose: With every correlation of both flows, and linearity.
    """
    from rich.text import Text

    from loraudit.report.influence import (
        across_sheet,
        agreement_sheets,
        extraction_sheet,
        left_out_sheet,
        linearity_sheet,
        records_words,
    )
    from loraudit.report.sheets import short_sheet

    console = console_for_tables()
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    console.print(Text(visible(f"{records_words(result)} {brackets}"), style="dim"))
    across = across_sheet(result)
    agreements = agreement_sheets(result, "squared")
    more = [*agreement_sheets(result, "log"), linearity_sheet(result)] if verbose else []
    sheets = [
        across if verbose else short_sheet(across, _SHORT),
        left_out_sheet(result),
        extraction_sheet(result),
        *(agreements if verbose else agreements[:3]),
        *more,
    ]
    for sheet in sheets:
        if sheet is not None:
            show_sheet(console, sheet)
    console.print()
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))
