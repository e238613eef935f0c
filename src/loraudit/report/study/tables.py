"""A study as tables: every cell with its figures, the ends of every measure, what is published, what moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from loraudit.report.cells import Cell
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.report.study.cells import figure_cell, labels_words, n_words
from loraudit.report.study.measures import METHOD, Measure, Point, unit_of
from loraudit.report.study.words import STATUS_WORDS, regression_words
from loraudit.spec import BesidePublished, CellKind, CellResult, Regression, StudyFinding, StudyResult
from loraudit.types import Finding

NOT_VALID = "NOT VALID"
EVERY_CELL = ": every cell"
MOVED = "Headline figures that changed"
MOVED_TOO = "Other figures that changed"
MOST_MOVED = 500
"""Rows of the latter; the others are in result.json."""
_SOUND: Mapping[CellKind, str] = {
    "audit": "no gate failed",
    "contrast": "no gate failed",
    "robustness": "no control failed",
    "forecast": "no gates",
}
"""What is said of a cell whose own report warns of nothing."""
_TIED = 1e-9


def figure_sheets(result: StudyResult, measures: Sequence[Measure]) -> list[Sheet]:
    """One table per grid: every cell and its headline figures; cells without a result say why."""
    grids = dict.fromkeys(cell.grid for cell in result.cells)
    return [
        _figure_sheet(grid, [c for c in result.cells if c.grid == grid], [m for m in measures if m.grid == grid])
        for grid in grids
    ]


def _figure_sheet(grid: str, cells: Sequence[CellResult], measures: Sequence[Measure]) -> Sheet:
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.labels))
    has_methods = any(METHOD in measure.dimensions for measure in measures)
    by_cell: dict[str, dict[str, dict[str, Point]]] = {}
    for measure in measures:
        for point in measure.points:
            method = point.places.get(METHOD, "") if has_methods else ""
            by_cell.setdefault(point.cell.id, {}).setdefault(method, {}).setdefault(measure.title, point)
    rows: list[SheetRow] = []
    for cell in cells:
        labels = [Cell(cell.labels.get(axis, "")) for axis in axes]
        mine = by_cell.get(cell.id, {})
        if cell.status != "ok" or not mine:
            rows.append(SheetRow(cell.id, labels, _why_empty(cell)))
            continue
        for method, points in mine.items():
            shown = [points.get(measure.title) for measure in measures]
            rows.append(
                SheetRow(
                    cell.id,
                    [
                        *labels,
                        *([Cell(method)] if has_methods else []),
                        *(
                            figure_cell(measure.unit, None if point is None else point.finding)
                            for measure, point in zip(measures, shown, strict=True)
                        ),
                        Cell(n_words([None if point is None else point.finding for point in shown])),
                        Cell(NOT_VALID if cell.flaw else _SOUND[cell.kind]),
                    ],
                )
            )
    columns = [*axes, *(["method"] if has_methods else []), *(measure.title for measure in measures), "n", "validity"]
    words = frozenset([*range(len(axes) + has_methods), len(columns) - 1])
    return Sheet(f"{grid}{EVERY_CELL}", "cell", columns, rows, words)


def _why_empty(cell: CellResult) -> str:
    """In a word or two; the reason stands with the cells without a result."""
    return "no headline figure" if cell.status == "ok" else STATUS_WORDS[cell.status]


def ends_sheet(measures: Sequence[Measure]) -> Sheet | None:
    """Per measure the cell with the most and the one with the least harm; None where no measure has two cells.

    Where all cells have the same number none of them is an end, and the row says so.
    """
    rows: list[SheetRow] = []
    for measure in measures:
        known = [(point.finding.value, point) for point in measure.points if point.finding.value is not None]
        if len(known) < 2:
            continue
        values = [value for value, _ in known]
        if _ties(values, values[0]) == len(values):
            rows.append(SheetRow(measure.title, [Cell(measure.grid)], f"all {len(values):,} are equal: no ends"))
            continue
        low, high = min(known, key=lambda one: one[0])[1], max(known, key=lambda one: one[0])[1]
        worst, best = (low, high) if measure.is_lower_worse else (high, low)
        cells = [cell for point in (worst, best) for cell in _end_cells(measure, point, values)]
        rows.append(SheetRow(measure.title, [Cell(measure.grid), *cells, Cell(f"{len(known):,}")]))
    columns = ["grid", "most harm", "in", "n", "least harm", "in", "n", "chosen among"]
    return Sheet("The ends of every measure", "measure", columns, rows, frozenset({0, 2, 5})) if rows else None


def _ties(values: Sequence[float], value: float) -> int:
    return sum(math.isclose(one, value, rel_tol=_TIED, abs_tol=_TIED) for one in values)


def _end_cells(measure: Measure, point: Point, values: Sequence[float]) -> list[Cell]:
    method = [point.places[METHOD]] if METHOD in measure.dimensions else []
    where = ", ".join([labels_words(point.cell), *method])
    n_others = _ties(values, point.finding.value or 0.0) - 1
    tied = f"as {n_others:,} other{'s' * (n_others != 1)}" if n_others else ""
    remark = ", ".join(part for part in (NOT_VALID if point.cell.flaw else "", tied) if part)
    return [figure_cell(measure.unit, point.finding), Cell(where, remark=remark), Cell(n_words([point.finding]))]


def published_sheet(result: StudyResult) -> Sheet | None:
    """Figures of the literature beside the measured ones; None where the study names none."""
    cells = {cell.id: cell for cell in result.cells}
    rows = [_published_row(one, cells.get(one.cell or "")) for one in result.published]
    columns = ["figure", "published", "measured", "measured interval", "in", "n", "note"]
    return Sheet("Published and measured", "source", columns, rows, frozenset({0, 3, 4, 6})) if rows else None


def _published_row(one: BesidePublished, cell: CellResult | None) -> SheetRow:
    figure, found = one.published, one.finding
    unit = unit_of(figure.finding)
    stated = figure_cell(unit, Finding(figure.value, None, None, 0.95, "published", 0, 0))
    return SheetRow(
        figure.source,
        [
            Cell(_name_words(figure.finding)),
            Cell(stated.value),
            Cell("not measured") if found is None else figure_cell(unit, found),
            Cell(_holds(figure.value, found)),
            Cell("no finished cell" if cell is None else labels_words(cell), remark=_flaw_words(cell)),
            Cell(n_words([found])),
            Cell(figure.note or ""),
        ],
    )


def _flaw_words(cell: CellResult | None) -> str:
    return NOT_VALID if cell is not None and cell.flaw else ""


def _holds(value: float, found: Finding | None) -> str:
    """Whether the measured interval holds the published number; the published one's own chance is not known."""
    if found is None or found.value is None or (found.lower is None and found.upper is None):
        return ""
    if found.lower is not None and value < found.lower:
        return "lies above the published"
    if found.upper is not None and value > found.upper:
        return "lies below the published"
    return "holds the published"


