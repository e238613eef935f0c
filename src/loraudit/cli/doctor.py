"""`loraudit doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def doctor(
    model: Annotated[
        str | None, typer.Argument(help="Checkpoint or adapter to look at: a folder or a hub name.", metavar="[MODEL]")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", metavar="MODEL", help="Model the tuning started from.")] = None,
    members: Annotated[
        list[Path] | None, typer.Option("--members", metavar="FILE", help="Records of one side.")
    ] = None,
    nonmembers: Annotated[
        list[Path] | None, typer.Option("--nonmembers", metavar="FILE", help="Records of the other side.")
    ] = None,
    spec: Annotated[Path | None, typer.Option("--spec", help="Spec file of an audit; flags win over it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check machine, model and records in seconds, before an audit; loads no weights.

    The exit code is that of the first check that failed, as `loraudit audit` would give it.
    """
    from loraudit.cli.console import finish_checks
    from loraudit.review.doctor import default_folder, examine_environment, examine_request
    from loraudit.spec import read_spec_file

    given: dict[str, Any] = {
        "model": model,
        "base": base,
        "members": [str(path) for path in members or ()],
        "nonmembers": [str(path) for path in nonmembers or ()],
    }
    values = (read_spec_file(spec) if spec else {}) | {name: value for name, value in given.items() if value}
    finish_checks([*examine_environment(default_folder(values)), *examine_request(values)], as_json=as_json)
