"""`loraudit study`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, with_spec_options
from loraudit.errors import EXIT_PARTIAL, ConfigError, counted, visible
from loraudit.spec import StudySpec

if TYPE_CHECKING:
    from loraudit.spec import StudyResult
    from loraudit.study import StudyCost, StudyRun

ONLY_IN_FILES = ("name", "description", "grids", "published")


@with_spec_options(StudySpec, argument=None, without=ONLY_IN_FILES)
def study(
    values: dict[str, Any],
    *,
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY", help="TOML, YAML or JSON file of a study, or the name of a preset.", show_default=False
        ),
    ] = None,
    list_presets: Annotated[bool, typer.Option("--list-presets", help="Show the studies that come along.")] = False,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Carry out a grid of audits, contrasts, robustness runs and forecasts, and report them together.

    Every combination of the values of a grid's axes is a cell: one run with a folder of its own. Cells share one
    evidence store, so that a base is scored once, and run wherever --engine says. The same study again resumes:
    cells that are complete are left as they are.

    Exit codes: as of `loraudit audit`; 7 where a cell failed, 1 where a limit of a cell does not hold.
    """
    if list_presets:
        _show_presets()
        return
    if study is None:
        raise ConfigError("No study was named. Give a file or a preset; see: loraudit study --list-presets")
    from loraudit.cli.console import carry_out
    from loraudit.study import estimate_study, exit_code, parse_settings, read_study, run_study

    if "settings" in values:
        values["settings"] = parse_settings(values["settings"])
    request = read_study(study, values)
    if dry_run:
        cost = estimate_study(request)
        _show_cost(cost, as_json=as_json)
        raise typer.Exit(EXIT_PARTIAL if cost.n_failing else 0)
    run = carry_out(partial(run_study, request), quiet=quiet or as_json)
    _show_run(run, as_json=as_json)
    raise typer.Exit(exit_code(run))


def _show_presets() -> None:
    from loraudit.study.presets import preset_line, preset_names

    names = preset_names()
    width = max(map(len, names), default=0)
    for name in names:
        typer.echo(f"{name:<{width}}  {preset_line(name)}")


def _show_run(run: StudyRun, *, as_json: bool) -> None:
    from loraudit.cli.console import show_finished

    if run.result is None:
        for words in run.failed:
            typer.echo(f"Failed: {visible(words)}", err=True)
        typer.echo(
            f"{run.n_complete} of {run.n_cells} cells are complete. When all parts have run, put them together with "
            "the same command without --shard.",
            err=as_json,
        )
        return
    result = run.result
    show_finished(run.path, lambda: _show_result(result), as_json=as_json)


def _show_result(result: StudyResult) -> None:
    from rich.text import Text

    from loraudit.cli.console import console_for_tables

    console = console_for_tables()
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    for cell in result.cells:
        labels = ", ".join(f"{axis}={label}" for axis, label in cell.labels.items()) or "one cell"
        style = "bold red" if cell.status == "failed" else ""
        words = cell.sentence if cell.status == "ok" else (cell.error or cell.status)
        console.print(Text(visible(f"  {cell.grid}, {labels} ({cell.status}): {words}"), style=style))
        if cell.flaw:
            console.print(Text(visible(f"    Not valid: {cell.flaw}"), style="yellow"))
    for moved in result.regressions:
        console.print(Text(visible(f"Moved: {moved.name} of cell {moved.cell} ({moved.kind})"), style="yellow"))
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))


def _show_cost(cost: StudyCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        facts = dataclasses.asdict(cost)
        for shown, cell in zip(facts["cells"], cost.cells, strict=True):
            shown["work"] = None if cell.work is None else cell.work._asdict()
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for cell in cost.cells:
        labels = ", ".join(f"{axis}={label}" for axis, label in cell.labels.items()) or "one cell"
        state = "complete" if cell.is_complete else (cell.error or _work_words(cell.work))
        typer.echo(visible(f"  {cell.kind}-{cell.id}  {cell.grid}, {labels}: {state}"))
    n_left = len(cost.cells) - cost.n_complete
    typer.echo(
        f"{counted(len(cost.cells), 'cell')}, {cost.n_complete} complete. "
        f"To do: {counted(n_left, 'cell')}, {counted(cost.n_runs, 'training run')} of "
        f"{counted(cost.n_steps, 'step')}, {cost.n_tokens:,} tokens through models in audits and "
        "forecasts (audits: about "
        f"{cost.seconds:,.0f} s).\n"
        f"The largest cell takes about {cost.memory_bytes / 2**30:.2f} GiB; cells that run at once take theirs each."
    )
    if cost.n_sharing:
        typer.echo(
            f"{cost.n_sharing} cells find the base scored by an earlier one, which these sums count again: they are "
            "upper bounds."
        )
    if cost.n_failing:
        typer.echo(f"{counted(cost.n_failing, 'cell')} cannot be carried out as asked.")


def _work_words(work: Any) -> str:
    parts = []
    if work.n_runs:
        parts.append(f"{counted(work.n_runs, 'training run')} of {counted(work.n_steps, 'step')}")
    if work.n_tokens:
        parts.append(f"{work.n_tokens:,} tokens")
    return ", ".join([*parts, f"{work.memory_bytes / 2**30:.2f} GiB"])
