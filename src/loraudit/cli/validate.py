"""`loraudit validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    specs: Annotated[
        list[Path], typer.Argument(metavar="SPEC…", help="Spec files of any command, spec.json of runs, or studies.")
    ],
    command: Annotated[
        str | None,
        typer.Option(
            "--command", metavar="COMMAND", help="Whose they are (default: told from their keys, an audit's first)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the resolved requests as JSON, one a line.")] = False,
) -> None:
    """Check spec files: form, names, files and limits; touches no model.

    A file is checked as the request of the command that its keys belong to, which the answer names. Of canaries and
    poison the form alone is checked. Every problem of every file is said at once. Exit codes: 0 fine; otherwise that of
    the first file with a problem: 2 for the request, 3 for files of records that are not there.
    """
    from loraudit.errors import LorauditError, visible
    from loraudit.spec import AuditSpec, spec_hash
    from loraudit.study.validating import validate_spec

    problems: list[LorauditError] = []
    for path in specs:
        try:
            spec = validate_spec(path, command)
        except LorauditError as error:
            problems.append(type(error)(f"{path}: {error}"))
            continue
        kind = "" if isinstance(spec, AuditSpec) else f"{spec.command} "
        words = f"ok      {visible(path)}: {kind}spec {spec_hash(spec)[:12]}"
        typer.echo(spec.model_dump_json() if as_json else words)
    if problems:
        raise type(problems[0])("\n".join(map(str, problems)))
