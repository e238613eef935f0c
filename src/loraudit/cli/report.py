"""`loraudit report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraudit.cli.options import ResultAsJson

if TYPE_CHECKING:
    from loraudit.spec import CanaryResult, ScanResult


class Format(StrEnum):
    """What `--format` takes; the same names as `loraudit.report.FORMATS`."""

    html = "html"
    json = "json"
    junit = "junit"
    markdown = "markdown"
    model_card = "model-card"


def report(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished audit, contrast, search for canaries or scan.")],
    format_: Annotated[
        Format | None, typer.Option("--format", "-f", help="Print the report in this format instead of a table.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write --format there instead of printing it.")
    ] = None,
    as_json: ResultAsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Render report.html of a finished run again and show its table, or print it in another format."""
    from loraudit.cli.contrast_result import show_contrast
    from loraudit.cli.result import show_result
    from loraudit.errors import ConfigError, visible
    from loraudit.report import CONTRAST_FORMATS, FORMATS, render_contrast_html, write_page, write_report
    from loraudit.store import read_canaries, read_contrast, read_run, read_scan, write_atomically

    if output is not None and format_ is None:
        raise ConfigError("--output needs a format. Expected --format html, json, junit, markdown or model-card.")
    sought = read_canaries(run)
    if sought is not None:
        _report_canaries(run, sought, format_, output, as_json=as_json)
        return
    scanned = read_scan(run)
    if scanned is not None:
        _report_scan(run, scanned, format_, output, as_json=as_json)
        return
    contrasted = read_contrast(run)
    if contrasted is not None and format_ is not None and format_.value not in CONTRAST_FORMATS:
        raise ConfigError(
            f"A contrast has no {format_.value} report. Expected --format {', '.join(CONTRAST_FORMATS)}; the audits in "
            f"'{run / 'audits'}' have all formats."
        )
    if format_ is not None:
        content = CONTRAST_FORMATS[format_.value](contrasted) if contrasted else FORMATS[format_.value](read_run(run))
        if output is None:
            typer.echo(content, nl=False)
        else:
            write_atomically(output, content.encode("utf-8", errors="replace"))
        return
    page = write_page(run, render_contrast_html(contrasted)) if contrasted else write_report(run)
    if as_json:
        typer.echo((run / "result.json").read_text(encoding="utf-8"), nl=False)
        return
    if contrasted:
        show_contrast(contrasted)
    else:
        show_result(read_run(run).result, verbose=verbose)
    typer.echo(f"\nReport: {visible(page)}")


def _report_canaries(
    run: Path, result: CanaryResult, format_: Format | None, output: Path | None, *, as_json: bool
) -> None:
    from loraudit.cli.canaries_result import show_canaries
    from loraudit.errors import ConfigError, visible
    from loraudit.report import CANARY_FORMATS, write_page
    from loraudit.store import write_atomically

    if format_ is not None and format_.value not in CANARY_FORMATS:
        raise ConfigError(
            f"A search for canaries has no {format_.value} report. Expected --format {', '.join(CANARY_FORMATS)}."
        )
    if format_ is not None:
        content = CANARY_FORMATS[format_.value](result)
        if output is None:
            typer.echo(content, nl=False)
        else:
            write_atomically(output, content.encode("utf-8", errors="replace"))
        return
    page = write_page(run, CANARY_FORMATS["html"](result))
    if as_json:
        typer.echo((run / "result.json").read_text(encoding="utf-8"), nl=False)
        return
    show_canaries(result)
    typer.echo(f"\nReport: {visible(page)}")


def _report_scan(run: Path, result: ScanResult, format_: Format | None, output: Path | None, *, as_json: bool) -> None:
    from loraudit.cli.scan_result import show_scan
    from loraudit.errors import ConfigError, visible
    from loraudit.report import SCAN_FORMATS, write_page
    from loraudit.store import write_atomically

    if format_ is not None and format_.value not in SCAN_FORMATS:
        raise ConfigError(f"A scan has no {format_.value} report. Expected --format {', '.join(SCAN_FORMATS)}.")
    if format_ is not None:
        content = SCAN_FORMATS[format_.value](result)
        if output is None:
            typer.echo(content, nl=False)
        else:
            write_atomically(output, content.encode("utf-8", errors="replace"))
        return
    page = write_page(run, SCAN_FORMATS["html"](result))
    if as_json:
        typer.echo((run / "result.json").read_text(encoding="utf-8"), nl=False)
        return
    show_scan(result)
    typer.echo(f"\nReport: {visible(page)}")
