"""The three columns of every number, and what may be said of them side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeVar

from loraudit.spec import MemorizationResult, WithControls, from_usual
from loraudit.types import Finding

COLUMN_WORDS = {"members": "members", "held_out": "held-out", "base": "base"}
COLOURS = {"members": 1, "held_out": 0, "base": 6}
"""Position among the colours and shapes of figures; members and held-out as elsewhere on the page."""

Standing = Literal["above", "not_clearly", "unknown"]


class _AtPrefix(Protocol):
    @property
    def prefix(self) -> int: ...


_Point = TypeVar("_Point", bound=_AtPrefix)


def columns_of(found: MemorizationResult) -> list[str]:
    """Fields of `WithControls` that a result fills anywhere: the base is left out where none is known."""
    has_base = any(three.base is not None for three in _numbers(found))
    return [name for name in COLUMN_WORDS if name != "base" or has_base]


def _numbers(found: MemorizationResult) -> Iterable[WithControls]:
    yield found.perplexity
    yield from (point.extracted for point in found.greedy)
    yield from (strength.mean for strength in found.strengths)
    yield from (three for point in found.generated for three in point.kinds.values())


def column_of(controls: WithControls, name: str) -> Finding | None:
    """One of the three."""
    found: Finding | None = getattr(controls, name)
    return found


def n_of(finding: Finding) -> int:
    """Records a finding of one side rests on."""
    return finding.n_members + finding.n_nonmembers


def n_undefined_of(finding: Finding) -> int:
    """Records of that side without a value."""
    return finding.n_undefined_members + finding.n_undefined_nonmembers


def count_of(finding: Finding) -> int:
    """How many records a share of records is."""
    return round((finding.value or 0.0) * n_of(finding))


def standing(members: Finding | None, control: Finding | None) -> Standing:
    """Whether members lie above a control, by intervals that do not meet.

    That is stricter than a test of the difference, and can be seen in the figures.
    """
    if members is None or control is None or members.lower is None or control.upper is None:
        return "unknown"
    return "above" if members.lower > control.upper else "not_clearly"


def stated_prefix(found: MemorizationResult) -> int | None:
    """The prefix length that statements speak of, whatever came out: the one nearest to 50 that any member allows."""
    known = [point.prefix for point in found.greedy if n_of(point.extracted.members)]
    return min(known, key=from_usual, default=None)


def at_prefix(points: Sequence[_Point], prefix: int | None) -> list[_Point]:
    """Those of this prefix length, or of the nearest one measured."""
    lengths = {point.prefix for point in points}
    order = from_usual if prefix is None else lambda length: (abs(length - prefix), length)
    nearest = min(lengths, key=order, default=None)
    return [point for point in points if point.prefix == nearest]
