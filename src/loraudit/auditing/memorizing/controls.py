"""One number three times: of members, of held-out records, and of members under the base."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loraudit.auditing.memorizing.measures import Measures, column
from loraudit.memorization import share_of
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.spec import WithControls
from loraudit.statistics import Interval, mean_finding
from loraudit.types import BoolArray, Finding, FloatArray, IntArray

SHARE = Interval(0.0, 1.0)
Summarise = Callable[[FloatArray, BoolArray, bool], Finding]
"""From values [N], the rows that count and whether these are members to a finding."""


class Controls:
    """Findings of the columns of a run.

    Args:
        measures: The columns.
        confidence: Of every two-sided interval.
    """

    def __init__(self, measures: Measures, confidence: float) -> None:
        self.measures, self.confidence = measures, confidence

    def three(self, summarise: Summarise, *name: object) -> WithControls:
        """Of the columns called `measure`, view, and what else follows the view."""
        measure, *more = name
        return self.of(summarise, lambda view: self.measures.values.get(column(measure, view, *more)))

    def of(self, summarise: Summarise, values: Callable[[str], FloatArray | None]) -> WithControls:
        """Of what `values` gives for a view: [N], or None where there is nothing."""
        is_member = self.measures.is_member
        of_target, of_base = values(TARGET), values(REFERENCE)
        if of_target is None:
            of_target = np.full(len(is_member), np.nan)
        return WithControls(
            members=summarise(of_target, is_member, True),
            held_out=summarise(of_target, ~is_member, False),
            base=None if of_base is None else summarise(of_base, is_member, True),
        )

    def yes(self, values: FloatArray, where: BoolArray, are_members: bool) -> Finding:
        """The share of ones."""
        return share_of(values[where], confidence=self.confidence, groups=self._groups(where), are_members=are_members)

    def share(self, values: FloatArray, where: BoolArray, are_members: bool) -> Finding:
        """The mean of values in [0, 1]."""
        return self._mean(values, where, are_members, SHARE)

    def number(self, values: FloatArray, where: BoolArray, are_members: bool) -> Finding:
        """The mean of any values."""
        return self._mean(values, where, are_members, None)

    def _mean(self, values: FloatArray, where: BoolArray, are_members: bool, attainable: Interval | None) -> Finding:
        return mean_finding(
            values[where],
            confidence=self.confidence,
            groups=self._groups(where),
            attainable=attainable,
            are_members=are_members,
        )

    def _groups(self, where: BoolArray) -> IntArray | None:
        return None if self.measures.groups is None else self.measures.groups[where]


def of_asked(summarise: Summarise) -> Summarise:
    """The same of the records that have a value: those that were not asked do not count as undefined."""

    def of_known(values: FloatArray, where: BoolArray, are_members: bool) -> Finding:
        return summarise(values, where & ~np.isnan(values), are_members)

    return of_known
