"""What a scan found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.contrast_result import show_sheet
from loraudit.errors import visible

if TYPE_CHECKING:
    from loraudit.spec import ScanResult


def show_scan(result: ScanResult) -> None:
    """Finding, triggers, modules, families, limits, warnings and what it does not show on standard output."""
    from rich.text import Text

    from loraudit.report.scan import families_sheet, modules_sheet, probes_sheet

    console = console_for_tables()
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    probes = probes_sheet(result)
    for sheet in [*([probes] if probes else []), modules_sheet(result), families_sheet(result)]:
        show_sheet(console, sheet)
    for limit in result.limits:
        style = "green" if limit.status == "holds" else "bold red"
        words = f"{limit.limit}: {limit.status.replace('_', ' ')} ({limit.reason})"
        console.print(Text(visible(words), style=style))
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))
    console.print(Text("\nWhat this does not show:", style="bold"))
    for limit in result.does_not_show:
        console.print(Text(f"- {visible(limit)}", style="dim"))
