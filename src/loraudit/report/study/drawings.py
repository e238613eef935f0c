"""Small multiples of a study: one panel per measure, over the axis that has the most values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loraudit.report.figures.forest import ForestRow, forest_figure
from loraudit.report.figures.labels import shortened
from loraudit.report.figures.lines import Guide, Line, Look, Measured, line_figure
from loraudit.report.figures.scales import Axis, decade_axis, doubling_axis, linear_axis, percent_axis
from loraudit.report.study.cells import figure_cell
from loraudit.report.study.measures import Measure, Point

MOST_PANELS = 24
"""Of one measure; what is beyond stands in the table alone."""
_PANEL = (420, 300)
_MOST_SERIES = 8
_MOST_ROWS = 40
_MOST_TICKS = 6
_MOST_LETTERS_OF_A_ROW, _LETTERS_WITH_ROOM = 30, 18
_PIXELS_OF_A_LETTER = 8
_LOG_FROM = 16.0
_HOW_LINES = "One mark per cell with its interval. Hollow: a cell whose own validity gate or control failed."
_HOW_ROWS = "One row per cell: mark, interval and number. Named 'not valid': its own validity gate or control failed."


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure.

    Attributes:
        caption: What it holds that its neighbours do not.
        svg: The figure; empty where no cell of it has a number.
    """

    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Which dimension of a measure goes where.

    Attributes:
        along: Along the axis; None where there is nothing to tell cells apart.
        series: Told apart by colour and shape; None where there is nothing to tell.
        panels: A panel for every combination of these.
    """

    along: str | None
    series: str | None
    panels: Sequence[str]


def plan_of(measure: Measure) -> Plan:
    """The dimension with the most values runs along the axis, numbers first where two have as many.

    Of the others the largest that eight marks can tell apart is the series.
    """
    sizes = {name: len(_values(measure.points, name)) for name in measure.dimensions}
    if not sizes:
        return Plan(None, None, ())
    along = max(sizes, key=lambda name: (sizes[name], _numbers(measure.points, name) is not None))
    others = {name: size for name, size in sizes.items() if name != along and size <= _MOST_SERIES}
    series = max(others, key=others.__getitem__) if others else None
    return Plan(along, series, [name for name in sizes if name not in {along, series}])


def panels_of(measure: Measure) -> list[Panel]:
    """The figures of a measure, all on one scale; none where no cell has a number of it."""
    known = [point for point in measure.points if _is_known(point)]
    if not known:
        return []
    plan = plan_of(measure)
    scale = _scale(measure, known)
    series = [None] if plan.series is None else _values(measure.points, plan.series)
    found: list[Panel] = []
    for where in _combinations(measure.points, plan.panels):
        points = [point for point in measure.points if all(point.places.get(k) == v for k, v in where.items())]
        svg = _drawn(measure, plan, points, scale, series, where) if any(map(_is_known, points)) else ""
        at = ", ".join(f"{name} {value}" for name, value in where.items())
        found.append(Panel(". ".join(part for part in (at, _rows_are(measure, plan)) if part), svg))
    return found[:MOST_PANELS] if any(panel.svg for panel in found) else []


def _drawn(
    measure: Measure,
    plan: Plan,
    points: Sequence[Point],
    scale: Axis,
    series: Sequence[str | None],
    where: Mapping[str, str],
) -> str:
    title = ", ".join([measure.title, *(f"{name} {value}" for name, value in where.items())])
    numbers = _numbers(measure.points, plan.along)
    known = [point for point in points if _is_known(point)]
    if numbers is not None and plan.along is not None:
        return _line_panel(plan, known, scale, series, _number_axis(plan.along, numbers), title)
    return _row_panel(measure, plan, points, scale, series, title) if len(points) <= _MOST_ROWS else ""


def _line_panel(
    plan: Plan, known: Sequence[Point], scale: Axis, series: Sequence[str | None], x: Axis, title: str
) -> str:
    lines: list[Line] = []
    for index, value in enumerate(series):
        mine = [p for p in known if plan.series is None or p.places.get(plan.series, "") == value]
        mine.sort(key=lambda point: float(point.places[plan.along or ""]))
        measured = [_measured(point, plan.along or "") for point in mine]
        if measured:
            rings = [(at.x, at.y) for at, point in zip(measured, mine, strict=True) if point.cell.flaw]
            name = "" if value is None else value
            mean = [(at.x, at.y) for at in measured]
            lines.append(Line(name, index, mean, stated=measured, rings=rings, is_dodged=len(series) > 1))
    guides = [Guide(0.5, "guessing")] if _has_chance(scale) else []
    lead = "" if plan.series is None else f"One line per {plan.series}. "
    return line_figure(
        lines,
        x,
        scale,
        Look(*_PANEL, are_names_right=True, most_letters=14),
        title=title,
        description=f"{lead}{_HOW_LINES} The numbers stand in the table.",
        guides=guides,
    )


def _row_panel(
    measure: Measure, plan: Plan, points: Sequence[Point], scale: Axis, series: Sequence[str | None], title: str
) -> str:
    order = {} if plan.along is None else {v: k for k, v in enumerate(_values(measure.points, plan.along))}
    ranked = sorted(
        points,
        key=lambda point: (
            order.get(point.places.get(plan.along or "", ""), 0),
            0 if plan.series is None else series.index(point.places.get(plan.series, "")),
        ),
    )
    rows = [
        ForestRow(
            _row_name(plan, point),
            0 if plan.series is None else series.index(point.places.get(plan.series, "")),
            point.finding.value if _is_known(point) else None,
            point.finding.lower,
            point.finding.upper,
            figure_cell(measure.unit, point.finding).value,
        )
        for point in ranked
    ]
    longest = max(len(row.name) for row in rows)
    return forest_figure(
        rows,
        scale,
        heading=title,
        chance=0.5 if _has_chance(scale) else None,
        description=f"{title}. {_HOW_ROWS}",
        width=_PANEL[0] + _PIXELS_OF_A_LETTER * max(0, longest - _LETTERS_WITH_ROOM),
        most_letters=_MOST_LETTERS_OF_A_ROW,
        has_heading=False,
    )


def _row_name(plan: Plan, point: Point) -> str:
    """What tells the row apart; where that is long, the dimension along the axis is cut and the series stays."""
    along, series = ("" if name is None else point.places.get(name, "") for name in (plan.along, plan.series))
    flaw = "not valid" if point.cell.flaw else ""
    room = _MOST_LETTERS_OF_A_ROW - sum(len(f" · {part}") for part in (flaw, series) if part)
    name = shortened(along or point.cell.id, max(_MOST_LETTERS_OF_A_ROW // 3, room))
    return " · ".join(part for part in (flaw, name, series) if part)


def _rows_are(measure: Measure, plan: Plan) -> str:
    """What the names of rows say, where a panel has rows."""
    named = [name for name in (plan.along, plan.series) if name is not None]
    return "" if not named or _numbers(measure.points, plan.along) is not None else f"Rows: {' · '.join(named)}"


def _values(points: Sequence[Point], dimension: str) -> list[str]:
    """Values of a dimension: in the order of the cells, numbers by size."""
    values = list(dict.fromkeys(point.places.get(dimension, "") for point in points))
    numbers = _as_numbers(values)
    return values if numbers is None else sorted(values, key=float)


def _as_numbers(values: Sequence[str]) -> list[float] | None:
    try:
        found = [float(value) for value in values]
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) and len(set(found)) == len(found) > 1 else None


def _numbers(points: Sequence[Point], dimension: str | None) -> list[float] | None:
    return None if dimension is None else _as_numbers(_values(points, dimension))


def _combinations(points: Sequence[Point], dimensions: Sequence[str]) -> list[dict[str, str]]:
    found = [{name: point.places.get(name, "") for name in dimensions} for point in points]
    return [dict(items) for items in dict.fromkeys(tuple(one.items()) for one in found)]


def _is_known(point: Point) -> bool:
    return point.finding.value is not None and math.isfinite(point.finding.value)


def _measured(point: Point, along: str) -> Measured:
    found = point.finding
    return Measured(float(point.places[along]), found.value or 0.0, found.lower, found.upper)


def _number_axis(title: str, numbers: Sequence[float]) -> Axis:
    """Logarithmic where numbers span a factor of sixteen or more; each has its label while there is room for it."""
    low, high = min(numbers), max(numbers)
    if low > 0 and high / low >= _LOG_FROM:
        every = -(-len(numbers) // _MOST_TICKS)
        axis = doubling_axis(f"{title}, log scale", numbers)
        ticks = [(value, _short(value)) for value in sorted(numbers)[::every]]
        return Axis(axis.title, axis.first, axis.last, ticks, is_log=True)
    room = 0.06 * (high - low)
    if len(numbers) <= _MOST_TICKS:
        return Axis(title, low - room, high + room, [(value, _short(value)) for value in sorted(numbers)])
    return linear_axis(title, low - room, high + room, n_ticks=5, is_tight=True)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.1e}"


def _scale(measure: Measure, known: Sequence[Point]) -> Axis:
    ends = [
        end
        for point in known
        for end in (point.finding.value, point.finding.lower, point.finding.upper)
        if end is not None and math.isfinite(end)
    ]
    title = measure.title.partition(":")[0]
    low, high = min(ends), max(ends)
    if measure.unit == "share":
        return percent_axis(title, max(0.0, low), min(1.0, high))
    if measure.unit == "points":
        axis = linear_axis(f"{title}, points", 100 * low, 100 * high, n_ticks=5)
        ticks = [(value / 100, label) for value, label in axis.ticks]
        return Axis(axis.title, axis.first / 100, axis.last / 100, ticks)
    if measure.unit == "count" and low > 0 and high / low >= _LOG_FROM:
        return decade_axis(f"{title}, log scale", low, high)
    if title == "AUC":
        return linear_axis(title, min(0.5, low), high, n_ticks=5)
    return linear_axis(title, low, high, n_ticks=5)


def _has_chance(scale: Axis) -> bool:
    return scale.title == "AUC"
