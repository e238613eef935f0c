"""Headline figures of many cells, put together by what they measure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loraudit.report.robustness.words import CHANGE_WORDS, MEASURE_WORDS, RATES
from loraudit.spec import CellKind, CellResult, StudyResult
from loraudit.types import Finding

Unit = Literal["share", "points", "change", "count", "number"]
METHOD = "method"
"""The dimension of a cell that compares methods within itself."""
_PLACE_OF_METHOD: Mapping[CellKind, int] = {"contrast": 1, "robustness": 1, "forecast": 1}
"""Where in the name of a headline figure the method stands."""
_WORDS = {
    "auc": "AUC",
    "validation_loss": "at the same validation loss",
    "training_loss": "at the same training loss",
    "best": "at each one's lowest validation loss",
    "members": "of members",
    "held_out": "of held-out records",
}
_TPR = re.compile(r"tpr_at_fpr_([0-9_]+)pct")
_EFFECTIVE = re.compile(r"ED([0-9.]+)")
_LOWER_IS_WORSE = frozenset({"accuracy", "f1"})


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of one cell.

    Attributes:
        cell: The cell.
        name: Of the figure.
        finding: The figure.
        places: Dimension → where the figure stands on it: axes of the grid, the method, settings in its name.
    """

    cell: CellResult
    name: str
    finding: Finding
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measure:
    """What one column of the study holds.

    Attributes:
        grid: Of all its cells.
        kind: Of all its cells.
        title: In words; no two of a grid have the same.
        unit: How it is written.
        is_lower_worse: Whether small numbers are the harm.
        points: In the order of the cells.
        dimensions: Those on which its points differ, without ones that say the same as an earlier one.
    """

    grid: str
    kind: CellKind
    title: str
    unit: Unit
    is_lower_worse: bool
    points: Sequence[Point]
    dimensions: Sequence[str]


def measures_of(result: StudyResult) -> list[Measure]:
    """All of a study, in the order of its grids and of the figures in a cell."""
    cells = {cell.id: cell for cell in result.cells}
    grouped: dict[tuple[str, CellKind, str], list[Point]] = {}
    for one in result.headlines:
        cell = cells.get(one.cell)
        if cell is not None:
            pattern, places = _read(cell, one.name)
            grouped.setdefault((cell.grid, cell.kind, pattern), []).append(Point(cell, one.name, one.finding, places))
    order = list(dict.fromkeys(cell.grid for cell in result.cells))
    found: list[Measure] = []
    taken: set[tuple[str, str]] = set()
    for (grid, kind, pattern), points in sorted(grouped.items(), key=lambda group: order.index(group[0][0])):
        title = measure_words(kind, points, _dimensions(points))
        if (grid, title) in taken:
            title = f"{title} ({pattern})"
        taken.add((grid, title))
        found.append(
            Measure(
                grid, kind, title, unit_of(points[0].name), _is_lower_worse(points[0].name), points, _dimensions(points)
            )
        )
    return found


def _read(cell: CellResult, name: str) -> tuple[str, dict[str, str]]:
    """What of a name is the same in all cells, and where on the dimensions of the grid it places the figure."""
    places = dict(cell.labels)
    pattern: list[str] = []
    axis_of = {label: axis for axis, label in reversed(cell.labels.items())}
    for position, part in enumerate(parts_of(name)):
        key, is_setting, value = part.partition("=")
        if position == _PLACE_OF_METHOD.get(cell.kind):
            places.setdefault(METHOD, part)
            pattern.append("*")
        elif is_setting and key.isidentifier():
            places.setdefault(key, value)
            pattern.append(f"{key}=*")
        elif part in axis_of and unit_of(part) == "number" and part not in _WORDS:
            pattern.append(f"{{{axis_of[part]}}}")
        else:
            pattern.append(part)
    return "/".join(pattern), places


