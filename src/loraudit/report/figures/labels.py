"""Names beside what they name, without covering each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loraudit.errors import visible
from loraudit.types import FloatArray

FONT_SIZE = 12
_WIDTH_OF_A_LETTER = 0.66 * FONT_SIZE
_HEIGHT = FONT_SIZE + 3
_DISTANCES = (9.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0, 100.0, 120.0, 142.0)
_N_DIRECTIONS = 16
_N_SWEEPS = 4
_FAR = 14.0
_STEP_ALONG = 8.0
_LETTER_HEIGHT = 9.0
_COVERED_NAME = 10_000.0  # worse than anything else a name can be in the way of

Point = tuple[float, float]


class Box(NamedTuple):
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def count(self, points: FloatArray) -> int:
        """How many of [P, 2] points lie inside."""
        x, y = points[:, 0], points[:, 1]
        return int(((self.left <= x) & (x <= self.right) & (self.top <= y) & (y <= self.bottom)).sum())

    def nearest(self, point: Point) -> Point:
        """The point of the rectangle that is nearest to this one."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.top), self.bottom)

    def is_inside(self, other: Box) -> bool:
        """Whether the other covers it whole."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )

    def grown(self, across: float, along: float) -> Box:
        """With so much more on each side."""
        return Box(self.left - across, self.top - along, self.right + across, self.bottom + along)

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


class Spot(NamedTuple):
    """Where a name is written.

    Attributes:
        x: Where the text is anchored.
        y: Its base line.
        anchor: start, middle or end, as SVG means it.
        box: What it covers.
        leader: Ends of a line to what it names, where that is far.
    """

    x: float
    y: float
    anchor: str
    box: Box
    leader: tuple[Point, Point] | None


def shortened(name: str, n_letters: int) -> str:
    """A name of at most so many letters, control characters shown.

    >>> shortened("lora:rank=8,dora=true", 12)
    'lora:rank=8…'
    """
    shown = " ".join(visible(name).split())
    return shown if len(shown) <= n_letters else shown[: n_letters - 1] + "…"


def width_of(words: str) -> float:
    """Pixels the words take at most, in the widest of the usual fonts."""
    return _WIDTH_OF_A_LETTER * len(words)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near as can be to those wanted, at least `gap` apart and in [low, high] if there is room.

    Neighbours that are too near are moved apart about their mean, as in isotonic regression.

    >>> spread([10, 12, 50], 10, 0, 100)
    [6.0, 16.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    clusters: list[tuple[list[int], float]] = []  # members in order, place of the first

    def start(members: Sequence[int]) -> float:
        mean = sum(wanted[i] - gap * k for k, i in enumerate(members)) / len(members)
        return max(low, min(mean, high - gap * (len(members) - 1)))

    for i in order:
        clusters.append(([i], start([i])))
        while len(clusters) > 1 and clusters[-1][1] < clusters[-2][1] + gap * len(clusters[-2][0]):
            last = clusters.pop()
            members = clusters.pop()[0] + last[0]
            clusters.append((members, start(members)))
    places = [0.0] * len(wanted)
    for members, first in clusters:
        for k, i in enumerate(members):
            places[i] = float(first + gap * k)
    return places


def place(
    names: Sequence[tuple[str, Point]], lines: Sequence[Sequence[Point]], marks: Sequence[Point], frame: Box
) -> list[Spot]:
    """A spot for each name near its point, clear of lines, marks and other names as far as that can be.

    Args:
        names: Words with the point they name.
        lines: Drawn lines; those of a name count like any other.
        marks: Middles of drawn marks.
        frame: What names must not leave.
    """
    in_the_way, marked = _along(lines), np.array(marks, dtype=float).reshape(-1, 2)
    options = [_options(words, point, frame) for words, point in names]
    costs = [
        [_cost(spot, point, in_the_way, marked) for spot in spots]
        for spots, (_, point) in zip(options, names, strict=True)
    ]
    chosen = [min(range(len(own)), key=own.__getitem__) for own in costs]
    for _ in range(_N_SWEEPS):
        for i, spots in enumerate(options):
            others = [options[j][chosen[j]].box for j in range(len(names)) if j != i]

            def price(k: int, i: int = i, spots: list[Spot] = spots, others: list[Box] = others) -> float:
                shared = sum(spots[k].box.overlap(other) for other in others)
                return costs[i][k] + (_COVERED_NAME + shared if shared else 0)

            chosen[i] = min(range(len(spots)), key=price)
    return [spots[k] for spots, k in zip(options, chosen, strict=True)]


def place_along(
    words: str, height: float, lines: Sequence[Sequence[Point]], marks: Sequence[Point], frame: Box
) -> Spot:
    """A spot just above or below a level line, as far right as lines and marks leave it clear.

    Args:
        words: What names the level line.
        height: Of the level line, which counts as no line.
        lines: Drawn lines.
        marks: Middles of drawn marks.
        frame: What the words must not leave.
    """
    in_the_way, marked = _along(lines), np.array(marks, dtype=float).reshape(-1, 2)
    width = width_of(words)
    n_steps = max(0, int((frame.right - width - frame.left) // _STEP_ALONG))
    options: list[Spot] = []
    for step in range(n_steps + 1):
        right = frame.right - step * _STEP_ALONG
        for base in (height - 5, height + 4 + _LETTER_HEIGHT):
            box = Box(right - width, base - _LETTER_HEIGHT, right, base + 2)
            options.append(Spot(right, base, "end", box, None))

    def cost(spot: Spot) -> float:
        covered = 4 * spot.box.grown(2, 1).count(in_the_way) + 40 * spot.box.grown(7, 6).count(marked)
        return covered + 0.01 * (frame.right - spot.x) + (0 if spot.box.is_inside(frame) else 1000)

    return min(options, key=cost)


def _along(lines: Sequence[Sequence[Point]]) -> FloatArray:
    """[P, 2] points every few pixels along lines."""
    found: list[Point] = []
    for line in lines:
        for (x0, y0), (x1, y1) in itertools.pairwise(line):
            n = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / 4))
            found += [(x0 + (x1 - x0) * k / n, y0 + (y1 - y0) * k / n) for k in range(n + 1)]
    return np.array(found, dtype=float).reshape(-1, 2)


def _options(words: str, point: Point, frame: Box) -> list[Spot]:
    """Spots around a point, nearest first; at least one."""
    inside: list[Spot] = []
    for distance in _DISTANCES:
        for k in range(_N_DIRECTIONS):
            spot = _spot(words, point, distance, 2 * math.pi * k / _N_DIRECTIONS)
            if spot.box.is_inside(frame):
                inside.append(spot)
    return inside or [_spot(words, point, _DISTANCES[0], 0.0)]


def _spot(words: str, point: Point, distance: float, angle: float) -> Spot:
    across, up = math.cos(angle), math.sin(angle)
    x, middle = point[0] + distance * across, point[1] - distance * up
    width = width_of(words)
    anchor = "start" if across > 0.3 else "end" if across < -0.3 else "middle"
    left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
    middle -= up * (_HEIGHT / 2 if anchor == "middle" else 0)
    box = Box(left, middle - _HEIGHT / 2, left + width, middle + _HEIGHT / 2)
    nearest = box.nearest(point)
    is_far = math.dist(point, nearest) > _FAR
    return Spot(x, middle + 0.36 * FONT_SIZE, anchor, box, (point, nearest) if is_far else None)


def _cost(spot: Spot, point: Point, in_the_way: FloatArray, marks: FloatArray) -> float:
    covered = 4 * spot.box.grown(2, 1).count(in_the_way) + 40 * spot.box.grown(7, 6).count(marks)
    side = {"start": 0.0, "middle": 3.0, "end": 5.0}[spot.anchor]
    crossed = 0 if spot.leader is None else _near_leader(spot.leader, marks)
    near = 1.5 * math.dist(point, spot.box.nearest(point)) + 0.3 * abs(spot.y - point[1])
    return covered + 60 * crossed + near + side


def _near_leader(leader: tuple[Point, Point], marks: FloatArray) -> int:
    """How many marks a leader runs over, but for the one it starts from."""
    start, end = np.array(leader[0]), np.array(leader[1])
    along = end - start
    shares = np.clip((marks - start) @ along / max(float(along @ along), 1e-9), 0, 1)
    gaps = np.hypot(*(marks - start - shares[:, None] * along).T)
    return int(((gaps < 7) & (np.hypot(*(marks - start).T) > 7)).sum())
