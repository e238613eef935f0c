"""`loraudit report`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from loraudit.cli.options import ResultAsJson

_REPORTED = "an audit, contrast, robustness run, forecast, influence run, search for canaries, scan or study"


class Format(StrEnum):
    """What `--format` takes; the same names as `loraudit.report.FORMATS`."""

    html = "html"
    json = "json"
    junit = "junit"
    markdown = "markdown"
    model_card = "model-card"


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder of a finished audit, contrast, robustness run, forecast, influence run, search for "
            "canaries, scan, or of a study."
        ),
    ],
    format_: Annotated[
        Format | None, typer.Option("--format", "-f", help="Print the report in this format instead of a table.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write --format there instead of printing it.")
    ] = None,
    with_: Annotated[
        Path | None,
        typer.Option(
            "--with",
            metavar="ROBUSTNESS_RUN",
            help="RUN is a forecast: set it beside this robustness run of the same base and task. The forecast stands "
            "first, the robustness run after --with.",
        ),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="OWNER/NAME",
            help="Put the model-card section of an audit into that model's card on the Hugging Face hub.",
        ),
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr/--no-create-pr", help="Push as a pull request, or to the main branch.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push-to-hub: print the card and what changes, and push nothing.")
    ] = False,
    as_json: ResultAsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Render report.html of a finished run again and show its table, or print it in another format.

    With --push-to-hub, and only then, something is sent: a section without paths, ids and text, between marks that the
    next push finds again.
    """
    from loraudit.cli.result import show_result
    from loraudit.errors import ConfigError
    from loraudit.report import FORMATS
    from loraudit.store import read_run

    if with_ is not None and as_json:
        raise ConfigError("--json prints result.json as it is, without --with. Use --format json for both.")
    if output is not None and format_ is None:
        raise ConfigError("--output needs a format. Expected --format html, json, junit, markdown or model-card.")
    if push_to_hub is not None:
        _refuse_beside_push({"--output": output, "--with": with_, "--json": as_json}, format_)
        from loraudit.cli.push import push

        push(run, push_to_hub, create_pr=create_pr, dry_run=dry_run)
        return
    if dry_run or not create_pr:
        raise ConfigError("--dry-run and --no-create-pr need a place to push to. Expected --push-to-hub OWNER/NAME.")
    other = _other_kind(run, verbose=verbose) if with_ is None else _forecast_with(run, with_, verbose=verbose)
    if other is None:
        audited = read_run(run, expected=_REPORTED)
        formats = {name: partial(render, audited) for name, render in FORMATS.items()}
        other = _Kind("An audit", formats, partial(show_result, audited.result, verbose=verbose))
    if format_ is None:
        _show(run, other, as_json=as_json)
        return
    if format_.value not in other.formats:
        raise ConfigError(
            f"{other.name} has no {format_.value} report. Expected --format {', '.join(other.formats)}{other.hint}."
        )
    _print(other.formats[format_.value](), output)


def _refuse_beside_push(others: Mapping[str, object], format_: Format | None) -> None:
    from loraudit.errors import ConfigError

    given = [name for name, value in others.items() if value]
    if format_ is not None and format_ is not Format.model_card:
        given.append(f"--format {format_.value}")
    if given:
        raise ConfigError(
            f"--push-to-hub pushes the model-card section alone, without {', '.join(given)}. Leave that out, "
            "or run twice."
        )


class _Kind(NamedTuple):
    """How a run of some kind is shown.

    Attributes:
        name: In messages.
        formats: By name, what makes the report.
        show: Prints its table.
        hint: Where formats that it lacks can be had.
    """

    name: str
    formats: Mapping[str, Callable[[], str]]
    show: Callable[[], None]
    hint: str = ""


