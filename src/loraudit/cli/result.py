"""A result on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.cli.memorization_result import show_memorization
from loraudit.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

    from loraudit.spec import AuditResult

_WIDTH_FOR_ONE_LINE = 170


def show_result(result: AuditResult, *, verbose: bool = False) -> None:
    """Verdict, limits, table, what can be pulled out, gates, exposed records and warnings on standard output."""
    console = console_for_tables()
    _show_verdict(console, result)
    console.print()
    _show_table(console, result, verbose=verbose)
    show_memorization(console, result, verbose=verbose)
    _show_rest(console, result, verbose=verbose)


def _show_verdict(console: Console, result: AuditResult) -> None:
    from rich.text import Text

    from loraudit.policy import verdict_of
    from loraudit.report import LIMIT_WORDS, NOT_VALID, incomplete

    words = verdict_of(result)
    if words.validity:
        console.print(Text(NOT_VALID, style="bold red"))
        console.print(Text(visible(words.validity)))
    console.print(Text(words.heading, style="bold"))
    console.print(Text(visible(words.sentence)))
    console.print(Text(visible(words.threat_model), style="dim"))
    for limit in words.limits:
        style = "" if limit.status == "holds" else "bold red"
        outcome = f"{LIMIT_WORDS[limit.status]}. {visible(limit.reason)}"
        console.print(Text(f"Limit {visible(limit.limit)}: {outcome}", style=style))
    if words.is_partial:
        console.print(Text(f"Partial: {visible('; '.join(incomplete(result)))}."))


def _show_table(console: Console, result: AuditResult, *, verbose: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from loraudit.report import attack_table

    titles, rows = attack_table(result)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("attack", no_wrap=True)
    for title in (*titles, "n", "undefined"):
        table.add_column(title, justify="right")
    between = " " if console.width >= _WIDTH_FOR_ONE_LINE else "\n"
    for row in rows:
        name = Text(visible(row.name) + (" *" if row.is_headline else ""), style="bold" if row.is_headline else "")
        if row.remark is None:
            cells = [f"{cell.value}{between}{cell.interval}".strip() for cell in row.cells]
            table.add_row(name, *map(Text, cells), row.n, str(row.n_undefined))
        elif verbose:
            table.add_row(name, Text(visible(row.remark)))
    console.print(table)
    left_out = [visible(row.name) for row in rows if row.remark is not None]
    if left_out and not verbose:
        console.print(Text(f"Not measured: {', '.join(left_out)} (-v says why)."))
    console.print(Text(f"* headline, declared before the run. Brackets: {100 * result.spec.confidence:g} % intervals."))
    for refusal in dict.fromkeys(c.note for row in rows for c in row.cells if c.value == "refused" and c.note):
        console.print(Text(refusal))


def _show_rest(console: Console, result: AuditResult, *, verbose: bool) -> None:
    from rich.text import Text

    from loraudit.report import STATUS_WORDS, fusion_statement, shadow_statement, slow_statement

    for statement in (shadow_statement(result), slow_statement(result), fusion_statement(result)):
        if statement:
            console.print(Text(visible(statement)))
    for gate in result.validity.gates if result.validity else ():
        if gate.status in {"warned", "failed"} or verbose:
            words = f"{STATUS_WORDS[gate.status]}. {visible(gate.reason)}"
            console.print(Text(f"Gate {visible(gate.name)}: {words}"))
    records = result.membership.records
    if records is not None:
        of_all = f"{records.n_exposed:,} of {result.members.n_records:,} members"
        console.print(Text(f"{of_all} are called exposed at a false-discovery rate of {100 * records.fdr:g} %."))
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))
