"""Predictions and measurements on one plot and in one table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from loraudit.report.cells import Cell
from loraudit.report.figures.lines import Line, Look, Measured, line_figure
from loraudit.report.figures.scales import dose_axis
from loraudit.report.forecast.drawings import PANEL, accuracy_axis, success_axis
from loraudit.report.forecast.grid import MOST_LINES
from loraudit.report.forecast.measured import Beside, BesideCell
from loraudit.report.robustness.cells import n_cell, value_cell
from loraudit.report.robustness.words import MEASURE_WORDS, dose_words
from loraudit.report.sheets import Sheet, SheetRow

HOW = (
    "Lines: predicted. Large marks with their intervals: measured. The forecast is read at one clean loss, the run "
    "at its first comparison. Doses as they were asked for; how many records that is may differ."
)


def beside_arms(beside: Beside) -> dict[str, int]:
    """Marks of the methods that are in both."""
    return {pair.predicted.name: position for position, pair in enumerate(beside.pairs)}


def beside_figures(beside: Beside, attack: str) -> list[str]:
    """Dose curves of both, one figure per measure, and per kind of dose where shares and numbers were asked for."""
    figures: list[str] = []
    for measure in ("attack_success", "accuracy"):
        cells = [cell for cell in beside.cells if (cell.attack, cell.measure) == (attack, measure)]
        for is_share in (True, False):
            chosen = [cell for cell in cells if cell.dose == 0 or (cell.dose < 1) == is_share]
            if any(cell.dose for cell in chosen):
                figures.append(_figure(beside, attack, measure, chosen, is_share=is_share))
    return figures


def _figure(beside: Beside, attack: str, measure: str, cells: Sequence[BesideCell], *, is_share: bool) -> str:
    title = "share poisoned, log scale" if is_share else "records poisoned, log scale"
    x, clean_at = dose_axis(title, [cell.dose for cell in cells], dose_words)
    sides = [_at(cell, cell.predicted.value, clean_at) for cell in cells]
    sides += [_measured(cell, clean_at) for cell in cells]
    y = success_axis() if measure == "attack_success" else accuracy_axis(sides)
    lines: list[Line] = []
    for name, index in list(beside_arms(beside).items())[:MOST_LINES]:
        own = sorted((cell for cell in cells if cell.method.name == name), key=lambda cell: cell.dose)
        if own:
            mean = [(cell.dose or clean_at, cell.predicted.value or 0.0) for cell in own]
            stated = [_measured(cell, clean_at) for cell in own]
            lines.append(Line(name, index, mean, stated=stated, is_dodged=True))
    return line_figure(
        lines,
        x,
        y,
        Look(*PANEL, are_names_right=True, most_letters=18),
        title=f"{MEASURE_WORDS[measure].capitalize()} against the dose of {attack}, predicted and measured, by method",
        description="One line per method for the prediction, large marks with intervals for what was measured.",
    )


def beside_sheet(beside: Beside, measure: str) -> Sheet:
    """Every dose with both numbers, their intervals, and how far they are apart."""
    arms = beside_arms(beside)
    cell_of = partial(value_cell, measure)
    rows = [
        SheetRow(
            cell.method.name,
            [
                Cell(cell.attack),
                Cell(dose_words(cell.dose) if cell.dose else "clean"),
                cell_of(cell.predicted),
                cell_of(cell.measured),
                Cell(f"{100 * ((cell.measured.value or 0.0) - (cell.predicted.value or 0.0)):+.1f}"),
                n_cell(cell.predicted),
                n_cell(cell.measured),
            ],
            arm=arms.get(cell.method.name),
        )
        for cell in beside.cells
        if cell.measure == measure
    ]
    columns = ["attack", "dose", "predicted", "measured", "measured − predicted, points", "n, predicted", "n, measured"]
    return Sheet(f"Predicted and measured {MEASURE_WORDS[measure]}", "method", columns, rows, frozenset({0}))


def _at(cell: BesideCell, value: float | None, clean_at: float) -> Measured:
    return Measured(cell.dose or clean_at, value or 0.0)


def _measured(cell: BesideCell, clean_at: float) -> Measured:
    found = cell.measured
    return Measured(cell.dose or clean_at, found.value or 0.0, found.lower, found.upper)
