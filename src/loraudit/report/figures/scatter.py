"""Two numbers of the same things against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraudit.report.figures.canvas import Canvas
from loraudit.report.figures.marks import arm_css, mark
from loraudit.report.figures.scales import Axis


@dataclass(frozen=True, slots=True)
class ScatterPoint:
    """One thing.

    Attributes:
        x: On the axis along the bottom.
        y: On the axis up the left side.
        index: Position of its arm, for colour and shape; None: a grey dot, of one among many.
    """

    x: float
    y: float
    index: int | None


def scatter_figure(points: Sequence[ScatterPoint], x: Axis, y: Axis, *, title: str, description: str) -> str:
    """A mark per thing; the dashed line is where both numbers are the same.

    Args:
        points: Grey dots lie below the others.
        x: Axis along the bottom.
        y: Axis up the left side; its title stands above it.
        title: What the figure shows.
        description: How to read it.
    """
    canvas = Canvas(400, 400, title, description, left=52, right=16, top=28, bottom=44)
    for value, label in y.ticks:
        share = y.share(value)
        canvas.line([(0, share), (1, share)], "grid")
        canvas.text(canvas.left - 7, canvas.y(share) + 4, label, "tick", "end")
    for value, label in x.ticks:
        share = x.share(value)
        canvas.line([(share, 0), (share, 1)], "grid")
        canvas.text(canvas.x(share), canvas.y(0) + 17, label, "tick")
    low, high = max(x.first, y.first), min(x.last, y.last)
    if low < high:
        canvas.line([(x.share(low), y.share(low)), (x.share(high), y.share(high))], "chance")
    canvas.line([(0, 0), (1, 0)], "axis")
    canvas.line([(0, 0), (0, 1)], "axis")
    canvas.text(canvas.x(0.5), canvas.height - 6, x.title, "label")
    canvas.text(4, 14, y.title, "label", "start")
    for point in sorted(points, key=lambda point: point.index is not None):
        place = canvas.x(x.share(point.x)), canvas.y(y.share(point.y))
        if point.index is None:
            canvas.path(mark(0, *place, 3.0), "mark other")
        else:
            canvas.path(mark(point.index, *place, 4.2), f"mark {arm_css(point.index)}")
    return canvas.svg()
