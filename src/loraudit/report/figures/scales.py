"""From numbers to places on an axis, and the numbers that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

_STEPS = (1.0, 2.0, 5.0, 10.0)
_RATES = (0.00001, 0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_LADDERS = ((1, 2, 5), (1, 3), (1,))
_MOST_DOSES = 4
_LEAST_GAP = 0.13
"""Of the axis, between the labels of two doses."""
_ROUNDING = 1e-9
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a figure.

    Attributes:
        title: What is measured, with its unit.
        first: Number at the left or lower end; larger than `last` on a reversed axis.
        last: Number at the other end.
        ticks: Numbers with their labels.
        is_log: Equal ratios are equal lengths.
    """

    title: str
    first: float
    last: float
    ticks: Sequence[tuple[float, str]]
    is_log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a number lies; 0 and 1 are its ends.

        On a logarithmic axis what is not above 0 lies at the lower end.

        >>> Axis("", 4.0, 3.0, []).share(3.25)
        0.75
        """
        if not self.is_log:
            return (value - self.first) / (self.last - self.first)
        lowest = min(self.first, self.last)
        return math.log(max(value, lowest) / self.first) / math.log(self.last / self.first)

    def holds(self, value: float) -> bool:
        """Whether a number lies between the ends; what lies beyond is drawn at the nearer one.

        >>> Axis("", 4.0, 3.0, []).holds(3.25), Axis("", 0.01, 1.0, [], is_log=True).holds(0.0)
        (True, False)
        """
        room = _ROUNDING * abs(self.last - self.first)
        return min(self.first, self.last) - room <= value <= max(self.first, self.last) + room


def linear_axis(
    title: str, low: float, high: float, *, is_reversed: bool = False, n_ticks: int = 6, is_tight: bool = False
) -> Axis:
    """An axis over a range, with round numbers.

    Args:
        title: Of the axis.
        low: Smallest number that has to be on it.
        high: Largest.
        is_reversed: The largest number comes first.
        n_ticks: About how many numbers are written.
        is_tight: The axis ends at the range itself, not at round numbers.
    """
    if high - low < _ROUNDING * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = _step(low, high, n_ticks)
    digits = max(0, math.ceil(-math.log10(step) - _ROUNDING))
    if not is_tight:
        low, high = math.floor(low / step + _ROUNDING) * step, math.ceil(high / step - _ROUNDING) * step
    first = math.ceil(low / step - _ROUNDING)
    last = math.floor(high / step + _ROUNDING)
    ticks = [(k * step, f"{k * step:.{digits}f}") for k in range(first, last + 1)]
    ends = (high, low) if is_reversed else (low, high)
    return Axis(title, *ends, ticks)


def rate_axis(title: str, values: Iterable[float], chance: float) -> Axis:
    """A logarithmic axis for rates up to 1, from a little below `chance`; lower rates, and 0, lie at its lower end."""
    lowest = min([chance, *(value for value in values if value > 0)])
    first = 0.7 * max(lowest, chance / 4)
    return Axis(title, first, 1.0, [(rate, f"{100 * rate:g} %") for rate in _RATES if rate >= first], is_log=True)


def share_axis(title: str, values: Iterable[float]) -> Axis:
    """A linear axis from 0 to the largest of these shares, in percent."""
    highest = min(1.0, max([0.0, *values]) or 1.0)
    axis = linear_axis(title, 0.0, 100 * highest, n_ticks=5)
    return Axis(title, 0.0, axis.last / 100, [(value / 100, f"{label} %") for value, label in axis.ticks])


def percent_axis(title: str, low: float, high: float) -> Axis:
    """A linear axis over a range of shares, with round percentages; it never leaves 0 to 100 %."""
    axis = linear_axis(title, 100 * low, 100 * high, n_ticks=5)
    first, last = max(0.0, axis.first), min(100.0, axis.last)
    ticks = [(value / 100, f"{label} %") for value, label in axis.ticks if first <= value <= last + _ROUNDING]
    return Axis(title, first / 100, last / 100, ticks)


def dose_axis(
    title: str, doses: Sequence[float], words: Callable[[float], str], *, also: Sequence[float] = ()
) -> tuple[Axis, float]:
    """A logarithmic axis with a place for the clean arm at its beginning, and that place.

    Round numbers are written, or the doses themselves where at most one round number lies among them.

    Args:
        title: Of the axis.
        doses: At least one of them above 0.
        words: What is written at a dose.
        also: Other numbers that have to be on it, such as ends of intervals.
    """
    known = sorted({one for one in doses if one > 0})
    held = [*known, *(one for one in also if one > 0)]
    low, high = min(held), max(held)
    clean_at = low / max(2.0, (high / low) ** 0.2)
    inside: list[float] = []
    for ladder in _LADDERS:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        inside = [k * 10.0**power for power in powers for k in ladder if low * 0.98 <= k * 10.0**power <= high * 1.02]
        if len(inside) <= _MOST_DOSES:
            break
    room = (high / clean_at) ** 0.04
    axis = Axis(title, clean_at / room, high * room, [], is_log=True)
    chosen = inside[:: 1 + len(inside) // 7] if len(inside) > 1 else _apart(axis, known)
    return replace(axis, ticks=[(clean_at, "clean"), *((value, words(value)) for value in chosen)]), clean_at


def decade_axis(title: str, low: float, high: float) -> Axis:
    """A logarithmic axis with a label at each power of ten.

    Args:
        title: Of the axis.
        low: Smallest number that has to be on it, above 0.
        high: Largest.
    """
    first, last = math.floor(math.log10(low) + _ROUNDING), math.ceil(math.log10(high) - _ROUNDING)
    powers = range(first, max(last, first + 1) + 1)
    labels = [f"{10**k:,}" if 0 <= k < 4 else f"10{str(k).translate(_RAISED)}" for k in powers]
    ticks = [(10.0**k, label) for k, label in zip(powers, labels, strict=True)]
    return Axis(title, 10.0 ** powers[0], 10.0 ** powers[-1], ticks, is_log=True)


def named_axis(title: str, names: Sequence[str]) -> Axis:
    """An axis on which names stand at 0, 1, 2 and so on, evenly."""
    ticks = [(float(place), name) for place, name in enumerate(names)]
    return Axis(title, -0.35, max(len(names), 1) - 0.65, ticks)


def doubling_axis(title: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis on which each number given has its label."""
    low, high = min(values), max(values)
    room = (high / low) ** 0.06 if high > low else 2.0
    return Axis(title, low / room, high * room, [(v, f"{v:g}") for v in sorted(set(values))], is_log=True)


def _apart(axis: Axis, values: Sequence[float]) -> list[float]:
    """The numbers themselves, without those whose label would touch that of a smaller one.

    Args:
        axis: On which they lie.
        values: By size.
    """
    kept: list[float] = []
    for value in values:
        if not kept or axis.share(value) - axis.share(kept[-1]) >= _LEAST_GAP:
            kept.append(value)
    return kept


def _step(low: float, high: float, n_ticks: int) -> float:
    rough = (high - low) / n_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - _ROUNDING))
