"""Where figures are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape as escape_markup

from loraudit.errors import visible


def escape(words: str) -> str:
    """Text for SVG: markup escaped, control characters shown as their code."""
    return escape_markup(visible(words))


def percent_tick(share: float) -> str:
    """A share as an axis label."""
    return f"{100 * share:.3g} %"


@dataclass
class Canvas:
    """One SVG with a plotting area, whose sides are the unit square.

    Attributes:
        width: Of the whole, in units of 1 px where it is shown at its own size.
        height: Likewise.
        title: What it shows.
        description: How to read it.
        left: Room left of the plotting area.
        right: Right of it.
        top: Above it.
        bottom: Below it.
        parts: Markup drawn so far.
    """

    width: int
    height: int
    title: str
    description: str
    left: int = 52
    right: int = 24
    top: int = 12
    bottom: int = 42
    parts: list[str] = field(default_factory=list[str])

    def x(self, share: float) -> float:
        """Where this share of the plotting area's width lies."""
        return round(self.left + share * (self.width - self.left - self.right), 2)

    def y(self, share: float) -> float:
        """Where this share of the plotting area's height lies; 0 is its bottom."""
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 2)

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """A line through points of the unit square."""
        path = " ".join(f"{self.x(px)},{self.y(py)}" for px, py in points)
        self.parts.append(f'<polyline class="{css}" points="{path}"/>')

    def path(self, drawn: str, css: str) -> None:
        """Any shape, as SVG writes it, in pixels."""
        self.parts.append(f'<path class="{css}" d="{drawn}"/>')

    def text(self, x: float, y: float, words: str, css: str, anchor: str = "middle", extra: str = "") -> None:
        """Words at a pixel."""
        self.parts.append(
            f'<text class="{css}" x="{round(x, 2)}" y="{round(y, 2)}" text-anchor="{anchor}"{extra}>'
            f"{escape(words)}</text>"
        )

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, css: str) -> None:
        """Between two corners in the unit square."""
        left, right, top, bottom = self.x(x0), self.x(x1), self.y(y1), self.y(y0)
        self.parts.append(
            f'<rect class="{css}" x="{left}" y="{top}" width="{max(0, round(right - left, 2))}" '
            f'height="{max(0, round(bottom - top, 2))}"/>'
        )

    def axes(self, x_title: str, y_title: str) -> None:
        """Both axes with their titles."""
        self.line([(0, 0), (1, 0)], "axis")
        self.line([(0, 0), (0, 1)], "axis")
        self.text(self.x(0.5), self.height - 6, x_title, "label")
        middle = self.y(0.5)
        self.text(13, middle, y_title, "label", extra=f' transform="rotate(-90 13 {middle})"')

    def svg(self) -> str:
        """The whole figure."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}">'
            f"<title>{escape(self.title)}</title><desc>{escape(self.description)}</desc>{''.join(self.parts)}</svg>"
        )
