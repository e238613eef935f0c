"""The figures of a forecast: predicted dose curves, spectra, and predictions beside measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraudit.policy.forecast import predicted_curve
from loraudit.report.figures.forest import ForestRow, forest_figure
from loraudit.report.figures.lines import Line, Look, Measured, line_figure
from loraudit.report.figures.scales import Axis, decade_axis, dose_axis, linear_axis, percent_axis
from loraudit.report.figures.scatter import ScatterPoint, scatter_figure
from loraudit.report.forecast.cells import rank_cell
from loraudit.report.forecast.grid import arms_of, drawn, line_names
from loraudit.report.forecast.predictions import finding_of
from loraudit.report.robustness.cells import count_words
from loraudit.report.robustness.words import MEASURE_WORDS
from loraudit.spec import ForecastResult, MeasuredComparison, PoisonResult, PredictedCurve

PANEL = (420, 340)
_SMALLEST_SHARE = 1e-8  # of the largest eigenvalue; what is smaller is rounding
_NO_METHOD = 6  # grey, among the marks of methods
_HOW = (
    "One line per method, predicted; bands for the intervals of the highest and of the lowest. The first point is "
    "clean. The numbers stand in the tables below."
)


def dose_figures(result: ForecastResult, attack: PoisonResult) -> list[str]:
    """Predicted success or accuracy against poisoned records, what the attack is there for first."""
    measures = ["attack_success", "accuracy"] if attack.goal == "backdoor" else ["accuracy"]
    return [figure for measure in measures if (figure := _dose_figure(result, attack, measure))]


def _dose_figure(result: ForecastResult, attack: PoisonResult, measure: str) -> str:
    arms = arms_of(result.methods)
    curves = [
        (method, curve)
        for method in drawn(result.methods)
        if (curve := predicted_curve(result.curves, attack.name, method.name)) is not None
    ]
    counts = [point.n_poisoned for _, curve in curves for point in curve.points]
    bands = {method.name: _stated(curve, measure) for method, curve in curves}
    stated = [point for points in bands.values() for point in points]
    if not stated or not any(counts):
        return ""
    x, clean_at = dose_axis(f"poisoned records of {result.n_train:,}, log scale", counts, count_words)
    last = {name: points[-1].y for name, points in bands.items() if points}
    banded = {min(last, key=last.__getitem__), max(last, key=last.__getitem__)}
    shown = line_names(result.methods)
    lines = [
        _line(shown[name], arms.get(name, 0), bands[name], clean_at, is_banded=name in banded)
        for name in last  # in the order of the methods
    ]
    words = MEASURE_WORDS[measure]
    title = f"Predicted {words} against the dose of {attack.name}, by method"
    y = success_axis() if measure == "attack_success" else accuracy_axis(stated)
    look = Look(*PANEL, are_names_right=True, most_letters=18)
    return line_figure(lines, x, y, look, title=title, description=_HOW)


def success_axis() -> Axis:
    """All shares, because success can be any of them."""
    return Axis("Success on triggered inputs", 0.0, 1.0, [(share / 5, f"{20 * share} %") for share in range(6)])


def accuracy_axis(points: Sequence[Measured]) -> Axis:
    """As far as the points and their intervals reach."""
    ends = [end for point in points for end in (point.y, point.lower, point.upper) if end is not None]
    return percent_axis("Accuracy on clean test records", min(ends, default=0.0), max(ends, default=1.0))


def _stated(curve: PredictedCurve, measure: str) -> list[Measured]:
    """Points that have a number, by rising dose; x is the number of poisoned records."""
    found: list[Measured] = []
    for point in sorted(curve.points, key=lambda point: point.n_poisoned):
        finding = finding_of(point, measure)
        if finding is not None and finding.value is not None:
            found.append(Measured(point.n_poisoned, finding.value, finding.lower, finding.upper))
    return found


def _line(name: str, index: int, points: Sequence[Measured], clean_at: float, *, is_banded: bool) -> Line:
    moved = [Measured(point.x or clean_at, point.y, point.lower, point.upper) for point in points]
    return Line(name, index, [(point.x, point.y) for point in moved], band=moved if is_banded else ())


def spectrum_figures(result: ForecastResult) -> list[str]:
    """Eigenvalues as they are, and over the largest, which leaves the shape; both axes logarithmic."""
    arms = arms_of(result.methods)
    kernels = [(method, _drawn_part(method.shape.eigenvalues)) for method in drawn(result.methods)]
    kernels = [(method, values) for method, values in kernels if values]
    if not kernels:
        return []
    shown = line_names(result.methods)
    figures: list[str] = []
    for title, is_shape in (("Eigenvalues: speed and shape", False), ("Eigenvalues over the largest: shape", True)):
        lines = [
            Line(
                shown[method.name],
                arms.get(method.name, 0),
                [(k + 1.0, value / (values[0] if is_shape else 1.0)) for k, value in enumerate(values)],
            )
            for method, values in kernels
        ]
        heights = [y for line in lines for _, y in line.mean]
        last = float(max(2, *(len(line.mean) for line in lines)))
        x = Axis(
            "eigenvalue, log scale",
            1.0,
            last,
            [(k, f"{k}") for k in (1, 2, 4, 8, 16, 32, 64) if k <= last],
            is_log=True,
        )
        y = decade_axis(title, min(heights), max(heights))
        figures.append(
            line_figure(
                lines,
                x,
                y,
                Look(*PANEL, are_names_right=True, most_letters=18),
                title=f"{title}, by method",
                description="One line per method; eigenvalues of its kernel over the training records, descending. "
                "Those below a hundred-millionth of the largest are not drawn.",
            )
        )
    return figures


def _drawn_part(eigenvalues: Sequence[float]) -> list[float]:
    return [value for value in eigenvalues if value > _SMALLEST_SHARE * max(eigenvalues)]


def comparison_figures(comparison: MeasuredComparison, arms: Mapping[str, int]) -> list[str]:
    """Predicted against measured, and the rank correlation beside those of the baselines.

    Args:
        comparison: With one run.
        arms: Marks of methods; others are grey dots.
    """
    points = [
        ScatterPoint(float(cell["predicted"]), float(cell["measured"]), arms.get(str(cell["method"])))
        for cell in comparison.cells
        if cell.get("predicted") is not None and cell.get("measured") is not None
    ]
    words = MEASURE_WORDS[comparison.measure]
    figures: list[str] = []
    if points:
        ends = [value for point in points for value in (point.x, point.y)]
        x, y = (percent_axis(f"{side} {words}", min(ends), max(ends)) for side in ("predicted", "measured"))
        figures.append(
            scatter_figure(
                points,
                x,
                y,
                title=f"Measured against predicted {words}",
                description="One mark per method, attack and dose; on the dashed line both are the same.",
            )
        )
    found = {"forecast": comparison.spearman, **comparison.baselines}
    rows = [
        ForestRow(name, _NO_METHOD, one.value, one.lower, one.upper, rank_cell(one).value)
        for name, one in found.items()
    ]
    axis = linear_axis("Spearman's ρ", -1.0, 1.0, n_ticks=4)
    heading = f"Rank correlation with measured {words}"
    how = "One mark with its interval for the forecast and for each baseline; dashed: no correlation."
    return [*figures, forest_figure(rows, axis, heading=heading, chance=0.0, description=how, width=400)]
