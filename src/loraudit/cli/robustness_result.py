"""A robustness run on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.contrast_result import show_sheet
from loraudit.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

    from loraudit.spec import RobustnessMatch, RobustnessResult

_OF_RUNS = ("median, quartiles", "single runs", "without those", "exposures")


def show_robustness(result: RobustnessResult, *, verbose: bool = False) -> None:
    """What was not tested, the finding, limits, controls, harm by dose, effective doses and warnings.

    Args:
        result: Of the run.
        verbose: With every measure and match, single runs, differences, persistence and detectors.
    """
    from rich.text import Text

    from loraudit.report.robustness import NO_MATCH, controls_sheet, detection_sheet, persistence_sheet
    from loraudit.report.sheets import short_sheet

    console = console_for_tables()
    _show_finding(console, result)
    controls = controls_sheet(result)
    show_sheet(console, controls if verbose else short_sheet(controls, {"why", "n"}))
    if not result.matches:
        console.print(Text(f"\n{NO_MATCH}"))
    for match in result.matches if verbose else result.matches[:1]:
        _show_match(console, result, match, verbose=verbose)
    for sheet in (persistence_sheet(result), detection_sheet(result)) if verbose else ():
        if sheet is not None:
            show_sheet(console, sheet)
    console.print()
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))


def _show_finding(console: Console, result: RobustnessResult) -> None:
    from rich.text import Text

    from loraudit.policy.robustness import invalid_words
    from loraudit.report import LIMIT_WORDS
    from loraudit.report.robustness import collapse_words, invalid_heading, records_words, runs_words

    invalid = invalid_words(result.controls)
    if invalid:
        console.print(Text(invalid_heading(result), style="bold red"))
        console.print(Text(visible(invalid)))
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    said = (records_words(result), runs_words(result), brackets, collapse_words(result))
    console.print(Text(" ".join(words for words in said if words), style="dim"))
    for limit in result.limits:
        outcome = f"{LIMIT_WORDS[limit.status]}. {visible(limit.reason)}"
        style = "" if limit.status == "holds" else "bold red"
        console.print(Text(f"Limit {visible(limit.limit)}: {outcome}", style=style))


def _show_match(console: Console, result: RobustnessResult, match: RobustnessMatch, *, verbose: bool) -> None:
    from loraudit.report.robustness import clean_sheet, differences_sheet, dose_sheets, effective_sheet, ratios_sheet
    from loraudit.report.sheets import short_sheet

    show_sheet(console, clean_sheet(result, match) if verbose else short_sheet(clean_sheet(result, match), {"n"}))
    for attack in result.attacks:
        sheets = dose_sheets(result, match, attack)
        for sheet in sheets if verbose else sheets[:1]:
            show_sheet(console, sheet if verbose else short_sheet(sheet, _OF_RUNS))
    differences = differences_sheet(result, match) if verbose else None
    for sheet in (effective_sheet(result, match), ratios_sheet(match), differences):
        if sheet is not None:
            show_sheet(console, sheet)
