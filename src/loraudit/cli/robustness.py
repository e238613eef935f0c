"""`loraudit robustness`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import counted, visible
from loraudit.spec import RobustnessSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.robustness import RobustnessCost


@with_spec_options(RobustnessSpec, argument="base")
def robustness(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure what poisoned training data does to a base under several tuning methods, at the same clean fit.

    Tunes the base by every method with several seeds on clean records and on records poisoned at several
    doses, and states the harm by dose: accuracy lost, success of backdoors, and how many poisoned records it
    takes. Controls come first: a backdoor that does not work even at a large dose was not tested. The same
    command again resumes.

    Exit codes: as of `loraudit audit`. A control that fails is a banner, not a code; --fail-on 'n_invalid > 0'
    makes it one.
    """
    request = make_request(RobustnessSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.cli.robustness_result import show_robustness
    from loraudit.policy import robustness_exit_code
    from loraudit.robustness import estimate_robustness, run_robustness

    if dry_run:
        _show_cost(estimate_robustness(request), as_json=as_json)
        return
    run = carry_out(partial(run_robustness, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_robustness(run.result), as_json=as_json)
    raise typer.Exit(robustness_exit_code(run.result))


def _show_cost(cost: RobustnessCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2))
        return
    typer.echo(
        f"{cost.n_train:,} training, {cost.n_validation:,} validation and {cost.n_test:,} test records.\n"
        f"{counted(cost.n_runs, 'training run')}, {counted(cost.n_steps, 'step')}."
    )
    for name, doses in cost.attacks:
        listed = ", ".join(f"{n:,} ({100 * dose:g} %)" if dose < 1 else f"{n:,}" for dose, n in doses)
        typer.echo(f"  {visible(name)}: {listed} records poisoned")
    for name, n_steps, n_trained, memory_bytes, is_searched in cost.methods:
        search = "; learning rate to be searched" if is_searched else ""
        typer.echo(
            f"  {visible(name)}: {counted(n_steps, 'step')} a run, {n_trained:,} parameters trained, "
            f"{memory_bytes / 2**30:.2f} GiB without activations{search}"
        )
    for warning in cost.warnings:
        typer.echo(f"Warning: {visible(warning)}")
