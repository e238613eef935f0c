"""`loraudit forecast`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.errors import counted, visible
from loraudit.spec import ForecastSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.forecast import ForecastCost


@with_spec_options(ForecastSpec, argument="base")
def forecast(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict what poisoned training data would do to a base under many tuning methods, without training any.

    Measures how the base's outputs would move, record by record, under full, head-only and bias tuning and under
    LoRA of every rank, variance and alpha asked for, and follows training on clean and on poisoned records from
    that: accuracy and success of backdoors by dose, at the same clean loss. A method whose steps are not linear
    enough is refused. How good it is shows beside measured runs: loraudit report RUN --with ROBUSTNESS_RUN.

    Exit codes: as of `loraudit audit`. A refused method is a banner, not a code; --fail-on 'refused > 0' makes it one.
    """
    request = make_request(ForecastSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.cli.forecast_result import show_forecast
    from loraudit.forecast import estimate_forecast, run_forecast
    from loraudit.policy import forecast_exit_code

    if dry_run:
        _show_cost(estimate_forecast(request), as_json=as_json)
        return
    run = carry_out(partial(run_forecast, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_forecast(run.result), as_json=as_json)
    raise typer.Exit(forecast_exit_code(run.result))


def _show_cost(cost: ForecastCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2))
        return
    n_passes = cost.kernels.n_passes
    passes = "1 pass" if n_passes == 1 else f"{n_passes:,.1f} passes"
    heads = f", for each of {cost.n_heads} draws of the head" if cost.n_heads > 1 else ""
    typer.echo(
        f"{cost.n_train:,} training, {cost.n_test:,} test records; {cost.n_rows:,} texts, {cost.n_tokens:,} tokens.\n"
        f"{counted(cost.n_methods, 'method')}, none trained; {passes} over every text{heads}.\n"
        f"At most {cost.kernels.held_bytes / 2**30:.2f} GiB of gradients at a time, "
        f"{cost.kernels.kernel_bytes / 2**30:.2f} GiB of kernels."
    )
    for name, doses in cost.attacks:
        listed = ", ".join(f"{n:,} ({100 * dose:g} %)" if dose < 1 else f"{n:,}" for dose, n in doses)
        typer.echo(f"  {visible(name)}: {listed} records poisoned")
    for warning in cost.warnings:
        typer.echo(f"Warning: {visible(warning)}")
