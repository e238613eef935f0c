"""Shares of a whole by kind, in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.report.figures.canvas import Canvas
from loraudit.report.figures.labels import width_of
from loraudit.report.figures.marks import arm_css
from loraudit.report.figures.scales import Axis

_ROW = 34
_BAR = 0.56


@dataclass(frozen=True, slots=True)
class StackedRow:
    """One bar.

    Attributes:
        name: What the shares are of.
        index: Colour of the name.
        parts: One share per kind, the first at the left; none where nothing is known.
        lower: Lower end of the interval of their sum; None where there is none.
        upper: Upper end.
        words: The sum as it is written, or why there is none.
    """

    name: str
    index: int
    parts: Sequence[float]
    lower: float | None
    upper: float | None
    words: str


def stacked_figure(
    rows: Sequence[StackedRow], x: Axis, kinds: Sequence[str], *, heading: str, description: str, width: int = 560
) -> str:
    """Bars below each other, each cut by kind, with its sum and the interval of that.

    Args:
        rows: From top to bottom.
        x: The axis of shares, the same in figures that are compared.
        kinds: Names of the parts, from left to right.
        heading: Written above; also the title.
        description: How to read it.
        width: Of the whole figure.
    """
    left = round(max((width_of(row.name) for row in rows), default=0)) + 14
    right = round(max((width_of(row.words) for row in rows if row.parts), default=40)) + 8
    canvas = Canvas(width, 98 + _ROW * len(rows), heading, description, left=left, right=right, top=52, bottom=44)
    canvas.text(4, 15, heading, "label", "start")
    _key(canvas, kinds)
    for value, label in x.ticks:
        share = x.share(value)
        canvas.line([(share, 0), (share, 1)], "grid")
        canvas.text(canvas.x(share), canvas.y(0) + 16, label, "tick")
    for position, row in enumerate(rows):
        middle = 1 - (position + 0.5) / len(rows)
        half = _BAR / 2 / len(rows)
        height = canvas.y(middle)
        canvas.text(canvas.left - 8, height + 4.3, row.name, f"name {arm_css(row.index)}", "end")
        if not row.parts:
            canvas.text(canvas.left + 8, height + 4.3, row.words, "tick halo", "start")
            continue
        start = 0.0
        for kind, part in enumerate(row.parts):
            if part > 0:
                ends = (min(1.0, x.share(end)) for end in (start, start + part))
                canvas.rectangle(next(ends), middle - half, next(ends), middle + half, f"part kind-{kind}")
            start += part
        if row.lower is not None and row.upper is not None:
            low, high = (canvas.x(min(1.0, max(0.0, x.share(end)))) for end in (row.lower, row.upper))
            canvas.path(f"M{low},{height}H{high}M{low},{height - 4}v8M{high},{height - 4}v8", "whisker sum")
        canvas.text(canvas.width - 4, height + 4.3, row.words, "figure", "end")
    canvas.line([(0, 0), (0, 1)], "axis")
    canvas.text(canvas.x(0.5), canvas.height - 6, x.title, "label")
    return canvas.svg()


def _key(canvas: Canvas, kinds: Sequence[str]) -> None:
    x = 4.0
    for kind, name in enumerate(kinds):
        canvas.path(f"M{round(x, 2)},28h11v11h-11z", f"part kind-{kind}")
        canvas.text(x + 16, 38, name, "tick", "start")
        x += 16 + width_of(name) + 10
