"""What a model knows of planted canaries, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.contrast_result import show_sheet
from loraudit.errors import visible

if TYPE_CHECKING:
    from loraudit.spec import CanaryResult


def show_canaries(result: CanaryResult) -> None:
    """Finding, exposures, guesses and warnings on standard output."""
    from rich.text import Text

    from loraudit.report.canaries import exposure_sheet, guesses_sheet, headline_words

    console = console_for_tables()
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    console.print(Text(f"{headline_words(result)} {brackets}", style="dim"))
    show_sheet(console, exposure_sheet(result))
    guesses = guesses_sheet(result)
    if guesses is not None:
        show_sheet(console, guesses)
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))
