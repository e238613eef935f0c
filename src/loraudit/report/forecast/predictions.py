"""What is predicted of every method at every dose, and what is refused, as tables."""

from __future__ import annotations

from dataclasses import replace

from loraudit.policy.forecast import (
    accuracy_lost,
    clean_point,
    harm_at,
    largest_dose,
    predicted_curve,
    predicted_poisoned,
)
from loraudit.report.cells import Cell
from loraudit.report.forecast.cells import short_cell
from loraudit.report.forecast.grid import MOST_ROWS, N_ENDS, arms_of
from loraudit.report.robustness.cells import n_cell, value_cell
from loraudit.report.robustness.words import MEASURE_WORDS, poisoned_words
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import ForecastMethod, ForecastResult, PoisonResult, PredictedCurve, PredictedPoint
from loraudit.types import Finding


def refused_sheet(result: ForecastResult) -> Sheet | None:
    """Methods of which nothing is predicted, each with its reason; None where there are none."""
    rows: list[SheetRow] = []
    for method in result.methods:
        if method.refused is None:
            continue
        errors = [check.relative_error for check in method.linearity if check.relative_error is not None]
        rows.append(SheetRow(method.name, [Cell(method.refused), short_cell(max(errors, default=None))]))
    return Sheet("Refused", "method", ["why", "largest one-step error"], rows, frozenset({0})) if rows else None


def prediction_sheets(result: ForecastResult, attack: PoisonResult) -> list[Sheet]:
    """Every measure at every dose of one attack, one row per method; first what the attack is there for."""
    measures = ["attack_success", "accuracy"] if attack.goal == "backdoor" else ["accuracy", "attack_success"]
    found = [curve for curve in result.curves if curve.attack == attack.name]
    return [
        _prediction_sheet(result, attack, measure)
        for measure in measures
        if any(finding_of(point, measure) for curve in found for point in curve.points)
    ]


def finding_of(point: PredictedPoint | None, measure: str) -> Finding | None:
    """Accuracy or attack success of a point; None where it has none."""
    if point is None:
        return None
    return point.accuracy if measure == "accuracy" else point.attack_success


def ends_of(result: ForecastResult, attack: PoisonResult, sheet: Sheet) -> Sheet | None:
    """The methods that the largest dose is predicted to hurt most and least; None where the whole table is short.

    Methods without a prediction are in the whole table alone.
    """
    if len(sheet.rows) <= MOST_ROWS:
        return None
    harm: dict[str, float] = {}
    for method in result.methods:
        curve = predicted_curve(result.curves, attack.name, method.name)
        value = harm_at(attack, curve, largest_dose(curve))
        if value is not None:
            harm[method.name] = value
    ordered = sorted((row for row in sheet.rows if row.name in harm), key=lambda row: -harm[row.name])
    if not ordered:
        return None
    kept = ordered if len(ordered) <= 2 * N_ENDS else [*ordered[:N_ENDS], *ordered[-N_ENDS:]]
    title = f"{sheet.title}: the {len(kept)} methods hurt most and least, of {len(sheet.rows)}"
    return replace(sheet, title=title, rows=kept)


def _prediction_sheet(result: ForecastResult, attack: PoisonResult, measure: str) -> Sheet:
    arms = arms_of(result.methods)
    rows: list[SheetRow] = []
    for method in result.methods:
        curve = predicted_curve(result.curves, attack.name, method.name)
        remark = _why_empty(method, curve)
        cells = [] if remark or curve is None else _cells(attack, curve, measure)
        rows.append(SheetRow(method.name, cells, remark, arms.get(method.name)))
    doses = [poisoned_words(n, dose) for dose, n in zip(attack.doses, attack.n_poisoned, strict=True)]
    change = "points lost at the most" if measure == "accuracy" else "points above clean at the most"
    columns = ["clean", *doses, change, "over starts, %", "n"]
    return Sheet(f"{attack.name}: predicted {MEASURE_WORDS[measure]} by poisoned records", "method", columns, rows)


def _why_empty(method: ForecastMethod, curve: PredictedCurve | None) -> str | None:
    if method.refused is not None:
        return "refused"
    if curve is None or not curve.points:
        return "nothing predicted"
    return "clean loss not reached" if all(point.time is None for point in curve.points) else None


def _cells(attack: PoisonResult, curve: PredictedCurve, measure: str) -> list[Cell]:
    by_dose = {point.dose: point for point in predicted_poisoned(curve)}
    clean, last = clean_point(curve), largest_dose(curve)
    points = [clean, *(by_dose.get(dose) for dose in attack.doses)]
    judged = "attack_success" if attack.goal == "backdoor" else "accuracy"
    heads = [value for value in (last.per_start if last else ()) if value is not None] if measure == judged else []
    spread = f"{100 * min(heads):.1f}–{100 * max(heads):.1f}" if len(heads) > 1 else ""
    return [
        *(_predicted_cell(point, measure) for point in points),
        _change_cell(curve, clean, last, measure),
        Cell(spread),
        n_cell(finding_of(last or clean, measure)),
    ]


def _predicted_cell(point: PredictedPoint | None, measure: str) -> Cell:
    if point is not None and point.time is None:
        return Cell("not reached")
    return value_cell(measure, finding_of(point, measure))


def _change_cell(
    curve: PredictedCurve, clean: PredictedPoint | None, last: PredictedPoint | None, measure: str
) -> Cell:
    if measure == "accuracy":
        change = accuracy_lost(curve, last)
    else:
        before, after = finding_of(clean, measure), finding_of(last, measure)
        first, final = (None if one is None else one.value for one in (before, after))
        change = None if first is None or final is None else final - first
    return Cell("undefined" if change is None else f"{round(100 * change, 1) + 0.0:+.1f}")
