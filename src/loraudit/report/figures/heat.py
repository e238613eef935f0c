"""A grid of numbers as tones, each with its number in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.report.figures.canvas import Canvas
from loraudit.report.figures.labels import width_of

N_TONES = 6
_CELL = (60, 38)
_LEAST_WIDTH = 400
_GAP = 1.0


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One number of the grid.

    Attributes:
        value: Decides the tone; None where there is no number.
        words: The number as it is written, or why there is none.
        below: Written under it, such as its interval.
    """

    value: float | None
    words: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class Tones:
    """Which numbers get the lightest and the darkest tone.

    Attributes:
        first: Number of the lightest tone.
        last: Of the darkest.
        is_log: Equal ratios are equal steps.
    """

    first: float
    last: float
    is_log: bool = False

    def tone(self, value: float) -> int:
        """From 0, the lightest, to `N_TONES` − 1; what lies beyond an end has the tone of that end.

        >>> [Tones(0, 1).tone(value) for value in (-1, 0, 0.5, 1, 2)]
        [0, 0, 3, 5, 5]
        """
        first, last, at = self.first, self.last, value
        if self.is_log:
            at = max(at, min(first, last))
            first, last, at = math.log(first), math.log(last), math.log(at)
        share = 0.5 if last == first else (at - first) / (last - first)
        return min(N_TONES - 1, max(0, int(share * N_TONES)))


def heat_figure(
    cells: Sequence[Sequence[HeatCell]],
    rows: Sequence[str],
    columns: Sequence[str],
    tones: Tones,
    *,
    title: str,
    row_title: str,
    column_title: str,
    description: str,
) -> str:
    """Rows of cells, the first at the top, with a tone and a number each; one without a number has a dashed edge.

    Args:
        cells: One sequence per row, one cell per column.
        rows: Label of each row.
        columns: Label of each column.
        tones: The same in figures that are compared.
        title: What the figure shows; what stands beside it has to say it too.
        row_title: What tells rows apart.
        column_title: What tells columns apart.
        description: How to read it.
    """
    left = round(max([*map(width_of, rows), width_of(row_title)], default=0)) + 12
    wide = max(_CELL[0] * max(1, len(columns)), _LEAST_WIDTH - left - 8)
    canvas = Canvas(
        left + wide + 8, 68 + _CELL[1] * len(rows), title, description, left=left, right=8, top=24, bottom=44
    )
    canvas.text(left - 8, 16, row_title, "tick", "end")
    for position, label in enumerate(columns):
        canvas.text(canvas.x((position + 0.5) / len(columns)), canvas.y(0) + 16, label, "tick")
    canvas.text(canvas.x(0.5), canvas.height - 6, column_title, "label")
    for down, (label, row) in enumerate(zip(rows, cells, strict=True)):
        middle = canvas.y(1 - (down + 0.5) / len(rows))
        canvas.text(left - 8, middle + 4.3, label, "tick", "end")
        for across, cell in enumerate(row):
            _cell(canvas, cell, tones, (across, len(row)), (down, len(rows)))
    return canvas.svg()


def _cell(canvas: Canvas, cell: HeatCell, tones: Tones, across: tuple[int, int], down: tuple[int, int]) -> None:
    left, right = (canvas.x((across[0] + end) / across[1]) for end in (0, 1))
    top, bottom = (canvas.y(1 - (down[0] + end) / down[1]) for end in (0, 1))
    css = "heat none" if cell.value is None else f"heat heat-{tones.tone(cell.value)}"
    shape = f"M{left + _GAP},{top + _GAP}H{right - _GAP}V{bottom - _GAP}H{left + _GAP}z"
    if cell.words or cell.value is not None:
        canvas.path(shape, css)
    middle = (left + right) / 2, (top + bottom) / 2
    lift = 2.5 if cell.below else -4.3
    canvas.text(middle[0], middle[1] - lift, cell.words, "heat-words")
    if cell.below:
        canvas.text(middle[0], middle[1] + 11.5, cell.below, "heat-below")
