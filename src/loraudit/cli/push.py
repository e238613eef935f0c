"""`loraudit report --push-to-hub`."""

from __future__ import annotations

from pathlib import Path

import typer


def push(run: Path, repository: str, *, create_pr: bool, dry_run: bool) -> None:
    """Put the section of an audit into a model's card on the hub, or show what that would change."""
    from loraudit.errors import visible
    from loraudit.integrations.card_push import card_change, push_card

    change = card_change(run, repository)
    for note in change.notes:
        typer.echo(f"Note: {visible(note)}", err=True)
    if dry_run:
        typer.echo(visible(change.after))
        typer.echo(visible(change.diff))
        typer.echo(f"\nNothing was pushed. Without --dry-run this goes to: {repository}")
        return
    where = push_card(change, create_pr=create_pr)
    if where is None:
        typer.echo(f"The card of {repository} says this already; nothing was pushed.")
        return
    typer.echo(f"{'Pull request' if create_pr else 'Pushed'}: {visible(where)}")
