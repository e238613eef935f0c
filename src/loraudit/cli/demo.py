"""`loraudit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loraudit.cli.options import Quiet


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for records, models and results.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Of the records, the split and tuning.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Compare what full, head-only and LoRA tuning leak, on a small packaged model and fictional records.

    Offline; two to three minutes on two cores. The same as `loraudit contrast` on your own base and records.
    """
    from loraudit.cli.console import waiting
    from loraudit.cli.contrast_result import show_contrast
    from loraudit.demo import run_demo

    with waiting(quiet=quiet) as (progress, stop):
        run = run_demo(out, seed=seed, progress=progress, stop=stop)
    show_contrast(run.result)
    typer.echo(f"\nReport: {run.path / 'report.html'}")
