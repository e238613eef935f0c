"""`loraudit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished audit.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json on standard output.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Render report.html of a finished run again and show its table."""
    from loraudit.cli.console import show_result
    from loraudit.report import write_report
    from loraudit.store import read_run

    page = write_report(run)
    if as_json:
        typer.echo((run / "result.json").read_text(encoding="utf-8"), nl=False)
        return
    show_result(read_run(run).result, verbose=verbose)
    typer.echo(f"\nReport: {page}")
