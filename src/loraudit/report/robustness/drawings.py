"""The figures of a robustness run: one row of panels per attack, all over one axis of exposures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from loraudit.policy import percent
from loraudit.policy.robustness import curve_of, judged_measure, point_at, poisoned_points
from loraudit.report.figures.forest import ForestRow, forest_figure
from loraudit.report.figures.lines import Guide, Line, Look, Measured, line_figure
from loraudit.report.figures.scales import Axis, dose_axis, linear_axis, percent_axis
from loraudit.report.robustness.cells import count_words
from loraudit.report.robustness.tables import censored_words
from loraudit.report.robustness.words import MEASURE_WORDS, RATES
from loraudit.spec import Curve, DosePoint, PoisonResult, RobustnessMatch, RobustnessResult

PANEL = (400, 350)
_EXPOSURES = "poisoned records × epochs, log scale"
_HOW = (
    "One line per method: mean over its runs with a band for the interval; thin: single seeds. The first point is the "
    "clean arm. The numbers stand in the tables below."
)


def dose_figures(result: RobustnessResult, match: RobustnessMatch, attack: PoisonResult) -> list[str]:
    """Success or harm, and what is left of clean utility, against exposures; then the effective doses."""
    judged = judged_measure(attack, match)
    there = {curve.measure for curve in match.curves if curve.attack == attack.name}
    wanted = (judged, "accuracy", "clean_loss", "f1")
    n_curves = 2 if judged == "attack_success" else 3
    measures = [m for m in dict.fromkeys(wanted) if m in there][:n_curves]
    figures = [_dose_figure(result, match, attack, measure) for measure in measures]
    forest = _effective_figure(result, match, attack)
    return [figure for figure in (*figures, forest) if figure]


def _dose_figure(result: RobustnessResult, match: RobustnessMatch, attack: PoisonResult, measure: str) -> str:
    places = {method.name: position for position, method in enumerate(result.methods)}
    curves = [curve for curve in match.curves if (curve.attack, curve.measure) == (attack.name, measure)]
    exposures = [p.exposures for c in match.curves if c.attack == attack.name for p in poisoned_points(c)]
    if not [one for one in exposures if one > 0]:
        return ""
    x, clean_at = dose_axis(_EXPOSURES, exposures, count_words)
    lines = [_line(match, curve, places.get(curve.method, 0), clean_at) for curve in curves]
    title = _capital(MEASURE_WORDS[measure])
    if measure == "attack_success":
        ticks = [(share / 5, f"{20 * share} %") for share in range(6)]
        y = Axis("Success on triggered inputs", 0.0, 1.0, ticks)
    else:
        y = _value_axis(title, measure, curves)
    return line_figure(
        lines,
        x,
        y,
        Look(*PANEL, are_names_right=True, most_letters=12),
        title=f"{title} against the dose of {attack.name}, by method",
        description=_HOW,
        guides=_guides(result, attack) if measure == "attack_success" else [],
    )


def _line(match: RobustnessMatch, curve: Curve, index: int, clean_at: float) -> Line:
    points = [point for point in sorted(curve.points, key=lambda p: p.exposures) if point.finding.value is not None]
    measured = [_measured(point, clean_at) for point in points]
    n_runs = max((len(point.per_seed) for point in curve.points), default=0)
    runs = [
        [
            (_at(point, clean_at), value)
            for point in points
            if seed < len(point.per_seed) and (value := point.per_seed[seed]) is not None and math.isfinite(value)
        ]
        for seed in range(n_runs if n_runs > 1 else 0)
    ]
    mean = [(point.x, point.y) for point in measured]
    rings = _rings(match, curve, mean) if curve.measure == "attack_success" else []
    return Line(curve.method, index, mean, runs, rings=rings, band=measured)


def _measured(point: DosePoint, clean_at: float) -> Measured:
    return Measured(_at(point, clean_at), point.finding.value or 0.0, point.finding.lower, point.finding.upper)


def _at(point: DosePoint, clean_at: float) -> float:
    return point.exposures if point.exposures > 0 else clean_at


def _rings(match: RobustnessMatch, curve: Curve, mean: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where the line passes half of the effect."""
    found: list[tuple[float, float]] = []
    for dose in match.effective_doses:
        if (dose.attack, dose.method, dose.share) == (curve.attack, curve.method, 0.5) and dose.finding.value:
            height = _height(mean, dose.finding.value)
            found += [] if height is None else [(dose.finding.value, height)]
    return found


