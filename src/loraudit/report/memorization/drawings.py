"""The figures about extraction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loraudit.memorization import SEVERITY
from loraudit.report.figures.lines import Line, Look, Measured, line_figure
from loraudit.report.figures.scales import Axis, decade_axis, doubling_axis, named_axis, share_axis
from loraudit.report.figures.stacked import StackedRow, stacked_figure
from loraudit.report.memorization.columns import (
    COLOURS,
    COLUMN_WORDS,
    at_prefix,
    column_of,
    columns_of,
    stated_prefix,
)
from loraudit.report.memorization.numbers import KIND_WORDS, drawn_words, share_words
from loraudit.report.memorization.spoken import main_generated
from loraudit.spec import CopiesRow, GeneratedPoint, MemorizationResult, WithControls
from loraudit.types import Finding

_LOOK = Look(410, 340, are_names_right=True, most_letters=13)
_BANDS = "One line per column; shaded: its interval. The numbers stand in the tables below."


def greedy_figure(found: MemorizationResult) -> str:
    """Share extracted greedily against prefix length; empty where nothing is known."""
    points = [(float(point.prefix), point.extracted) for point in found.greedy]
    axis = doubling_axis("tokens given, log scale", [x for x, _ in points]) if points else None
    return _lines(found, points, axis, "Said word for word, greedily", "against tokens given")


def curve_figures(found: MemorizationResult) -> list[str]:
    """Share extractable with an even chance against attempts, one figure per decoding, on one axis."""
    points = at_prefix(found.curve, stated_prefix(found))
    if not points:
        return []
    x = decade_axis("attempts n, log scale", min(point.n for point in points), max(point.n for point in points))
    highest = _ends(found, [point.extracted for point in points])
    figures = [
        _lines(
            found,
            [(float(point.n), point.extracted) for point in points if (point.top_k, point.temperature) == drawn],
            x,
            f"Said in n attempts, {drawn_words(*drawn)}",
            f"against attempts, {points[0].prefix} tokens given",
            highest,
        )
        for drawn in dict.fromkeys((point.top_k, point.temperature) for point in points)
    ]
    return [figure for figure in figures if figure]


def _ends(found: MemorizationResult, each: Sequence[WithControls]) -> list[float]:
    findings = [column_of(controls, name) for controls in each for name in columns_of(found)]
    ends = [(one.upper, one.value) for one in findings if one is not None]
    return [end for pair in ends for end in pair if end is not None]


def _lines(
    found: MemorizationResult,
    points: Sequence[tuple[float, WithControls]],
    x: Axis | None,
    title: str,
    against: str,
    ends: Sequence[float] = (),
) -> str:
    highest = [*ends, *_ends(found, [controls for _, controls in points])]
    if x is None or not highest:
        return ""
    lines = [
        _line(COLUMN_WORDS[name], COLOURS[name], [(place, column_of(controls, name)) for place, controls in points])
        for name in columns_of(found)
    ]
    return line_figure(lines, x, share_axis(title, highest), _LOOK, title=f"{title}, {against}", description=_BANDS)


def _line(name: str, index: int, findings: Sequence[tuple[float, Finding | None]]) -> Line:
    known = [
        Measured(x, found.value, found.lower, found.upper)
        for x, found in findings
        if found is not None and found.value is not None
    ]
    is_single = len(known) == 1  # a band needs a second point, so the one there is gets its whisker
    marks = known if is_single else [Measured(p.x, p.y) for p in known] if len(known) < 8 else []
    return Line(name, index, [(p.x, p.y) for p in known], stated=marks, is_dodged=is_single, band=known)


def copies_figures(found: MemorizationResult) -> list[str]:
    """Three measures of members against their copies in the training set."""
    rows = found.copies
    if not rows:
        return []
    x = named_axis("copies in the training set", [row.copies.replace(" or more", "+") for row in rows])
    measures: list[tuple[str, Callable[[CopiesRow], Finding]]] = [
        (f"Said greedily, {rows[0].prefix} tokens given", lambda row: row.greedy),
        ("Mean chance in one attempt", lambda row: row.sampled),
        ("Mean extraction strength", lambda row: row.strength),
    ]
    figures: list[str] = []
    for title, measure in measures:
        findings = [(float(place), measure(row)) for place, row in enumerate(rows)]
        ends = [end for _, one in findings for end in (one.value, one.upper) if end is not None]
        if ends:
            line = _line("members", COLOURS["members"], findings)
            y = share_axis(title, ends)
            figures.append(
                line_figure([line], x, y, _LOOK, title=f"{title}, by copies in the training set", description=_BANDS)
            )
    return figures


def kinds_figures(found: MemorizationResult) -> list[str]:
    """Continuations by worst passage, one figure per decoding, on one axis."""
    points = [point for point in main_generated(found) if any(kind in point.kinds for kind in SEVERITY)]
    ends = _ends(found, [controls for point in points for controls in point.kinds.values()])
    if not ends:
        return []
    x = share_axis("share of continuations", ends)
    kinds = [KIND_WORDS[kind] for kind in SEVERITY]
    return [
        stacked_figure(
            [_bar(point, name) for name in columns_of(found)],
            x,
            kinds,
            heading=f"{point.decoding}, {point.prefix} tokens given",
            description="One bar per column, cut by the worst passage of each continuation; whisker: the interval of "
            "the whole bar. The numbers stand in the tables below.",
        )
        for point in points
    ]


def _bar(point: GeneratedPoint, name: str) -> StackedRow:
    whole = column_of(point.kinds["any"], name) if "any" in point.kinds else None
    if whole is None or whole.value is None:
        return StackedRow(COLUMN_WORDS[name], COLOURS[name], (), None, None, "not measured")
    each = [column_of(point.kinds[kind], name) if kind in point.kinds else None for kind in SEVERITY]
    parts = [0.0 if one is None else one.value or 0.0 for one in each]
    return StackedRow(COLUMN_WORDS[name], COLOURS[name], parts, whole.lower, whole.upper, share_words(whole.value))
