"""`loraudit log`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loraudit.integrations.logged import Logged
    from loraudit.integrations.sent import Sent


class Tracker(StrEnum):
    """What `--to` takes."""

    mlflow = "mlflow"
    wandb = "wandb"


def log(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a finished study, audit, contrast, robustness run, forecast, scan or search for canaries."
        ),
    ],
    to: Annotated[Tracker, typer.Option("--to", help="Experiment tracker.")],
    experiment: Annotated[
        str | None, typer.Option("--experiment", metavar="NAME", help="MLflow experiment (default: loraudit).")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri", metavar="URI", help="Folder, database or server of MLflow (default: MLFLOW_TRACKING_URI)."
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="W&B project (default: loraudit).")
    ] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="NAME", help="W&B user or team (default: yours).")
    ] = None,
    online: Annotated[
        bool,
        typer.Option("--online", help="Send to W&B now (default: as WANDB_MODE says, or keep it for `wandb sync`)."),
    ] = False,
    artifacts: Annotated[
        bool,
        typer.Option("--artifacts", help="Send report.html and result.json too; not those of runs that show text."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, as JSON, and send nothing.")
    ] = False,
) -> None:
    """Send the figures of a finished run or study to MLflow or W&B.

    What is sent: every figure with both ends of its interval and its n, the request without folders of this machine,
    and the finding in words. What never is: records, their ids, scores and text. Sending a run again brings its entry
    up to date. A study is one entry, with one below it for every cell.
    """
    from loraudit.integrations.logged import logged

    _refuse_other_tracker(to, {"experiment": experiment, "tracking-uri": tracking_uri}, Tracker.mlflow)
    _refuse_other_tracker(to, {"project": project, "entity": entity, "online": online}, Tracker.wandb)
    found = logged(run)
    if dry_run:
        typer.echo(json.dumps(_described(found, with_files=artifacts), indent=2))
        return
    if to is Tracker.mlflow:
        from loraudit.integrations.mlflow_logger import DEFAULT_EXPERIMENT, log_to_mlflow

        sent = log_to_mlflow(
            found, experiment=experiment or DEFAULT_EXPERIMENT, tracking_uri=tracking_uri, with_files=artifacts
        )
    else:
        from loraudit.integrations.wandb_logger import DEFAULT_PROJECT, log_to_wandb

        mode = "online" if online else None
        sent = log_to_wandb(found, project=project or DEFAULT_PROJECT, entity=entity, mode=mode, with_files=artifacts)
    _say(found, sent, with_files=artifacts)


def _refuse_other_tracker(to: Tracker, given: dict[str, object], owner: Tracker) -> None:
    from loraudit.errors import ConfigError

    named = [f"--{name}" for name, value in given.items() if value]
    if named and to is not owner:
        raise ConfigError(
            f"Flag {', '.join(named)} is of --to {owner.value}, and the run goes to {to.value}. Leave it out, or "
            "choose the other tracker."
        )


def _described(run: Logged, *, with_files: bool) -> dict[str, object]:
    return {
        "name": run.name,
        "key": run.key,
        "note": run.note,
        "metrics": run.metrics,
        "params": run.params,
        "tags": run.tags,
        "files": [file.name for file in run.files] if with_files else [],
        "cells": [_described(cell, with_files=with_files) for cell in run.cells],
    }


def _say(run: Logged, sent: Sent, *, with_files: bool) -> None:
    from loraudit.errors import visible

    runs = list(run.walk())
    n_undefined = sum(len(one.undefined) for one in runs)
    n_findings = sum(int(one.tags.get("loraudit.n_findings", "0")) for one in runs)
    below = f" and {len(run.cells):,} cells" if run.cells else ""
    verb = "Sent" if sent.next_step is None else "Kept"
    kept = "" if sent.n_updated is None else f" {sent.n_updated:,} of {len(sent.entries):,} entries were there before."
    typer.echo(
        f"{verb} {visible(run.name)}{below} in {visible(sent.where)}: {n_findings:,} figures, {n_undefined:,} of them "
        f"undefined and not sent as numbers.{kept}"
    )
    typer.echo(f"Entry: {visible(sent.entries[0])}")
    if sent.files:
        typer.echo(f"Files: {', '.join(sent.files)}")
    withheld = [words for one in runs for words in one.withheld] if with_files else []
    for words in dict.fromkeys(withheld):
        typer.echo(f"Not sent: {visible(words)}.")
    if sent.next_step is not None:
        typer.echo(f"Nothing left this machine. To send it, run: {visible(sent.next_step)}")
