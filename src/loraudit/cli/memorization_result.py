"""What can be pulled out of a model, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

    from loraudit.spec import AuditResult


def show_memorization(console: Console, result: AuditResult, *, verbose: bool) -> None:
    """The statement and a table of at most six rows; nothing where a result holds no measures of memorization.

    Args:
        console: Where to.
        result: Of the audit.
        verbose: With every further statement.
    """
    from rich.text import Text

    from loraudit.cli.contrast_result import show_sheet
    from loraudit.report.contrast import short_sheet
    from loraudit.report.memorization import extraction_verdict, short_sheet_of, statements

    verdict = extraction_verdict(result)
    if verdict is None or result.memorization is None:
        return
    console.print()
    console.print(Text(verdict.heading, style="bold"))
    console.print(Text(visible(f"{verdict.statement.words} {verdict.act}".strip())))
    for said in statements(result) if verbose else ():
        console.print(Text(visible(f"{said.title}. {said.words}")))
    show_sheet(console, short_sheet(short_sheet_of(result.memorization), ()))
    console.print()
