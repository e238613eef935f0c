"""`loraudit scan`."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import typer

from loraudit.cli.options import Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import visible
from loraudit.spec import ScanSpec, make_request, read_spec_file


@with_spec_options(ScanSpec, argument="model")
def scan(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search an adapter for signs of a planted backdoor.

    Computes the exact spectrum of every update from the adapter's file alone and compares modules of one kind. With the
    base it also tries a fixed set of triggers against controls of the same form. Writes a run folder with result.json,
    report.html and report.md. That nothing stands out does not show that nothing is there; the report says what was
    not looked at.

    Exit codes: as of `loraudit audit`; 1 only where a limit (--fail-on) does not hold.
    """
    request = make_request(ScanSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.console import waiting
    from loraudit.scanning import run_scan

    command = "loraudit " + shlex.join(sys.argv[1:])
    with waiting(quiet=quiet or as_json) as (progress, stop):
        run = run_scan(request, progress=progress, stop=stop, command=command)
    if as_json:
        typer.echo((run.path / "result.json").read_text(encoding="utf-8"), nl=False)
    else:
        from loraudit.cli.scan_result import show_scan

        show_scan(run.result)
        typer.echo(f"\nReport: {visible(run.path / 'report.html')}")
    raise typer.Exit(run.result.exit_code)