def _other_kind(run: Path, *, verbose: bool) -> _Kind | None:
    """What a folder holds that is no audit; None where it is one, or nothing at all."""
    from loraudit.cli.canaries_result import show_canaries
    from loraudit.cli.contrast_result import show_contrast
    from loraudit.cli.forecast_result import show_forecast
    from loraudit.cli.influence_result import show_influence
    from loraudit.cli.robustness_result import show_robustness
    from loraudit.cli.scan_result import show_scan
    from loraudit.report import (
        CANARY_FORMATS,
        CONTRAST_FORMATS,
        FORECAST_FORMATS,
        INFLUENCE_FORMATS,
        ROBUSTNESS_FORMATS,
        SCAN_FORMATS,
    )
    from loraudit.store import (
        read_canaries,
        read_contrast,
        read_forecast,
        read_influence,
        read_robustness,
        read_scan,
    )

    sought = read_canaries(run)
    if sought is not None:
        formats = {name: partial(render, sought) for name, render in CANARY_FORMATS.items()}
        return _Kind("A search for canaries", formats, partial(show_canaries, sought))
    contrasted = read_contrast(run)
    if contrasted is not None:
        made = {name: partial(render, contrasted) for name, render in CONTRAST_FORMATS.items()}
        hint = f"; the audits in '{run / 'audits'}' have all formats"
        return _Kind("A contrast", made, partial(show_contrast, contrasted), hint)
    poisoned = read_robustness(run)
    if poisoned is not None:
        rendered = {name: partial(render, poisoned) for name, render in ROBUSTNESS_FORMATS.items()}
        return _Kind("A robustness run", rendered, partial(show_robustness, poisoned, verbose=verbose))
    predicted = read_forecast(run)
    if predicted is not None:
        prepared = {name: partial(render, predicted) for name, render in FORECAST_FORMATS.items()}
        return _Kind("A forecast", prepared, partial(show_forecast, predicted, verbose=verbose))
    followed = read_influence(run)
    if followed is not None:
        written = {name: partial(render, followed) for name, render in INFLUENCE_FORMATS.items()}
        return _Kind("An influence run", written, partial(show_influence, followed.result, verbose=verbose))
    scanned = read_scan(run)
    if scanned is not None:
        shown = {name: partial(render, scanned) for name, render in SCAN_FORMATS.items()}
        return _Kind("A scan", shown, partial(show_scan, scanned))
    return _study(run, verbose=verbose)


def _study(run: Path, *, verbose: bool) -> _Kind | None:
    """A study with the figures of its cells; None where the folder holds none."""
    from loraudit.cli.study_result import show_study
    from loraudit.report import STUDY_FORMATS
    from loraudit.store import read_study

    studied = read_study(run)
    if studied is None:
        return None
    from loraudit.study.findings import read_findings

    findings = read_findings(run)
    made = {name: partial(render, studied, findings) for name, render in STUDY_FORMATS.items()}
    hint = f"; the cells in '{run / 'cells'}' have those of their own kind"
    return _Kind("A study", made, partial(show_study, studied, findings, verbose=verbose), hint)


def _forecast_with(run: Path, measured: Path, *, verbose: bool) -> _Kind:
    """A forecast beside the robustness run that measured the same.

    Raises:
        ConfigError: The folders do not hold one of each, or the two cannot be compared.
    """
    from loraudit.cli.forecast_result import show_forecast
    from loraudit.errors import ConfigError
    from loraudit.report import FORECAST_FORMATS, render_forecast_html, render_forecast_markdown
    from loraudit.report.forecast import set_beside
    from loraudit.store import read_forecast, read_robustness, refused_folder

    predicted, tuned = read_forecast(run), read_robustness(measured)
    if predicted is None and read_robustness(run) is not None and read_forecast(measured) is not None:
        swapped = f"loraudit report {shlex.quote(str(measured))} --with {shlex.quote(str(run))}"
        raise ConfigError(
            f"Folder '{run}' holds a robustness run and '{measured}', after --with, a forecast. Expected them the "
            f"other way round. Run: {swapped}"
        )
    if predicted is None:
        raise refused_folder(run, "a forecast, where --with names a robustness run")
    if tuned is None:
        raise refused_folder(measured, "a robustness run after --with")
    beside = set_beside(predicted, tuned, name=str(measured))
    formats = {name: partial(render, beside.result) for name, render in FORECAST_FORMATS.items()}
    formats |= {
        "html": partial(render_forecast_html, predicted, beside),
        "markdown": partial(render_forecast_markdown, predicted, beside),
    }
    return _Kind("A forecast", formats, partial(show_forecast, predicted, verbose=verbose, beside=beside))


def _show(run: Path, kind: _Kind, *, as_json: bool) -> None:
    from loraudit.errors import visible
    from loraudit.report import write_page

    page = write_page(run, kind.formats["html"]())
    if as_json:
        typer.echo((run / "result.json").read_text(encoding="utf-8"), nl=False)
        return
    kind.show()
    typer.echo(f"\nReport: {visible(page)}")


def _print(content: str, output: Path | None) -> None:
    from loraudit.store import write_atomically

    if output is None:
        typer.echo(content, nl=False)
    else:
        write_atomically(output, content.encode("utf-8", errors="replace"))
