"""How far ahead of its workers an engine goes. `benchmarks/scheduling.py` shows what these numbers cost and spare."""

from __future__ import annotations

UNIT_IN_HAND_SECONDS = 0.05
"""A worker is given its next unit before it has finished one only where units are shorter than this. The way to a
worker and back takes it about a millisecond (2 % of this); a unit that waits behind a long one is kept from others."""

MOST_IN_HAND = 4
"""Units of one worker, the one that it carries out included."""

MOST_WAITING_BYTES = 256 * 2**20
"""Of outcomes that wait for an earlier unit. While that one takes its time the others go on, a million small outcomes
far; a bound on their number alone would make a thousand workers wait for every long unit among a million."""

BYTES_OF_AN_ENTRY = 256
"""Memory that an outcome takes beside its content."""

LEAST_AHEAD = 16
"""Units of each worker that are read ahead of the first unfinished one however large their outcomes are."""

STILLBIRTHS = 3
"""Workers beyond one of each that may end before their first unit, one after another, until it is no accident."""


def n_in_hand(mean_seconds: float | None) -> int:
    """Units that a worker may have, given how long one takes; None where none has finished."""
    if mean_seconds is None:
        return 1
    return int(min(MOST_IN_HAND, 1 + UNIT_IN_HAND_SECONDS // max(mean_seconds, 1e-9)))


def may_read(n_ahead: int, n_waiting_bytes: int, n_workers: int) -> bool:
    """Whether another unit may be read.

    Args:
        n_ahead: Units read beyond the first one that is not handed over.
        n_waiting_bytes: Of the outcomes among them.
        n_workers: To have at most.
    """
    return n_ahead < LEAST_AHEAD * n_workers or n_waiting_bytes < MOST_WAITING_BYTES


def bytes_of_outcome(content: bytes) -> int:
    """Memory that an outcome takes while it waits, given its pickled form."""
    return len(content) + BYTES_OF_AN_ENTRY
