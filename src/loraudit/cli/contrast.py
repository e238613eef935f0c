"""`loraudit contrast`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import counted, visible
from loraudit.spec import ContrastSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.contrast import ContrastCost


@with_spec_options(ContrastSpec, argument="base")
def contrast(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare what tuning methods leak on your records, at the same fit.

    Splits the records at random into members, non-members and validation records, tunes the base by every
    method with several seeds, measures leakage at every checkpoint, and compares the methods at equal
    validation loss, equal training loss and equal epochs. The same command again resumes.

    Exit codes: as of `loraudit audit`.
    """
    request = make_request(ContrastSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.cli.contrast_result import show_contrast
    from loraudit.contrast import estimate_contrast, run_contrast

    if dry_run:
        _show_cost(estimate_contrast(request), as_json=as_json)
        return
    run = carry_out(partial(run_contrast, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_contrast(run.result), as_json=as_json)


def _show_cost(cost: ContrastCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2))
        return
    typer.echo(
        f"{cost.n_members:,} members, {cost.n_nonmembers:,} non-members, {cost.n_validation:,} validation records; "
        f"{cost.tokens_per_epoch:,} tokens per epoch.\n"
        f"{counted(cost.n_runs, 'training run')}, {counted(cost.n_steps, 'step')}; "
        f"{counted(cost.n_measured, 'checkpoint')} to score."
    )
    if cost.n_shadows:
        typer.echo(
            f"{counted(cost.n_shadows, 'shadow model')}, about {counted(cost.n_shadow_steps, 'step')}; "
            "those kept from before are used "
            "again."
        )
    if cost.memorization:
        typer.echo(f"Memorization: at most {cost.memorization.words}.")
    for arm in cost.arms:
        search = "; learning rate to be searched" if arm.is_searched else ""
        typer.echo(
            f"  {visible(arm.name)}: {counted(arm.n_steps, 'step')} a run, "
            f"{arm.n_trained_parameters:,} parameters trained, "
            f"{arm.memory_bytes / 2**30:.2f} GiB without activations{search}"
        )
    typer.echo(cost.power)
