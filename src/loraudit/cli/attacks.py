"""`loraudit attacks`."""

from __future__ import annotations

from typing import Annotated

import typer

from loraudit.errors import visible


def attacks(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the membership attacks: what each reads, what it costs and where it comes from."""
    from loraudit.membership import ATTACKS, needed_words

    if as_json:
        import json

        facts = [
            {
                "name": attack.name,
                "needs": list(attack.needs),
                "cost": attack.cost,
                "summary": attack.summary,
                "source": attack.source,
            }
            for attack in ATTACKS.values()
        ]
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    from loraudit.cli.console import console_for_tables

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("attack", no_wrap=True)
    for title in ("needs", "cost", "what it reads", "source"):
        table.add_column(title)
    for attack in ATTACKS.values():
        table.add_row(*map(visible, (attack.name, needed_words(attack), attack.cost, attack.summary, attack.source)))
    console_for_tables().print(table)
    typer.echo("F: forward passes per record. Evidence is stored, so all attacks together cost the largest of these.")
    typer.echo("B: backward passes, which only run where they are asked for (loraudit audit --gradients).")
    typer.echo("K: shadow models, which are trained first (loraudit audit --shadow K).")
    typer.echo("N: altered copies of each record, which are drawn and scored first (loraudit audit --slow).")
    for origin, reason in ATTACKS.broken.items():
        typer.echo(f"Could not be loaded: {visible(origin)}: {visible(reason)}", err=True)
