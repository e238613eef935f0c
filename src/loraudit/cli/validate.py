"""`loraudit validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC…", help="Spec files of audits.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the resolved requests as JSON, one a line.")] = False,
) -> None:
    """Check spec files: form, names, files and limits; touches no model.

    Every problem of every file is said at once. Exit codes: 0 fine, 2 not.
    """
    from loraudit.errors import LorauditError, visible
    from loraudit.review.validate import validate_spec
    from loraudit.spec import spec_hash

    problems: list[LorauditError] = []
    for path in specs:
        try:
            spec = validate_spec(path)
        except LorauditError as error:
            problems.append(type(error)(f"{path}: {error}"))
            continue
        typer.echo(spec.model_dump_json() if as_json else f"ok      {visible(path)}: spec {spec_hash(spec)[:12]}")
    if problems:
        raise type(problems[0])("\n".join(map(str, problems)))
