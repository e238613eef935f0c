"""`loraudit score`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import counted, visible
from loraudit.spec import ScoreSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.bulk import ScoreCost, ScoreRun


@with_spec_options(ScoreSpec, argument="model")
def score(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write statistics and attack scores of every record, of files of any length, without calling anyone a member.

    Writes a folder of Parquet parts, scores/part-*.parquet, that pandas and pyarrow.dataset read as one table, and
    result.json when all of them are there. No records are held in memory. The same command again makes the parts
    that are missing or damaged; --workers, --engine ray and --shard share the parts out.

    Exit codes: 0 done, 2 request, 3 records, 4 model, 5 machine, 6 bug, 7 an attack failed or over 1 % of the records
    have no finite numbers, 130 stopped.
    """
    request = make_request(ScoreSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.bulk import estimate_score, exit_code, run_score
    from loraudit.cli.console import waiting

    command = "loraudit " + shlex.join(sys.argv[1:])
    with waiting(quiet=quiet or as_json) as (progress, stop):
        if dry_run:
            _show_cost(estimate_score(request, progress=progress, stop=stop), as_json=as_json)
            return
        run = run_score(request, progress=progress, stop=stop, command=command)
    if run.result is None:
        _show_share(run, as_json=as_json)
        return
    if as_json:
        typer.echo((run.path / "result.json").read_text(encoding="utf-8"), nl=False)
    else:
        _show(run)
    raise typer.Exit(exit_code(run.result))


def _show(run: ScoreRun) -> None:
    result = run.result
    if result is None:
        return
    typer.echo(visible(result.heading))
    typer.echo(visible(result.sentence))
    for warning in result.warnings:
        typer.echo(f"Warning: {visible(warning)}")
    if result.records_per_second is not None:
        typer.echo(f"{result.records_per_second:,.1f} records and {result.tokens_per_second:,.0f} tokens per second.")
    typer.echo(
        f"\nScores: {visible(run.path / 'scores')} ({counted(result.n_parts, 'part')}, "
        f"{result.part_bytes / 2**20:,.1f} MiB)"
    )


def _show_share(run: ScoreRun, *, as_json: bool) -> None:
    """A job of an array: what it was to do is done, the rest is others'."""
    import json

    if as_json:
        typer.echo(json.dumps({"path": str(run.path), "n_parts": run.n_done, "n_units": run.n_units}, indent=2))
        return
    typer.echo(
        f"{run.n_done:,} of {run.n_units:,} parts are there; the others are other shards'. Run the same command "
        "without --shard when all shards are done: it makes what is missing and writes result.json."
    )


def _show_cost(cost: ScoreCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2))
        return
    skipped = f"; {cost.n_bad:,} unreadable rows are skipped" if cost.n_bad else ""
    evidence = f" and {cost.evidence_bytes / 2**30:,.2f} GiB of token evidence" if cost.evidence_bytes else ""
    workers = "the workers a cluster has room for" if cost.n_workers is None else f"{cost.n_workers:,} at once"
    typer.echo(
        f"{cost.n_records:,} records{skipped}; {cost.n_tokens:,} tokens "
        f"[{cost.n_tokens_lower:,}, {cost.n_tokens_upper:,}], 95 % interval from {cost.n_sampled:,} records; "
        f"seen by {' and '.join(cost.views)}.\n"
        f"{counted(cost.n_units, 'part')} of at most {cost.records_per_unit:,} records and about "
        f"{cost.bytes_per_part / 2**20:,.2f} MiB: {cost.part_bytes / 2**20:,.1f} MiB{evidence} in all.\n"
        f"About {cost.seconds_per_unit:,.1f} s a part and {cost.seconds:,.0f} s in all, {workers}; about "
        f"{cost.memory_bytes / 2**30:.2f} GiB of memory per worker (from file sizes and one matrix product on this "
        f"machine).\nAttacks: {', '.join(cost.attacks)}."
    )
