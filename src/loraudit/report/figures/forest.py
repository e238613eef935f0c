"""One number per arm with its interval, in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.report.figures.canvas import Canvas
from loraudit.report.figures.labels import shortened, width_of
from loraudit.report.figures.marks import arm_css, mark
from loraudit.report.figures.scales import Axis

_ROW = 25
_MOST_LETTERS = 14


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One arm.

    Attributes:
        name: As a person gave it.
        index: Position among the arms: colour and shape.
        value: None where there is no number.
        lower: Lower end of the interval; None where there is no interval.
        upper: Upper end; None where the interval is open, or where there is none.
        words: The number as it is written, or why there is none.
    """

    name: str
    index: int
    value: float | None
    lower: float | None
    upper: float | None
    words: str


def forest_figure(
    rows: Sequence[ForestRow],
    x: Axis,
    *,
    heading: str,
    chance: float | None,
    description: str,
    width: int = 370,
    most_letters: int = _MOST_LETTERS,
    has_heading: bool = True,
) -> str:
    """Arms below each other, each with its mark, interval and number.

    Args:
        rows: From top to bottom.
        x: The number's axis, the same in figures that are compared.
        heading: Written above; also the title for those who cannot see the figure.
        chance: Where a dashed line stands for guessing; None where there is no such number.
        description: How to read it.
        width: Of the whole figure.
        most_letters: Longer names are cut.
        has_heading: The heading is drawn; not where words beside the figure say the same.
    """
    names = [shortened(row.name, most_letters) for row in rows]
    left = round(max(map(width_of, names), default=0)) + 14
    top = 30 if has_heading else 8
    height = top + _ROW * len(rows) + 44
    canvas = Canvas(width, height, heading, description, left=max(46, left), right=56, top=top, bottom=44)
    if has_heading:
        canvas.text(4, 15, heading, "label", "start")
    for value, label in x.ticks:
        share = x.share(value)
        canvas.line([(share, 0), (share, 1)], "grid")
        canvas.text(canvas.x(share), canvas.y(0) + 16, label, "tick")
    if chance is not None and 0 <= x.share(chance) <= 1:
        canvas.line([(x.share(chance), 0), (x.share(chance), 1)], "chance")
    canvas.line([(0, 0), (1, 0)], "axis")
    canvas.text(canvas.x(0.5), canvas.height - 6, x.title, "label")
    for position, (name, row) in enumerate(zip(names, rows, strict=True)):
        height = canvas.y(1 - (position + 0.5) / len(rows))
        css = arm_css(row.index)
        canvas.text(canvas.left - 10, height + 4.3, name, f"name {css}", "end")
        if row.value is None:
            canvas.text(canvas.left + 8, height + 4.3, row.words, "tick halo", "start")
            continue
        place = canvas.x(min(1.0, max(0.0, x.share(row.value))))
        if row.lower is not None:
            shares = x.share(row.lower), 1.0 if row.upper is None else x.share(row.upper)
            low, high = (canvas.x(min(1.0, max(0.0, share))) for share in shares)
            end = f"M{high - 4},{height - 3}l4,3l-4,3" if row.upper is None else f"M{high},{height - 3}v6"
            canvas.path(f"M{low},{height}H{high}M{low},{height - 3}v6{end}", f"whisker {css}")
        canvas.path(mark(row.index, place, height, 4.6), f"mark {css}")
        canvas.text(canvas.width - 4, height + 4.3, row.words, "figure", "end")
    return canvas.svg()