def parts_of(name: str) -> list[str]:
    """The parts of a figure's name, with slashes of their own put back.

    >>> parts_of("membership/a%2Fb/auc")
    ['membership', 'a/b', 'auc']
    """
    return [part.replace("%2F", "/").replace("%25", "%") for part in name.split("/")]


def _dimensions(points: Sequence[Point]) -> list[str]:
    kept: list[str] = []
    partitions: list[list[int]] = []
    for dimension in dict.fromkeys(name for point in points for name in point.places):
        values = [point.places.get(dimension, "") for point in points]
        order = list(dict.fromkeys(values))
        partition = [order.index(value) for value in values]
        if len(order) > 1 and partition not in partitions:
            kept.append(dimension)
            partitions.append(partition)
    return kept


def unit_of(name: str) -> Unit:
    """How the figure of this name is written.

    >>> unit_of("membership/loss/tpr_at_fpr_1pct"), unit_of("membership/loss/auc")
    ('share', 'number')
    """
    parts = parts_of(name)
    is_rate = any(part in RATES or _TPR.fullmatch(part) for part in parts)
    is_rate = is_rate or (parts[0] == "memorization" and len(parts) > 1 and parts[1] in {"greedy", "sampled"})
    if parts[-1] == "excess":
        return "points" if is_rate else "change"
    if any(_EFFECTIVE.fullmatch(part) for part in parts):
        return "count"
    return "share" if is_rate else "number"


def _is_lower_worse(name: str) -> bool:
    parts = parts_of(name)
    is_utility = bool(_LOWER_IS_WORSE.intersection(parts)) and parts[-1] != "excess"
    return is_utility or unit_of(name) == "count"


def measure_words(kind: CellKind, points: Sequence[Point], dimensions: Sequence[str]) -> str:
    """What is measured, without what differs between the points.

    Args:
        kind: Of the cells.
        points: All of the measure.
        dimensions: Those on which they differ.
    """
    point = points[0]
    parts = parts_of(point.name)
    varying = {point.places[name] for name in dimensions if name in point.places}
    differing = _differing(points)
    named = [
        part
        for position, part in enumerate(parts)
        if not (position == _PLACE_OF_METHOD.get(kind) and METHOD in differing)
        and not (part in varying and part not in _WORDS and unit_of(part) == "number")
        and not ("=" in part and part.partition("=")[0] in differing)
    ]
    return _worded(kind, named)


def _differing(points: Sequence[Point]) -> set[str]:
    names = {name for point in points for name in point.places}
    return {name for name in names if len({point.places.get(name) for point in points}) > 1}


def _worded(kind: CellKind, named: Sequence[str]) -> str:
    """What is measured, then of what, then at which fit.

    >>> _worded("audit", ["membership", "loss", "tpr_at_fpr_0_1pct"])
    'TPR at 0.1 % FPR: loss'
    """
    rest = [part for part in named if part not in {"membership", "memorization", "predicted", "greedy", "excess"}]
    what, change = "", ""
    for part in tuple(rest):
        rate, effective = _TPR.fullmatch(part), _EFFECTIVE.fullmatch(part)
        if rate or effective or part == "auc" or part in MEASURE_WORDS:
            rest.remove(part)
        if rate:
            what = f"TPR at {rate[1].replace('_', '.')} % FPR"
        elif effective:
            what = f"ED{effective[1]}, exposures"
        elif part == "auc":
            what = "AUC"
        elif part in MEASURE_WORDS:
            change = CHANGE_WORDS[part]
            what = MEASURE_WORDS[part]
    if named[-1] == "excess" and what:
        what = change if change.startswith(("accuracy", "macro", "loss")) else f"{what} {change}"
    if "greedy" in named:
        what = "said word for word"
    what = f"predicted {what}" if kind == "forecast" and what else what
    shown = [_WORDS.get(part, part.replace("=", " ")) for part in rest]
    shown = [*(one for one in shown if not one.startswith("at ")), *(one for one in shown if one.startswith("at "))]
    return ": ".join(part for part in (_capital(what), ", ".join(shown)) if part)


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"
