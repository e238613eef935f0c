"""Tables as every format of a report shows them."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from loraudit.report.cells import Cell


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row.

    Attributes:
        name: What it is about.
        cells: One per column; fewer where a remark stands in their place.
        remark: Why there are no further cells.
        arm: Position of the method it is about, which its mark shows; None where it is about none or several.
        is_headline: Whether it is about the headline attack.
    """

    name: str
    cells: list[Cell]
    remark: str | None = None
    arm: int | None = None
    is_headline: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table.

    Attributes:
        title: What it holds; no two tables of a report have the same.
        first: Title of the column of names.
        columns: Titles of the others.
        rows: From top to bottom.
        words: Positions of columns that hold words rather than numbers.
        notes: Written below it.
    """

    title: str
    first: str
    columns: list[str]
    rows: list[SheetRow]
    words: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def plain_rows(sheet: Sheet) -> list[list[str]]:
    """Rows as words: names first, number, interval and remark of a cell in one line."""
    return [
        [row.name, *map(cell_words, row.cells), *_remark(row, len(sheet.columns) - len(row.cells))]
        for row in sheet.rows
    ]


def noted(sheet: Sheet) -> Sheet:
    """With the notes of its cells below it, each once.

    A note of every number of its columns names the columns; any other has a number, which stands in its cells.
    """
    figures = [
        ((i, k), cell.note)
        for i, row in enumerate(sheet.rows)
        for k, cell in enumerate(row.cells)
        if cell.note or cell.interval
    ]
    places: dict[str, list[tuple[int, int]]] = {}
    for place, note in figures:
        if note:
            places.setdefault(note, []).append(place)
    whole: list[str] = []
    counted: list[str] = []
    numbers: dict[tuple[int, int], str] = {}
    for note, own in places.items():
        columns = dict.fromkeys(k for _, k in own)
        if len(own) == sum(k in columns for (_, k), _ in figures):
            whole.append(f"{', '.join(sheet.columns[k] for k in columns)}: {note}")
        else:
            number = f"note {len(counted) + 1}"
            counted.append(f"{number.capitalize()}: {note}")
            numbers |= dict.fromkeys(own, number)
    rows = [
        replace(row, cells=[_numbered(cell, numbers.get((i, k), "")) for k, cell in enumerate(row.cells)])
        for i, row in enumerate(sheet.rows)
    ]
    return replace(sheet, rows=rows, notes=(*whole, *counted))


def _numbered(cell: Cell, number: str) -> Cell:
    return replace(cell, remark=", ".join(part for part in (cell.remark, number) if part))


def cell_words(cell: Cell) -> str:
    """A cell in one line."""
    if cell.value == "refused":
        return f"refused: {cell.interval}"
    whole = " ".join(part for part in (cell.value, cell.interval) if part)
    return ", ".join(part for part in (whole, cell.false_alarms, cell.remark) if part)


def short_sheet(sheet: Sheet, left_out: Container[str]) -> Sheet:
    """Without some columns, and without what stands below the interval."""
    kept = [position for position, title in enumerate(sheet.columns) if title not in left_out]
    rows = [
        replace(row, cells=[replace(row.cells[k], remark="", false_alarms="") for k in kept if k < len(row.cells)])
        for row in sheet.rows
    ]
    words = frozenset(kept.index(position) for position in sheet.words if position in kept)
    return replace(sheet, columns=[sheet.columns[k] for k in kept], rows=rows, words=words)


def _remark(row: SheetRow, n_empty: int) -> Sequence[str]:
    return [row.remark or "", *[""] * (n_empty - 1)] if n_empty else []


def number_cell(value: float | None, digits: int) -> Cell:
    """A number without an interval, or a word in its place."""
    if value is None:
        return Cell("unknown")
    return Cell(f"{value:.{digits}f}" if math.isfinite(value) else "not finite")
