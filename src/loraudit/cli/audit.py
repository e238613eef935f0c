"""`loraudit audit`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from loraudit.cli.options import DryRun, Quiet, ResultAsJson, SpecFile, with_spec_options
from loraudit.spec import AuditSpec, make_audit_spec, read_spec_file


@with_spec_options(AuditSpec, argument="model")
def audit(
    values: dict[str, Any],
    *,
    spec: SpecFile = None,
    dry_run: DryRun = False,
    as_json: ResultAsJson = False,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """State how much membership a fine-tuned model leaks.

    Compares records the model was tuned on with records of the same kind it was not, and writes a run
    folder with result.json, scores.parquet and report.html. The same command again resumes.

    Exit codes: 0 done, 1 a limit does not hold, 2 request, 3 data, 4 model, 5 machine, 6 bug, 7 partly done,
    130 stopped.
    """
    request = make_audit_spec({**(read_spec_file(spec) if spec else {}), **values})
    from loraudit.auditing import estimate_audit, exit_code, run_audit
    from loraudit.cli.console import carry_out, show_finished
    from loraudit.cli.result import show_result

    if dry_run:
        _show_estimate(estimate_audit(request), as_json=as_json)
        return
    run = carry_out(partial(run_audit, request), quiet=quiet or as_json)
    show_finished(run.path, lambda: show_result(run.result, verbose=verbose), as_json=as_json)
    raise typer.Exit(exit_code(run.result))


def _gradient_words(n_tokens: int) -> str:
    words = f"Gradients: {n_tokens:,} tokens forward and backward through the target, which is loaded again.\n"
    return words if n_tokens else ""


def _show_estimate(estimate: Any, *, as_json: bool) -> None:
    import dataclasses
    import json

    facts = dataclasses.asdict(estimate)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    work = estimate.reference
    first = "" if work is None else f"First a reference must be made, which costs time: {work.words}. It is kept.\n"
    if estimate.shadows is not None:
        first += f"Shadow models cost time too: {estimate.shadows.words}. They are kept.\n"
    if estimate.slow is not None:
        first += f"Slow attacks take passes of their own: {estimate.slow}. They are kept.\n"
    if estimate.memorization is not None:
        first += f"Memorization takes passes of its own, at most: {estimate.memorization.words}. They are kept.\n"
    typer.echo(
        f"{estimate.n_members:,} members, {estimate.n_nonmembers:,} non-members; "
        f"{estimate.n_cached:,} of them already scored.\n"
        f"{first}To do: {estimate.n_units:,} units, {estimate.n_tokens:,} tokens; "
        f"loaded one after another: {'; '.join(estimate.stages)}.\n"
        f"{_gradient_words(estimate.n_gradient_tokens)}"
        f"About {estimate.memory_bytes / 2**30:.2f} GiB of memory and {estimate.seconds:,.0f} s of "
        f"{'work' if first else 'scoring'} (from file sizes and one matrix product on this machine).\n"
        f"{estimate.power}"
    )
