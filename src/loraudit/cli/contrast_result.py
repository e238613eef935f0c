"""A comparison of tuning methods on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loraudit.cli.console import console_for_tables
from loraudit.errors import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from loraudit.report import Cell
    from loraudit.report.contrast import Sheet
    from loraudit.spec import ContrastResult

_WIDTH_FOR_SIZES = 105
_UNBOUNDED = 10_000


def show_contrast(result: ContrastResult, *, verbose: bool = False) -> None:
    """Finding, the methods at the same fit, their differences, gates and warnings on standard output.

    Args:
        result: Of the comparison.
        verbose: With rates and differences of every match, exposures, and gates that passed.
    """
    from rich.text import Text

    from loraudit.report.contrast import (
        NO_COMMON_LOSS,
        differences_sheet,
        exposure_sheet,
        extraction_sheets,
        match_sheet,
        overview_sheet,
        short_sheet,
    )

    console = console_for_tables()
    _show_finding(console, result)
    main = result.match("validation_loss")
    shown = result.matches if verbose else [main] if main is not None else []
    for match in shown:
        found, differences = match_sheet(result, match), differences_sheet(result, match)
        left_out = {"n", "runs", "trained parameters"} if console.width < _WIDTH_FOR_SIZES else {"n"}
        show_sheet(console, found if verbose else short_sheet(found, left_out))
        if differences.rows:
            rates = {title for title in differences.columns if title.startswith("TPR")}
            show_sheet(console, differences if verbose else short_sheet(differences, {"n"} | rates))
    if main is None:
        console.print(Text(f"\n{NO_COMMON_LOSS}"))
    if len(result.matches) > len(shown):
        show_sheet(console, short_sheet(overview_sheet(result), ()))
    if result.exposure and verbose:
        show_sheet(console, exposure_sheet(result))
    for sheet in extraction_sheets(result)[: None if verbose else 1]:
        show_sheet(console, sheet)
    _show_rest(console, result, verbose=verbose)


def _show_finding(console: Console, result: ContrastResult) -> None:
    from rich.text import Text

    from loraudit.report import NOT_VALID
    from loraudit.report.contrast import runs_words, validity_statement

    invalid = validity_statement(result)
    if invalid:
        console.print(Text(NOT_VALID, style="bold red"))
        console.print(Text(visible(invalid)))
    console.print(Text(visible(result.heading), style="bold"))
    console.print(Text(visible(result.sentence)))
    sides = f"{result.n_members:,} members, {result.n_nonmembers:,} non-members"
    records = f"{sides} and {result.n_validation:,} validation records"
    how = f"Headline attack: {visible(result.spec.headline)}. {runs_words(result)}"
    brackets = f"Brackets: {100 * result.spec.confidence:g} % intervals."
    console.print(Text(f"{records}. {how} {brackets}", style="dim"))


def show_sheet(console: Console, sheet: Sheet) -> None:
    """A table under its title, cells in one line where they fit."""
    from rich.text import Text

    from loraudit.report.contrast import cell_words

    in_one_line = _table(sheet, cell_words)
    wanted = console.measure(in_one_line, options=console.options.update(max_width=_UNBOUNDED)).maximum
    console.print()
    console.print(Text(visible(sheet.title), style="bold"))
    console.print(in_one_line if wanted <= console.width else _table(sheet, _below_each_other))


def _table(sheet: Sheet, words_of: Callable[[Cell], str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(Text(sheet.first), no_wrap=True)
    for position, title in enumerate(sheet.columns):
        table.add_column(Text(visible(title)), justify="left" if position in sheet.words else "right")
    for row in sheet.rows:
        cells = [row.name, *map(words_of, row.cells), *([] if row.remark is None else [row.remark])]
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _below_each_other(cell: Cell) -> str:
    return "\n".join(part for part in (cell.value, cell.interval, cell.false_alarms, cell.remark) if part)


def _show_rest(console: Console, result: ContrastResult, *, verbose: bool) -> None:
    from rich.text import Text

    from loraudit.report import STATUS_WORDS
    from loraudit.report.contrast import NO_GATES

    console.print()
    if result.validity is None:
        console.print(Text(NO_GATES))
    for gate in result.validity.gates if result.validity else ():
        if gate.status in {"warned", "failed"} or verbose:
            words = f"{STATUS_WORDS[gate.status]}. {visible(gate.reason)}"
            console.print(Text(f"Gate {visible(gate.name)}: {words}"))
    for warning in result.warnings:
        console.print(Text(f"Warning: {visible(warning)}", style="yellow"))
