"""From rows of AUCs and rates to numbers with intervals: one training run, a mean over several, or a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loraudit.spec import ContrastSpec
from loraudit.statistics import AucRows, Interval, Mixed, RateRows, over_seeds, rate_metric
from loraudit.statistics import finding as make_finding
from loraudit.types import BoolArray, Finding, FloatArray

AUC = "auc"


class Stated(NamedTuple):
    """One metric of a mean over runs, or of a difference between two such means.

    Attributes:
        finding: With its interval.
        values: Of each method, the value of every run.
        p_value: Two-sided, of no difference; NaN for a mean.
        deviations: Of each method, the standard deviation of its runs.
    """

    finding: Finding
    values: Sequence[FloatArray]
    p_value: float
    deviations: Sequence[float]


class Stating:
    """States numbers of one contrast.

    Args:
        spec: Rates and confidence.
        is_member: [N].
    """

    def __init__(self, spec: ContrastSpec, is_member: BoolArray) -> None:
        self.spec, self.is_member = spec, is_member

    def mixed(self, aucs: AucRows, rates: RateRows | None, weights: FloatArray) -> dict[str, Mixed]:
        """Value and interval of a weighted sum of rows, by metric.

        Args:
            aucs: AUCs of all rows.
            rates: Rates of all rows; None for the AUC alone.
            weights: [n_rows].
        """
        found = {AUC: aucs.mixed(weights, confidence=self.spec.confidence)}
        if rates is not None:
            of_rates = rates.mixed(weights, confidence=self.spec.confidence)
            found |= {rate_metric(fpr): mixed for fpr, mixed in of_rates.items()}
        return found

    def stated(
        self,
        aucs: AucRows,
        rates: RateRows,
        weights: FloatArray,
        single: Sequence[Sequence[FloatArray]],
        *,
        one_run: str,
        several: str,
    ) -> dict[str, Stated]:
        """A mean, or the difference between two: by metric, with what training runs add to its interval.

        Args:
            aucs: AUCs of all rows.
            rates: Rates of all rows.
            weights: [n_rows] of the mean or difference.
            single: Of each method in it, the weights of every run alone.
            one_run: What the interval holds where a method has one run.
            several: What it holds otherwise.
        """
        found: dict[str, Stated] = {}
        for name, mixed in self.mixed(aucs, rates, weights).items():
            fpr = next((f for f in self.spec.fpr if rate_metric(f) == name), None)
            values = [np.array([aucs.value(w) if fpr is None else rates.value(w, fpr) for w in of]) for of in single]
            if math.isnan(mixed.value) or any(np.isnan(of).any() for of in values):
                refused = self.finding(mixed, mixed.interval, "refused")
                found[name] = Stated(refused, values, math.nan, [math.nan] * len(values))
                continue
            spread = over_seeds(mixed, *values)
            is_combined = min(spread.n_seeds) > 1
            found[name] = Stated(
                self.finding(
                    mixed,
                    spread.combined if is_combined else spread.records,
                    several if is_combined else one_run,
                    note=spread.note,
                ),
                values,
                spread.p_value if is_combined else spread.p_value_records,
                spread.deviations,
            )
        return found

    def finding(self, mixed: Mixed, interval: Interval, method: str, note: str | None = None) -> Finding:
        """A number with what it rests on; without a value it is refused."""
        n_members = int(self.is_member.sum())
        n_nonmembers = len(self.is_member) - n_members
        return make_finding(
            mixed.value,
            interval,
            "refused" if math.isnan(mixed.value) else method,
            n_members=n_members - mixed.n_undefined_members,
            n_nonmembers=n_nonmembers - mixed.n_undefined_nonmembers,
            confidence=self.spec.confidence,
            n_undefined_members=mixed.n_undefined_members,
            n_undefined_nonmembers=mixed.n_undefined_nonmembers,
            note=mixed.note or note,
        )
