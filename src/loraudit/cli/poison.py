"""`loraudit poison`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraudit.cli.options import DryRun, SpecFile, with_spec_options
from loraudit.errors import visible
from loraudit.spec import PoisonSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.planting import PoisonCost, PoisonedFiles


@with_spec_options(PoisonSpec, argument="data")
def poison(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    list_all: Annotated[bool, typer.Option("--list", help="Show every poison and its settings.")] = False,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON, without texts.")] = False,
) -> None:
    """Poison training records, for any trainer.

    Writes the records as one file of the same format with some of them poisoned and every other row as it was,
    manifest.json, which says what was changed and is yours alone, and, with --test, a test set that holds the
    trigger. Triggers and responses are harmless by default. The same command again finds what it made.

    Exit codes: as of loraudit audit.
    """
    if list_all:
        _show_poisons(as_json=as_json)
        return
    request = make_request(PoisonSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.planting import estimate_poison, run_poison

    if dry_run:
        _show_cost(estimate_poison(request), as_json=as_json)
        return
    _show_made(run_poison(request), as_json=as_json)


def _show_poisons(*, as_json: bool) -> None:
    from loraudit.poisoning import POISONS

    if as_json:
        facts = [
            {
                "name": one.name,
                "goal": one.goal,
                "tasks": sorted(one.tasks),
                "settings": sorted(one.settings),
                "triggers": list(one.triggers),
                "summary": one.summary,
                "source": one.source,
            }
            for one in POISONS.values()
        ]
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from rich.table import Table
    from rich.text import Text

    from loraudit.cli.console import console_for_tables

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("poison", no_wrap=True)
    for title in ("goal", "for", "what it does", "settings", "source"):
        table.add_column(title)
    for one in POISONS.values():
        settings = ", ".join(sorted(one.settings))
        row = one.name, one.goal, ", ".join(sorted(one.tasks)), one.summary, settings, one.source
        table.add_row(*(Text(visible(cell)) for cell in row))
    console_for_tables().print(table)


def _show_cost(cost: PoisonCost, *, as_json: bool) -> None:
    if as_json:
        facts = {**cost._asdict(), "resolved": cost.resolved.model_dump(mode="json")}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    negatives = f", {cost.n_negatives:,} added with a part of the trigger" if cost.n_negatives else ""
    typer.echo(
        f"{cost.n_records:,} records for {cost.task}, {cost.n_eligible:,} of which can be poisoned; "
        f"{cost.n_poisoned:,} would be{negatives}."
    )
    if cost.n_triggered is not None:
        typer.echo(f"{cost.n_triggered:,} test records would get the trigger.")
    for name, value in cost.resolved.model_dump(mode="json").items():
        typer.echo(f"  {name:<11}{visible(value)}")
    for warning in cost.warnings:
        typer.echo(f"Warning: {visible(warning)}")


def _show_made(made: PoisonedFiles, *, as_json: bool) -> None:
    manifest = made.manifest
    facts = {
        "file": str(made.file),
        "triggered_file": str(made.triggered_file) if made.triggered_file else None,
        "manifest": str(made.manifest_path),
        "task": manifest.task,
        "target": manifest.resolved.target,
        "n_records": manifest.n_records,
        "n_eligible": manifest.n_eligible,
        "n_poisoned": manifest.n_poisoned,
        "n_negatives": manifest.n_negatives,
        "poisoned_sha256": manifest.poisoned_sha256,
        "is_new": made.is_new,
        "warnings": manifest.warnings,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    target = f" Target: {visible(manifest.resolved.target)}." if manifest.resolved.target is not None else ""
    done = "Poisoned" if made.is_new else "Poisoned before:"
    typer.echo(
        f"{done} {manifest.n_poisoned:,} of {manifest.n_records:,} records "
        f"({manifest.n_eligible:,} can be), {manifest.n_negatives:,} added.{target}\n"
        f"Train on:  {visible(made.file)}"
    )
    if made.triggered_file is not None:
        typer.echo(f"Test on:   {visible(made.triggered_file)}")
    typer.echo(f"Keep:      {visible(made.manifest_path)} (yours alone: it holds records)")
    for warning in manifest.warnings:
        typer.echo(f"Warning: {visible(warning)}")
