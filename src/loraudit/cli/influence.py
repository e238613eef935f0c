"""`loraudit influence`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import counted, visible
from loraudit.spec import InfluenceSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.influence import InfluenceCost


@with_spec_options(InfluenceSpec, argument="contrast")
def influence(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict which records the methods of a contrast memorise, from its base alone, beside what it measured.

    Measures at the base how a step on any record moves the log-probability of any other, under full, head-only and
    bias tuning and every plain LoRA of the contrast, and follows training from that to the validation loss at which
    the contrast compares its methods. Each record's predicted gain, and the part of it that is its own doing, stand
    beside measured gains, membership scores and suffixes; the page says how methods differ, predicted and measured.

    Exit codes: as of `loraudit audit`. A refused method is said, and is no code.
    """
    request = make_request(InfluenceSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.cli.influence_result import show_influence
    from loraudit.influence import estimate_influence, run_influence

    if dry_run:
        _show_cost(estimate_influence(request), as_json=as_json)
        return
    run = carry_out(partial(run_influence, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_influence(run.result), as_json=as_json)


def _show_cost(cost: InfluenceCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2))
        return
    n_passes = cost.kernels.n_passes
    passes = "1 pass" if n_passes == 1 else f"{n_passes:,.1f} passes"
    families = f", for each of {cost.n_families} families of A" if cost.n_families > 1 else ""
    typer.echo(
        f"{cost.n_members:,} of {cost.n_trained:,} members and {cost.n_nonmembers:,} non-members; {cost.n_rows:,} "
        f"windows, {cost.n_tokens:,} tokens.\n"
        f"{counted(len(cost.methods), 'method')}, none trained; {passes} over every window"
        f"{families}.\n"
        f"At most {cost.kernels.held_bytes / 2**30:.2f} GiB of gradients at a time, "
        f"{cost.kernels.kernel_bytes / 2**30:.2f} GiB of kernels."
    )
    for name in cost.methods:
        typer.echo(f"  {visible(name)}")
    for name, why in cost.left_out.items():
        typer.echo(f"Left out: {visible(name)}: {visible(why)}.")
