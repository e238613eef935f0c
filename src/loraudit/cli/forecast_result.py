"""A forecast on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.contrast_result import show_sheet
from loraudit.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

    from loraudit.report.forecast import Beside
    from loraudit.spec import ForecastResult

_SAID_BY_ENDS = ("over starts, %",)


def show_forecast(result: ForecastResult, *, verbose: bool = False, beside: Beside | None = None) -> None:
    """Finding, what is refused, limits, predicted harm by dose, how it compares, and warnings.

    Args:
        result: Of the run.
        verbose: With every method, speed and shape, twins, entropies and linearity.
        beside: A robustness run to set it against, in place of what the result holds.
    """
    from rich.text import Text

    from loraudit.report.forecast import NOTHING, ends_of, prediction_sheets
    from loraudit.report.sheets import short_sheet

    result = result if beside is None else beside.result
    console = console_for_tables()
    _show_finding(console, result)
    if not result.curves:
        console.print(Text(f"\n{NOTHING}"))
    for attack in result.attacks:
        sheets = prediction_sheets(result, attack)
        for sheet in sheets if verbose else sheets[:1]:
            shown = sheet if verbose else ends_of(result, attack, sheet) or sheet
            show_sheet(console, shown if verbose else short_sheet(shown, _SAID_BY_ENDS))
    _show_comparisons(console, result, beside)
    if verbose:
        _show_kernels(console, result)
    console.print()
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))


def _show_finding(console: Console, result: ForecastResult) -> None:
    from rich.text import Text

    from loraudit.report import LIMIT_WORDS
    from loraudit.report.forecast import fit_words, records_words, refused_heading, refused_words

    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    refused = refused_words(result)
    if refused:
        console.print(Text(refused_heading(result), style="bold yellow"))
        console.print(Text(visible(refused)))
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    console.print(Text(visible(" ".join((records_words(result), fit_words(result), brackets))), style="dim"))
    for limit in result.limits:
        outcome = f"{LIMIT_WORDS[limit.status]}. {visible(limit.reason)}"
        style = "" if limit.status == "holds" else "bold red"
        console.print(Text(f"Limit {visible(limit.limit)}: {outcome}", style=style))


def _show_comparisons(console: Console, result: ForecastResult, beside: Beside | None) -> None:
    from rich.text import Text

    from loraudit.report.forecast import beside_sheet, correlation_sheet
    from loraudit.report.sheets import short_sheet

    for comparison in result.comparisons:
        show_sheet(console, short_sheet(correlation_sheet(comparison), {"how"}))
        if beside is not None:
            show_sheet(console, beside_sheet(beside, comparison.measure))
    for words in () if beside is None else beside.left_out:
        console.print(Text(visible(words)))


def _show_kernels(console: Console, result: ForecastResult) -> None:
    from loraudit.report.forecast import linearity_sheet, shape_sheet, speed_sheet, theory_sheet, twins_sheet

    for make in (speed_sheet, shape_sheet, twins_sheet, theory_sheet, linearity_sheet):
        sheet = make(result)
        if sheet is not None:
            show_sheet(console, sheet)
