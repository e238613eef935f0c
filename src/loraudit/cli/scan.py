"""`loraudit scan`."""

from __future__ import annotations

from functools import partial
from typing import Any

import typer

from loraudit.cli.options import Quiet, ResultAsJson, SpecFile, with_spec_options
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
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.cli.scan_result import show_scan
    from loraudit.scanning import run_scan

    run = carry_out(partial(run_scan, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_scan(run.result), as_json=as_json)
    raise typer.Exit(run.result.exit_code)
