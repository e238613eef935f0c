"""`loraudit verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished audit or robustness run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Recompute every figure of a run from its stored scores or outcomes, and compare hashes.

    Exit codes: 0 everything agrees, 1 something does not, 2 no finished run, 5 a damaged file.
    """
    from loraudit.cli.console import finish_checks
    from loraudit.review.verify import verify_run

    finish_checks(verify_run(run), as_json=as_json)
