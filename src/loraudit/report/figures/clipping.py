"""Lines cut at the frame of a figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from loraudit.report.figures.labels import Point


def clipped(points: Sequence[Point]) -> list[list[Point]]:
    """The parts of a line inside the unit square.

    >>> clipped([(-1.0, 0.0), (1.0, 1.0)])
    [[(0.0, 0.5), (1.0, 1.0)]]
    """
    parts: list[list[Point]] = [[points[0]]] if len(points) == 1 and _is_in_square(points[0]) else []
    for start, end in itertools.pairwise(points):
        low, high = 0.0, 1.0
        for a, b in zip(start, end, strict=True):
            if a == b:
                low = low if -1e-9 <= a <= 1 + 1e-9 else 2.0
                continue
            first, second = sorted(((0 - a) / (b - a), (1 - a) / (b - a)))
            low, high = max(low, first), min(high, second)
        if low > high:
            continue
        piece = [_between(start, end, low), _between(start, end, high)]
        if parts and low == 0.0 and parts[-1][-1] == piece[0]:
            parts[-1].append(piece[1])
        else:
            parts.append(piece)
    return parts


def _is_in_square(point: Point) -> bool:
    return all(-1e-9 <= value <= 1 + 1e-9 for value in point)


def _between(start: Point, end: Point, share: float) -> Point:
    if share in {0.0, 1.0}:
        return end if share else start
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
