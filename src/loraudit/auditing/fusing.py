"""All scores as one: the auditor's upper bound, and what each score adds to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from loraudit.auditing.columns import Columns
from loraudit.spec import AuditSpec, FusionPart, FusionResult
from loraudit.statistics import (
    Fusion,
    Interval,
    auc,
    auc_interval,
    compare_scores,
    cross_fitting_factor,
    disjoint_folds,
    finding,
    measure,
    paired_auc_difference,
    rate_metric,
    widened,
)
from loraudit.statistics.leakage import PARTIAL_AUC
from loraudit.statistics.rates import RELIABLE_FALSE_POSITIVES
from loraudit.types import Finding, FloatArray
from loraudit.validity.blind import BAG_OF_WORDS

N_IN_ORDER = 5
"""Scores that are shown one after the other; of scores so much alike, the sixth adds next to nothing."""
_FUSED = "fusion"


def fuse(columns: Columns, spec: AuditSpec, rng: np.random.Generator) -> FusionResult:
    """What a model of all attacks' scores shows that was learned with the labels of other documents.

    The same model of scores that never saw the target (attacks on the reference alone, attacks with the reference in
    the target's role, length, zlib) says how much of it is not the target's doing. The bag of words is left
    out of those: it was cross-fitted on the same labels, and a second model of it would read them there.

    Args:
        columns: Scores and facts.
        spec: Rates, resamples, confidence, headline.
        rng: Source of folds and resamples.
    """
    folds = disjoint_folds(columns.is_member, columns.groups, rng=rng)
    fusion = Fusion.of(columns.scores, columns.is_member, groups=columns.groups, folds=folds)
    of_fusion = {"n_folds": fusion.n_folds, "error_factor": cross_fitting_factor(fusion.n_folds)}
    if fusion.reason is not None:
        return FusionResult(attacks=list(fusion.names), reason=fusion.reason, **of_fusion)
    found = _Fused(columns, spec, of_fusion["error_factor"], fusion.scores())
    untouched = {name: values for name, values in columns.blind.items() if name != BAG_OF_WORDS} | {**columns.controls}
    blind = Fusion.of(untouched, columns.is_member, groups=columns.groups, folds=folds)
    blind_scores = blind.scores()
    return FusionResult(
        attacks=list(fusion.names),
        findings=found.findings(rng),
        beyond_headline=found.beyond_headline(rng),
        blind=[] if blind.reason else list(blind.names),
        blind_auc=None if blind.reason else found.area(blind_scores),
        beyond_blind=None if blind.reason else found.beyond(found.scores, blind_scores),
        without=_without_each(fusion, found),
        order=_in_order(fusion, found),
        **of_fusion,
    )


def _without_each(fusion: Fusion, found: _Fused) -> list[FusionPart]:
    """The fusion without each score."""
    if len(fusion.names) < 2:
        return []
    parts: list[FusionPart] = []
    for name in fusion.names:
        rest = fusion.scores([other for other in fusion.names if other != name])
        parts.append(FusionPart(name=name, auc=found.area(rest), adds=found.beyond(found.scores, rest)))
    return parts


def _in_order(fusion: Fusion, found: _Fused) -> list[FusionPart]:
    """The scores that add most, one after the other."""
    parts: list[FusionPart] = []
    names = fusion.order(N_IN_ORDER)
    before: FloatArray | None = None
    for n, name in enumerate(names, start=1):
        fused = fusion.scores(names[:n])
        area = found.area(fused)
        adds = _minus_guessing(area) if before is None else found.beyond(fused, before)
        parts.append(FusionPart(name=name, auc=area, adds=adds))
        before = fused
    return parts


def _minus_guessing(area: Finding) -> Finding:
    less = [None if number is None else number - 0.5 for number in (area.value, area.lower, area.upper)]
    return replace(area, value=less[0], lower=less[1], upper=less[2])


class _Fused:
    """Fused scores and how their figures are made: intervals are wider than of scores that learned nothing."""

    def __init__(self, columns: Columns, spec: AuditSpec, factor: float, scores: FloatArray) -> None:
        self.scores = scores
        self._columns, self._spec, self._factor = columns, spec, factor
        self._how = f", error times {factor:g} for cross-fitting"
        self._by = "" if columns.groups is None else ", clustered by group"

    def findings(self, rng: np.random.Generator) -> dict[str, Finding]:
        """Of the fused scores, by metric."""
        spec = self._spec
        measured = measure(
            {_FUSED: self.scores},
            self._columns.is_member,
            fprs=spec.fpr,
            n_resamples=spec.resamples,
            confidence=spec.confidence,
            rng=rng,
            groups=self._columns.groups,
        )[_FUSED]
        # The others allow for a threshold that is not known, and are wide enough as they are.
        n_nonmembers = measured[PARTIAL_AUC].n_nonmembers
        wide = [rate_metric(fpr) for fpr in spec.fpr if fpr * n_nonmembers >= RELIABLE_FALSE_POSITIVES]
        return (
            measured
            | {name: self._wider(measured[name]) for name in (PARTIAL_AUC, *wide)}
            | {"auc": self.area(self.scores)}
        )

    def area(self, scores: FloatArray) -> Finding:
        """AUC of cross-fitted scores."""
        members, nonmembers, groups = self._columns.sides(scores)
        is_undefined = np.isnan(scores)
        interval = auc_interval(
            members, nonmembers, confidence=self._spec.confidence, error_factor=self._factor, **groups
        )
        return finding(
            auc(members, nonmembers),
            interval,
            f"DeLong on the logit scale{self._how}{self._by}",
            n_members=len(members),
            n_nonmembers=len(nonmembers),
            confidence=self._spec.confidence,
            n_undefined_members=int((is_undefined & self._columns.is_member).sum()),
            n_undefined_nonmembers=int((is_undefined & ~self._columns.is_member).sum()),
        )

    def beyond(self, first: FloatArray, second: FloatArray) -> Finding:
        """AUC of one fusion minus that of another, on the records that both score."""
        both = np.where(np.isnan(first) | np.isnan(second), np.nan, 1.0)
        members, nonmembers, groups = self._columns.sides(first * both)
        other = self._columns.sides(second * both)
        found = paired_auc_difference(
            (members, nonmembers), (other[0], other[1]), confidence=self._spec.confidence, **groups
        )
        about = {"n_members": len(members), "n_nonmembers": len(nonmembers)}
        return self._difference(found.value, found.interval, f"paired DeLong{self._how}{self._by}", about)

    def beyond_headline(self, rng: np.random.Generator) -> dict[str, Finding]:
        """Fusion minus headline attack, by metric; empty where the headline has no score."""
        headline = self._columns.scores.get(self._spec.headline)
        if headline is None or np.isnan(headline).all():
            return {}
        found = compare_scores(
            self.scores,
            headline,
            self._columns.is_member,
            fprs=self._spec.fpr,
            n_resamples=self._spec.resamples,
            confidence=self._spec.confidence,
            rng=rng,
            groups=self._columns.groups,
        )
        about = {"n_members": found.n_members, "n_nonmembers": found.n_nonmembers}
        differences = {
            "auc": self._difference(found.auc.value, found.auc.interval, f"paired DeLong{self._how}{self._by}", about)
        }
        for fpr, rate in found.rates.items():
            if rate is not None:
                part = rate.difference
                how = f"paired bootstrap{self._how}"
                differences[rate_metric(fpr)] = self._difference(part.value, part.interval, how, about)
        return differences

    def _wider(self, found: Finding) -> Finding:
        if found.value is None or found.lower is None or found.upper is None:
            return found
        interval = widened(found.value, Interval(found.lower, found.upper), self._factor, lowest=0.0)
        return replace(found, lower=interval.lower, upper=interval.upper, method=found.method + self._how)

    def _difference(self, value: float, interval: Interval, method: str, about: dict[str, Any]) -> Finding:
        wide = widened(value, interval, self._factor, lowest=-1.0)
        return finding(value, wide, method, confidence=self._spec.confidence, **about)
