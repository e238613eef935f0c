"""By what an arm is known in every figure and table: a colour and a shape, never a colour alone."""

from __future__ import annotations

import math

N_COLOURS = 8
_N_SHAPES = 8


def arm_css(index: int) -> str:
    """CSS class that sets the colour of the arm at this position."""
    return f"arm-{index % N_COLOURS}"


def mark(index: int, x: float, y: float, radius: float) -> str:
    """The arm's shape as an SVG path, all of about the same area.

    The shape steps on where colours begin again, so that 64 arms differ.
    """
    shape = (index + index // N_COLOURS) % _N_SHAPES
    if shape == 0:
        r = round(radius, 2)
        return f"M{round(x - r, 2)},{round(y, 2)}a{r},{r} 0 1 0 {2 * r},0a{r},{r} 0 1 0 {-2 * r},0z"
    corners = _CORNERS[shape - 1]
    return "M" + "L".join(f"{round(x + radius * cx, 2)},{round(y + radius * cy, 2)}" for cx, cy in corners) + "z"


def swatch(index: int) -> str:
    """The arm's mark for the text of a page, which names the arm beside it."""
    return (
        f'<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true"><path class="mark {arm_css(index)}" '
        f'd="{mark(index, 8, 8, 5.5)}"/></svg>'
    )


def _polygon(n_corners: int, radius: float, turned: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * (k / n_corners + turned) for k in range(n_corners)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle in angles]


def _star(n_points: int, radius: float, inner: float) -> list[tuple[float, float]]:
    outer, between = _polygon(n_points, radius, 0), _polygon(n_points, inner, 0.5 / n_points)
    return [corner for pair in zip(outer, between, strict=True) for corner in pair]


_CROSS = [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)]
_PLUS = _CROSS + [(-x, -y) for x, y in _CROSS]
_TURN = math.sqrt(0.5)
_CORNERS = (
    _polygon(4, 1.25, 0.125),  # square
    _polygon(3, 1.45, 0),  # triangle
    _polygon(4, 1.35, 0),  # diamond
    _polygon(3, 1.45, 0.5),  # triangle, point down
    _PLUS,
    _star(5, 1.5, 0.65),
    [(_TURN * (x - y), _TURN * (x + y)) for x, y in _PLUS],
)