def _height(mean: Sequence[tuple[float, float]], x: float) -> float | None:
    """The line's y at an x, straight between its points on a logarithmic axis; None where it has none there."""
    for (x0, y0), (x1, y1) in itertools.pairwise(mean):
        if x0 <= x <= x1 and x1 > x0:
            return y0 + (y1 - y0) * math.log(x / x0) / math.log(x1 / x0)
    return None


def _guides(result: RobustnessResult, attack: PoisonResult) -> list[Guide]:
    """The highest floor of all methods: what triggered inputs get without any poison."""
    floors = [
        c.floor.value for c in result.controls if c.attack == attack.name and c.floor and c.floor.value is not None
    ]
    return [Guide(max(floors), f"floor {percent(max(floors))}")] if floors else []


def _value_axis(title: str, measure: str, curves: Sequence[Curve]) -> Axis:
    points = [point for curve in curves for point in curve.points]
    values = [end for p in points for end in (p.finding.value, p.finding.lower, p.finding.upper) if end is not None]
    values += [value for point in points for value in point.per_seed if value is not None and math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return percent_axis(title, low, high) if measure in RATES else linear_axis(title, low, high, n_ticks=5)


def _effective_figure(result: RobustnessResult, match: RobustnessMatch, attack: PoisonResult) -> str:
    """Exposures for half of the effect with their intervals, one row per method; empty where none were asked for."""
    doses = {d.method: d for d in match.effective_doses if (d.attack, d.share) == (attack.name, 0.5)}
    exposures = [p.exposures for c in match.curves if c.attack == attack.name for p in poisoned_points(c)]
    if not doses or not [one for one in exposures if one > 0]:
        return ""
    rows: list[ForestRow] = []
    for position, method in enumerate(result.methods):
        dose = doses.get(method.name)
        if dose is None:
            rows.append(ForestRow(method.name, position, None, None, None, "not reached"))
            continue
        found = dose.finding
        words = "undefined" if found.value is None else count_words(found.value)
        words = words if dose.bound is None else censored_words(match, dose)
        value = None if dose.bound is not None else found.value
        rows.append(ForestRow(method.name, position, value, found.lower, found.upper, words))
    ends = [end for d in doses.values() for end in (d.finding.lower, d.finding.upper) if end is not None and end > 0]
    axis, clean_at = dose_axis(_EXPOSURES, exposures, count_words, also=ends)
    without_clean = Axis(axis.title, clean_at * 1.5, axis.last, axis.ticks[1:], is_log=True)
    return forest_figure(
        rows,
        without_clean,
        heading="ED50: exposures for half the effect",
        chance=None,
        description="One mark per method with its interval; further right takes more poison. A sign stands where the "
        "dose lies beyond those tested.",
        width=PANEL[0],
    )


def clean_figures(result: RobustnessResult, match: RobustnessMatch) -> list[str]:
    """Accuracy and loss of the clean arms, one row per method."""
    if not result.attacks:
        return []
    figures: list[str] = []
    for measure in ("accuracy", "clean_loss"):
        found = [
            point_at(curve_of(match, result.attacks[0].name, method.name, measure), 0) for method in result.methods
        ]
        ends = [
            end
            for point in found
            if point is not None
            for end in (point.finding.value, point.finding.lower, point.finding.upper)
            if end is not None
        ]
        if not ends:
            continue
        rows = [
            ForestRow(method.name, position, None, None, None, "not reached")
            if point is None
            else ForestRow(
                method.name,
                position,
                point.finding.value,
                point.finding.lower,
                point.finding.upper,
                "undefined"
                if point.finding.value is None
                else percent(point.finding.value)
                if measure in RATES
                else f"{point.finding.value:.3f}",
            )
            for position, (method, point) in enumerate(zip(result.methods, found, strict=True))
        ]
        room = 0.05 * max(max(ends) - min(ends), 0.01)
        axis = linear_axis(MEASURE_WORDS[measure], min(ends) - room, max(ends) + room, n_ticks=4, is_tight=True)
        if measure in RATES:
            axis = Axis(axis.title, axis.first, axis.last, [(value, f"{100 * value:g} %") for value, _ in axis.ticks])
        figures.append(
            forest_figure(
                rows,
                axis,
                heading=f"Clean arms: {MEASURE_WORDS[measure]}",
                chance=None,
                description="One mark per method with its interval.",
                width=PANEL[0],
            )
        )
    return figures


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"
