"""How far ahead of its workers an engine goes. `benchmarks/scheduling.py` shows what these numbers cost and spare."""

from __future__ import annotations

UNIT_IN_HAND_SECONDS = 0.05
"""A worker is given its next unit before it has finished one only where units are shorter than this. The way to a
worker and back takes it about a millisecond (2 % of this); a unit that waits behind a long one is kept from others."""

MOST_IN_HAND = 4
"""Units of one worker, the one that it carries out included."""

WINDOW_PER_WORKER = 256
LEAST_WINDOW = 4096
MOST_WINDOW = 65_536
"""Outcomes that may wait for an earlier unit. One unit holds up the others only when it takes as long as this many
of them; the outcomes that wait, about a kilobyte each, stay below 64 MB."""

STILLBIRTHS = 3
"""Workers beyond one of each that may end before their first unit, one after another, until it is no accident."""


def n_in_hand(mean_seconds: float | None) -> int:
    """Units that a worker may have, given how long one takes; None where none has finished."""
    if mean_seconds is None:
        return 1
    return int(min(MOST_IN_HAND, 1 + UNIT_IN_HAND_SECONDS // max(mean_seconds, 1e-9)))


def window(n_workers: int) -> int:
    """Units that may have been begun beyond the first one that is not finished."""
    return min(max(LEAST_WINDOW, WINDOW_PER_WORKER * n_workers), MOST_WINDOW)
