"""Lines of several arms over one axis: curves of training, exposures, risk against utility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loraudit.report.figures.canvas import Canvas
from loraudit.report.figures.clipping import clipped
from loraudit.report.figures.labels import Box, Point, Spot, place, place_along, shortened, spread, width_of
from loraudit.report.figures.marks import arm_css, mark
from loraudit.report.figures.scales import Axis

_MOST_MARKS = 12
_LABEL_GAP = 15.0
_DODGE = 3.0
_SMALL = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A point with its interval on the y axis.

    Attributes:
        x: On the x axis.
        y: On the y axis.
        lower: Lower end; None where there is no interval.
        upper: Upper end.
    """

    x: float
    y: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One arm.

    Attributes:
        name: As a person gave it.
        index: Position among the arms: colour and shape.
        mean: Points of the main line, in order.
        runs: Thin lines behind it.
        stated: Large marks with their intervals.
        rings: Hollow marks.
        is_dodged: It is moved a little to one side, so that intervals at the same x stand beside each other.
        band: Points whose intervals are filled from one to the next.
    """

    name: str
    index: int
    mean: Sequence[Point]
    runs: Sequence[Sequence[Point]] = ()
    stated: Sequence[Measured] = ()
    rings: Sequence[Point] = ()
    is_dodged: bool = False
    band: Sequence[Measured] = ()


@dataclass(frozen=True, slots=True)
class Guide:
    """A straight line across the figure.

    Attributes:
        value: Where.
        words: Written beside it.
        is_upright: At an x instead of at a y.
    """

    value: float
    words: str
    is_upright: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """How large, and where names go.

    Attributes:
        width: Of the whole figure.
        height: Likewise.
        are_names_right: In a column on the right instead of near the end of each line.
        most_letters: Longer names are cut.
    """

    width: int
    height: int
    are_names_right: bool = False
    most_letters: int = 22


@dataclass
class _Drawing:
    canvas: Canvas
    x: Axis
    y: Axis
    drawn: list[list[Point]] = field(default_factory=list[list[Point]])
    marked: list[Point] = field(default_factory=list[Point])

    def at(self, x: float, y: float) -> Point:
        return self.canvas.x(self.x.share(x)), self.canvas.y(self.y.share(y))

    def is_inside(self, x: float, y: float) -> bool:
        return all(-1e-6 <= axis.share(value) <= 1 + 1e-6 for axis, value in ((self.x, x), (self.y, y)))

    def curve(self, points: Sequence[Point], css: str, shift: float = 0.0) -> list[list[Point]]:
        """The parts of a line that lie inside, in pixels."""
        moved = shift / (self.canvas.x(1) - self.canvas.x(0))
        shares = [(self.x.share(x) + moved, self.y.share(y)) for x, y in points]
        parts = clipped(shares)
        for part in parts:
            self.canvas.line(part, css)
        pixels = [[(self.canvas.x(x), self.canvas.y(y)) for x, y in part] for part in parts]
        self.drawn += pixels
        return pixels

    def mark(self, line: Line, point: Point, radius: float, css: str, shift: float = 0.0) -> None:
        if self.is_inside(*point):
            x, y = self.at(*point)
            x = round(x + shift, 2)
            self.canvas.path(mark(line.index, x, y, radius), f"mark {css} {arm_css(line.index)}".replace("  ", " "))
            if radius > _SMALL:
                self.marked.append((x, y))

    def band(self, line: Line) -> None:
        ends = [(self.x.share(p.x), p.lower, p.upper) for p in line.band if p.lower is not None and p.upper is not None]
        if len(ends) < 2:
            return
        there = [(x, self.y.share(upper)) for x, _, upper in ends]
        back = [(x, self.y.share(lower)) for x, lower, _ in reversed(ends)]
        inside = [(min(1.0, max(0.0, x)), min(1.0, max(0.0, y))) for x, y in there + back]
        corners = "L".join(f"{self.canvas.x(x)},{self.canvas.y(y)}" for x, y in inside)
        self.canvas.path(f"M{corners}z", f"band {arm_css(line.index)}")

    def whisker(self, line: Line, point: Measured, shift: float) -> None:
        if not self.is_inside(point.x, point.y):
            return
        x, y = self.at(point.x, point.y)
        x = round(x + shift, 2)
        if point.lower is not None and point.upper is not None:
            low, high = (self.canvas.y(min(1.0, max(0.0, self.y.share(end)))) for end in (point.lower, point.upper))
            # An end beyond the axis is an arrow, so that nobody takes the frame for the end of the interval.
            ends = [
                f"M{x - 3},{at}h6" if self.y.holds(end) else f"M{x - 3},{at + away}l3,{-away}l3,{away}"
                for end, at, away in ((point.lower, low, -4), (point.upper, high, 4))
            ]
            self.canvas.path(f"M{x},{low}V{high}{''.join(ends)}", f"whisker {arm_css(line.index)}")
            self.drawn.append([(x, low), (x, high)])
        self.canvas.path(mark(line.index, x, y, 4.6), f"mark {arm_css(line.index)}")
        self.marked.append((x, y))


def line_figure(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    look: Look,
    *,
    title: str,
    description: str,
    guides: Sequence[Guide] = (),
    origin: tuple[str, Point] | None = None,
) -> str:
    """Lines of arms, each named where it ends.

    Args:
        lines: Drawn in order, the first on top.
        x: Axis along the bottom.
        y: Axis up the left side; its title stands above it.
        look: Size, and where names go.
        title: What the figure shows.
        description: How to read it.
        guides: Dashed lines.
        origin: A point that all lines share, with its name.
    """
    names = [shortened(line.name, look.most_letters) for line in lines]
    right_names = [*names, *(guide.words for guide in guides if not guide.is_upright)]
    room = round(max(map(width_of, right_names), default=0)) + 22 if look.are_names_right else 16
    has_top = any(guide.is_upright for guide in guides)
    canvas = Canvas(
        look.width, look.height, title, description, left=46, right=room, top=44 if has_top else 28, bottom=44
    )
    drawing = _Drawing(canvas, x, y)
    beside = [guide for guide in guides if look.are_names_right and not guide.is_upright]
    _grid(drawing, guides)
    for line in reversed(lines):
        drawing.band(line)
        for run in line.runs:
            drawing.curve(run, f"seed {arm_css(line.index)}")
    shifts = [_DODGE * (k - (len(lines) - 1) / 2) if line.is_dodged else 0.0 for k, line in enumerate(lines)]
    ends: dict[int, Point] = {}
    for line, shift in reversed(list(zip(lines, shifts, strict=True))):
        end = _mean(drawing, line, shift)
        if end is not None:
            ends[line.index] = end
    for line, shift in reversed(list(zip(lines, shifts, strict=True))):
        for point in line.stated:
            drawing.whisker(line, point, shift)
        for point in line.rings:
            drawing.mark(line, point, 4.4, "hollow", shift)
    if origin is not None and drawing.is_inside(*origin[1]):
        px, py = drawing.at(*origin[1])
        canvas.path(f"M{px - 4},{py}a4,4 0 1 0 8,0a4,4 0 1 0 -8,0z", "origin")
        drawing.marked.append((px, py))
    for guide in guides:
        if not guide.is_upright and guide not in beside:
            _name_guide(drawing, guide)
    named = [(name, ends[line.index], line) for name, line in zip(names, lines, strict=True) if line.index in ends]
    if look.are_names_right:
        _names_right(drawing, named, beside)
    else:
        _names_near(drawing, named, origin)
    return canvas.svg()


def _grid(drawing: _Drawing, guides: Sequence[Guide]) -> None:
    canvas = drawing.canvas
    for value, label in drawing.y.ticks:
        share = drawing.y.share(value)
        canvas.line([(0, share), (1, share)], "grid")
        canvas.text(canvas.left - 7, canvas.y(share) + 4, label, "tick", "end")
    for value, label in drawing.x.ticks:
        place_ = canvas.x(drawing.x.share(value))
        canvas.path(f"M{place_},{canvas.y(0)}v4", "axis")
        canvas.text(place_, canvas.y(0) + 17, label, "tick")
    for guide in guides:
        share = (drawing.x if guide.is_upright else drawing.y).share(guide.value)
        if not 0 <= share <= 1:
            continue
        if guide.is_upright:
            canvas.line([(share, 0), (share, 1)], "chance")
            drawing.drawn.append([(canvas.x(share), canvas.y(0)), (canvas.x(share), canvas.y(1))])
            half = width_of(guide.words) / 2 * 0.86
            middle = min(max(canvas.x(share), canvas.left + half), canvas.width - 4 - half)
            canvas.text(middle, canvas.top - 6, guide.words, "tick")
        else:
            canvas.line([(0, share), (1, share)], "chance")
    canvas.line([(0, 0), (1, 0)], "axis")
    half = width_of(drawing.x.title) / 2
    middle = max(min(canvas.x(0.5), canvas.width - half - 2), half + 2)
    canvas.text(middle, canvas.height - 6, drawing.x.title, "label")
    canvas.text(4, 14, drawing.y.title, "label", "start")


def _name_guide(drawing: _Drawing, guide: Guide) -> None:
    """Writes the words of a level line where nothing that was drawn runs through them; names then keep off them."""
    canvas, share = drawing.canvas, drawing.y.share(guide.value)
    if not 0 <= share <= 1:
        return
    frame = Box(canvas.left + 3, canvas.top, canvas.x(1), canvas.y(0) - 2)
    spot = place_along(guide.words, canvas.y(share), drawing.drawn, drawing.marked, frame)
    canvas.text(spot.x, spot.y, guide.words, "tick halo", "end")
    middle, n = (spot.box.top + spot.box.bottom) / 2, max(2, len(guide.words) // 2)
    drawing.marked += [(spot.box.left + k * (spot.box.right - spot.box.left) / (n - 1), middle) for k in range(n)]


def _mean(drawing: _Drawing, line: Line, shift: float) -> Point | None:
    """Draws the main line with its marks; where it ends, in pixels."""
    parts = drawing.curve(line.mean, f"mean {arm_css(line.index)}", shift) if line.mean else []
    every = max(1, -(-len(line.mean) // _MOST_MARKS))
    for point in () if line.is_dodged else line.mean[:0:-every]:  # from the end, so that the last has its mark
        drawing.mark(line, point, 2.7, "small")
    if parts:
        return parts[-1][-1]
    inside = [p for run in line.runs for p in run if drawing.is_inside(*p)]
    return drawing.at(*inside[-1]) if inside else None


def _names_right(drawing: _Drawing, named: Sequence[tuple[str, Point, Line]], guides: Sequence[Guide]) -> None:
    canvas = drawing.canvas
    edge = canvas.x(1)
    labels = [(name, end, f"name {arm_css(line.index)}") for name, end, line in named]
    labels += [(guide.words, (edge, canvas.y(drawing.y.share(guide.value))), "tick") for guide in guides]
    heights = spread([end[1] for _, end, _ in labels], _LABEL_GAP, canvas.top, canvas.y(0) + 6)
    for (name, end, css), height in zip(labels, heights, strict=True):
        start = edge + 8
        if css != "tick" and (abs(height - end[1]) > 3 or end[0] < edge - 40):
            canvas.path(f"M{end[0] + 5},{end[1]}L{start},{round(height, 2)}h4", css.replace("name", "leader"))
            start += 6
        canvas.text(start, height + 4.3, name, css, "start")


def _names_near(drawing: _Drawing, named: Sequence[tuple[str, Point, Line]], origin: tuple[str, Point] | None) -> None:
    canvas = drawing.canvas
    frame = Box(canvas.left + 3, canvas.top, canvas.width - 4, canvas.y(0) - 2)
    wanted = [(name, end) for name, end, _ in named]
    if origin is not None and drawing.is_inside(*origin[1]):
        wanted.append((origin[0], drawing.at(*origin[1])))
    css = [f"name {arm_css(line.index)}" for *_, line in named] + ["name base"]
    for (name, _), spot, one in zip(wanted, place(wanted, drawing.drawn, drawing.marked, frame), css, strict=False):
        _write(canvas, name, spot, one)


def _write(canvas: Canvas, name: str, spot: Spot, css: str) -> None:
    if spot.leader is not None:
        (x0, y0), (x1, y1) = spot.leader
        canvas.path(f"M{round(x0, 2)},{round(y0, 2)}L{round(x1, 2)},{round(y1, 2)}", css.replace("name", "leader"))
    canvas.text(spot.x, spot.y, name, css, spot.anchor)