def regression_sheet(result: StudyResult, found: Sequence[Regression], title: str) -> Sheet | None:
    """Figures that moved; None where there are none of them."""
    cells = {cell.id: cell for cell in result.cells}
    rows = [
        SheetRow(
            one.cell,
            [
                Cell("" if one.cell not in cells else labels_words(cells[one.cell])),
                Cell(_name_words(one.name)),
                figure_cell(unit_of(one.name), one.before),
                Cell("gone") if one.after is None else figure_cell(unit_of(one.name), one.after),
                Cell(regression_words(one)),
                Cell(n_words([one.before, one.after])),
                Cell(" → ".join(one.versions)),
            ],
        )
        for one in found
    ]
    columns = ["in", "figure", "before", "after", "what became of it", "n", "loraudit"]
    return Sheet(title, "cell", columns, rows, frozenset({0, 1, 4})) if rows else None


def _name_words(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")


def flaw_sheet(result: StudyResult) -> Sheet | None:
    """Cells whose own validity gate or control failed, or whose forecast refuses something; None where none is."""
    rows = [
        SheetRow(cell.id, [Cell(cell.grid), Cell(labels_words(cell)), Cell(cell.flaw)])
        for cell in result.cells
        if cell.flaw
    ]
    columns = ["grid", "in", "what its own report says first"]
    return (
        Sheet("Cells that are not valid as they stand", "cell", columns, rows, frozenset({0, 1, 2})) if rows else None
    )


def empty_sheet(result: StudyResult) -> Sheet | None:
    """Cells without a result; None where every cell has one."""
    rows = [
        SheetRow(
            cell.id,
            [
                Cell(cell.grid),
                Cell(labels_words(cell)),
                Cell(STATUS_WORDS[cell.status]),
                Cell(cell.error or ""),
            ],
        )
        for cell in sorted(result.cells, key=lambda one: one.status != "failed")
        if cell.status != "ok"
    ]
    columns = ["grid", "in", "outcome", "because"]
    return Sheet("Cells without a result", "cell", columns, rows, frozenset({0, 1, 2, 3})) if rows else None


def cells_sheet(result: StudyResult, findings: Sequence[StudyFinding]) -> Sheet:
    """Every cell: what it asked, what became of it and how many figures it has."""
    counts: dict[str, list[int]] = {cell.id: [0, 0] for cell in result.cells}
    for one in findings:
        if one.cell in counts:
            counts[one.cell][0] += 1
            counts[one.cell][1] += one.finding.value is None
    rows = [
        SheetRow(
            cell.id,
            [
                Cell(cell.kind),
                Cell(cell.grid),
                Cell(labels_words(cell)),
                Cell(STATUS_WORDS[cell.status]),
                Cell(" ".join([cell.sentence or cell.error or "", *(f"Warning: {one}" for one in cell.warnings)])),
                Cell(f"{counts[cell.id][0]:,}"),
                Cell(f"{counts[cell.id][1]:,}"),
                Cell("" if cell.seconds is None else f"{cell.seconds:,.0f}"),
            ],
        )
        for cell in result.cells
    ]
    columns = ["command", "grid", "in", "outcome", "what it found", "figures", "undefined", "seconds"]
    return Sheet("All cells", "cell", columns, rows, frozenset({0, 1, 2, 3, 4}))
