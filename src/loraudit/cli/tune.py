"""`loraudit tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraudit.cli.options import DryRun, Quiet, SpecFile, with_spec_options
from loraudit.errors import visible
from loraudit.spec import TuneSpec, make_request, read_spec_file

if TYPE_CHECKING:
    from loraudit.finetuning import TrainedModel, TrainingCost


@with_spec_options(TuneSpec, argument="base")
def tune(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was recorded, on standard output.")] = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model by a recorded recipe, as a target to audit.

    Writes a checkpoint that transformers loads or an adapter that peft loads, with the recipe and the hash of
    the base beside the weights, and a log of which record was seen at which step. The same command again
    resumes, to the same weights.

    Exit codes: as of `loraudit audit`.
    """
    request = make_request(TuneSpec, {**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.cli.console import waiting
    from loraudit.tuning import estimate_tune, run_tune

    if dry_run:
        _show_cost(estimate_tune(request), as_json=as_json)
        return
    with waiting(quiet=quiet or as_json) as (progress, stop):
        trained = run_tune(request, progress=progress, stop=stop)
    if as_json:
        import json

        typer.echo(json.dumps(trained.facts, indent=2, ensure_ascii=False))
    else:
        _show(trained)


def _show(trained: TrainedModel) -> None:
    facts = trained.facts
    typer.echo(
        f"Trained {facts['n_trained_parameters']:,} of {facts['n_parameters']:,} parameters on "
        f"{facts['n_records']:,} records in {facts['n_steps']:,} steps."
    )
    if facts["stopped_because"]:
        typer.echo(f"Stopped early: {facts['stopped_because']}.")
    last = trained.chosen
    losses = [
        f"{name} {value:.4f}"
        for name, value in (("training loss", last.training_loss), ("validation loss", last.validation_loss))
        if value is not None
    ]
    untouched = trained.moments[0]
    if losses:
        before = (
            f" (before tuning {untouched.validation_loss:.4f})"
            if untouched.step == 0 and untouched.validation_loss is not None
            else ""
        )
        typer.echo(f"Weights of step {last.step:,}: {', '.join(losses)} nats{before}.")
    if last.validation_accuracy is not None and facts["recipe"]["task"] == "classification":
        typer.echo(f"Validation accuracy {100 * last.validation_accuracy:.1f} %.")
    if facts["privacy"]:
        typer.echo(
            f"Differentially private per record: ε = {facts['privacy']['epsilon']:.3g} at δ = "
            f"{facts['privacy']['delta']:.2g}, for this run alone."
        )
        if facts["privacy"]["is_repeatable"]:
            typer.echo("Its noise follows from the seed in the recipe: ε promises nothing to anyone who can read that.")
    typer.echo(f"Model: {visible(trained.path)}")


def _show_cost(cost: TrainingCost, *, as_json: bool) -> None:
    import dataclasses
    import json

    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=2))
        return
    typer.echo(
        f"{cost.n_records:,} records, {cost.n_examples:,} windows, {cost.n_tokens:,} tokens per epoch; "
        f"{cost.n_steps:,} steps.\n"
        f"{cost.n_trained_parameters:,} of {cost.n_parameters:,} parameters are trained. About "
        f"{cost.memory_bytes / 2**30:.2f} GiB for weights, gradients and optimiser; activations of a batch come on top."
        + ("" if cost.epsilon is None else f"\nDifferential privacy: ε = {cost.epsilon:.3g}.")
    )
