"""`loraudit canaries insert` and `loraudit canaries score`."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import visible
from loraudit.spec import CanaryInsertSpec, CanaryScoreSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.planting import Planted, PlantingCost, ScoringCost

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def canaries() -> None:
    """Plant made-up secrets in a training file, and look for them in the tuned model."""


@with_spec_options(CanaryInsertSpec, argument="data")
def insert(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was planted, without secrets.")] = False,
) -> None:
    """Plant canaries in a training file, for any trainer.

    Writes the file with the canaries in it, every other line as it was, and canaries.json, which says what was
    planted where and is yours alone. Train on the planted file, then run loraudit canaries score.

    Exit codes: as of `loraudit audit`.
    """
    request = make_request(CanaryInsertSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.planting import estimate_insert, run_insert

    if dry_run:
        _show_planting(estimate_insert(request), as_json=as_json)
        return
    _show_planted(run_insert(request), as_json=as_json)


@with_spec_options(CanaryScoreSpec, argument="model")
def score(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say how far planted canaries stand out, and what ε the training spent at least.

    Scores the secrets alone, in their contexts, and ranks each among others that were never trained on. Writes
    a run folder with result.json, scores.parquet and report.html. The same command again resumes.

    Exit codes: as of `loraudit audit`. That no ε can be stated is said in the result and is no failure.
    """
    request = make_request(CanaryScoreSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.canaries_result import show_canaries
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.planting import estimate_score, exit_code, run_score

    if dry_run:
        _show_cost(estimate_score(request), as_json=as_json)
        return
    run = carry_out(partial(run_score, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_canaries(run.result), as_json=as_json)
    raise typer.Exit(exit_code(run.result))


app.command("insert")(insert)
app.command("score")(score)


def _show_planted(planted: Planted, *, as_json: bool) -> None:
    import json

    manifest = planted.manifest
    n_in = sum(canary.is_included for canary in manifest.canaries)
    facts = {
        "file": str(planted.file),
        "manifest": str(planted.manifest_path),
        "digest": manifest.digest,
        "n_canaries": len(manifest.canaries),
        "n_included": n_in,
        "n_added": sum(len(canary.places) for canary in manifest.canaries),
        "n_secrets": manifest.n_secrets,
        "is_new": planted.is_new,
        "warnings": planted.warnings,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    typer.echo(
        f"{'Planted' if planted.is_new else 'Planted before:'} {facts['n_added']:,} records: {n_in:,} of "
        f"{facts['n_canaries']:,} canaries, each secret one of {manifest.n_secrets:,}; the others are controls.\n"
        f"Train on:  {visible(planted.file)}\n"
        f"Keep:      {visible(planted.manifest_path)} (yours alone: it holds every secret)\n"
        f"Digest:    {manifest.digest} (made known before the training, it proves that nothing was changed after it)\n"
        f"Then:      loraudit canaries score MODEL --manifest {visible(shlex.quote(str(planted.manifest_path)))}"
    )
    for warning in planted.warnings:
        typer.echo(f"Warning: {visible(warning)}")


def _show_planting(cost: PlantingCost, *, as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(cost._asdict(), indent=2))
        return
    ceiling = "no ε can be stated" if cost.ceiling is None else f"an ε of at most {cost.ceiling:.2f} can be shown"
    typer.echo(
        f"{cost.n_records:,} records. Canaries: {cost.n_coins:,} left to coins, {cost.n_chosen:,} put in by choice, "
        f"{cost.n_controls:,} controls.\n"
        f"About {cost.n_added:,.0f} records would be added, {100 * cost.share:.1f} % of the planted file; {ceiling}."
    )


def _show_cost(cost: ScoringCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2, ensure_ascii=False))
        return
    why = f"No ε will be stated. {' '.join(cost.no_epsilon)}" if cost.no_epsilon else "ε will be bounded from below."
    typer.echo(
        f"{cost.n_canaries:,} canaries, {cost.n_texts:,} texts with those they are ranked among; {cost.n_cached:,} of "
        f"them already scored.\n"
        f"To do: {cost.n_tokens:,} tokens, about {cost.memory_bytes / 2**30:.2f} GiB of memory and "
        f"{cost.seconds:,.0f} s.\n{visible(why)}"
    )
