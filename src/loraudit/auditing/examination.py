"""From the columns of `scores.parquet` to every figure of a result.

An audit and `loraudit verify` both go through here, so a figure that is reported can be recomputed from
what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from loraudit.auditing.columns import Columns
from loraudit.auditing.exposed import exposed_records
from loraudit.auditing.fusing import fuse
from loraudit.membership.shadow import SHADOW_TWIN
from loraudit.spec import (
    AuditSpec,
    BestAttack,
    DatasetTest,
    FusionResult,
    RecordsResult,
    ShadowComparison,
    ValidityResult,
)
from loraudit.statistics import (
    PARTIAL_AUC_MAX_FPR,
    auc,
    auc_interval,
    auc_p_value,
    best_of_many,
    compare_scores,
    finding,
    finite,
    holm,
    measure,
    rate_metric,
    resample_rates,
    set_test,
    split_in_halves,
)
from loraudit.types import Finding, FloatArray
from loraudit.validity import GateInput, judge_gates
from loraudit.validity.gates import oriented, strongest_blind


@dataclass(frozen=True, slots=True)
class Examined:
    """Everything that follows from the columns.

    Attributes:
        findings: By attack, then by metric.
        p_values: One-sided, by attack, with Holm's correction (None for the headline).
        best: The best of all attacks, corrected for the choice.
        dataset_test: The set as a whole.
        records: Single records.
        validity: Gates.
        shadows: What shadow models change; None without them.
        fusion: What all scores show together; None where it was not asked for.
    """

    findings: dict[str, dict[str, Finding]]
    p_values: dict[str, tuple[float | None, float | None]]
    best: BestAttack | None
    dataset_test: DatasetTest | None
    records: RecordsResult | None
    validity: ValidityResult
    shadows: ShadowComparison | None
    fusion: FusionResult | None


def examine(columns: Columns, spec: AuditSpec, snippet: Callable[[int], str], *, with_fusion: bool = True) -> Examined:
    """Every figure of a result.

    Args:
        columns: Scores and facts.
        spec: Rates, resamples, confidence, seed, headline.
        snippet: Masked beginning of the record in a row; called for exposed members only.
        with_fusion: Whether the scores are fused too, which takes as long as all the rest.
    """

    def rng(purpose: int) -> np.random.Generator:
        return np.random.default_rng([spec.seed, purpose])

    resampled = resample_rates(
        columns.scores,
        columns.is_member,
        fprs=spec.fpr,
        max_fpr=PARTIAL_AUC_MAX_FPR,
        n_resamples=spec.resamples,
        rng=rng(0),
        groups=columns.groups,
    )
    findings = measure(
        columns.scores,
        columns.is_member,
        fprs=spec.fpr,
        n_resamples=spec.resamples,
        confidence=spec.confidence,
        rng=rng(1),
        groups=columns.groups,
        resampled=resampled,
    )
    return Examined(
        findings,
        _p_values(columns, spec),
        _best(columns, findings, {name: found.auc for name, found in resampled.items()}, spec),
        _dataset_test(columns, spec, rng(2)),
        exposed_records(columns, spec, snippet),
        _validity(columns, spec, rng(3)),
        _against_shadows(columns, spec, rng(4)),
        fuse(columns, spec, rng(5)) if with_fusion else None,
    )


def _against_shadows(columns: Columns, spec: AuditSpec, rng: np.random.Generator) -> ShadowComparison | None:
    """The headline against the base and against the shadows, or `error_zone` where the headline has no such twin."""
    headline = spec.headline.removeprefix(SHADOW_TWIN)
    base = headline if SHADOW_TWIN + headline in columns.scores else "error_zone"
    twin = SHADOW_TWIN + base
    if not {base, twin} <= columns.scores.keys():
        return None
    found = compare_scores(
        columns.scores[twin],
        columns.scores[base],
        columns.is_member,
        fprs=spec.fpr,
        n_resamples=spec.resamples,
        confidence=spec.confidence,
        rng=rng,
        groups=columns.groups,
    )
    parts = {"auc": found.auc} | {rate_metric(f): rate.difference for f, rate in found.rates.items() if rate}
    return ShadowComparison(
        against_base=base,
        against_shadows=twin,
        differences={
            name: finding(
                part.value,
                part.interval,
                "paired DeLong" if name == "auc" else "paired bootstrap",
                n_members=found.n_members,
                n_nonmembers=found.n_nonmembers,
                confidence=spec.confidence,
            )
            for name, part in parts.items()
        },
        p_values={name: finite(part.p_value) for name, part in parts.items()},
    )


# --- several attacks ----------------------------------------------------------------------------------


def _p_values(columns: Columns, spec: AuditSpec) -> dict[str, tuple[float | None, float | None]]:
    found: dict[str, float] = {}
    for name, values in columns.scores.items():
        members, nonmembers, groups = columns.sides(values)
        has_both = len(members) > 0 and len(nonmembers) > 0
        found[name] = auc_p_value(members, nonmembers, **groups) if has_both else math.nan
    others = [name for name in found if name != spec.headline]
    adjusted = dict(zip(others, holm(np.array([found[name] for name in others])), strict=True))
    return {name: (finite(p), finite(float(adjusted[name])) if name in adjusted else None) for name, p in found.items()}


def _best(
    columns: Columns,
    findings: Mapping[str, Mapping[str, Finding]],
    resampled: Mapping[str, FloatArray],
    spec: AuditSpec,
) -> BestAttack | None:
    areas = {name: math.nan if of["auc"].value is None else of["auc"].value for name, of in findings.items()}
    best = best_of_many(areas, resampled, confidence=spec.confidence)
    if best is None:
        return None
    interval, p_value, method = best.interval, best.p_value, "maximum statistic of a shared bootstrap"
    if math.isnan(best.p_value):
        # No resample changes a perfect separation; Bonferroni's correction of the exact bound holds.
        members, nonmembers, groups = columns.sides(columns.scores[best.name])
        n = len(areas)
        interval = auc_interval(members, nonmembers, confidence=1 - (1 - spec.confidence) / n, **groups)
        p_value = min(1.0, n * auc_p_value(members, nonmembers, **groups))
        method = "exact bound, Bonferroni"
    alone = findings[best.name]["auc"]
    return BestAttack(
        name=best.name,
        n_attacks=len([area for area in areas.values() if not math.isnan(area)]),
        auc=finding(
            best.value,
            interval,
            method,
            n_members=alone.n_members,
            n_nonmembers=alone.n_nonmembers,
            confidence=spec.confidence,
        ),
        p_value=finite(p_value),
    )


def _dataset_test(columns: Columns, spec: AuditSpec, rng: np.random.Generator) -> DatasetTest | None:
    is_second = split_in_halves(columns.is_member, columns.groups, rng)
    areas: dict[str, float] = {}
    for name, values in columns.scores.items():
        where = ~is_second & ~np.isnan(values)
        areas[name] = auc(values[where & columns.is_member], values[where & ~columns.is_member])
    known = {name: area for name, area in areas.items() if not math.isnan(area)}
    if not known:
        return None
    name = max(known, key=lambda attack: known[attack])
    values = np.where(is_second, columns.scores[name], np.nan)
    members, nonmembers, groups = columns.sides(values)
    if not len(members) or not len(nonmembers):
        return None
    found = set_test(columns.scores[name], columns.is_member, is_second, columns.groups)
    interval = auc_interval(members, nonmembers, confidence=spec.confidence, **groups)
    return DatasetTest(
        attack=name,
        auc=finding(
            auc(members, nonmembers),
            interval,
            "DeLong on the logit scale",
            n_members=len(members),
            n_nonmembers=len(nonmembers),
            confidence=spec.confidence,
        ),
        p_mann_whitney=finite(found.p_mann_whitney),
        p_welch=finite(found.p_welch),
        n_to_detect=found.n_to_detect,
    )


# --- validity -----------------------------------------------------------------------------------------


def _validity(columns: Columns, spec: AuditSpec, rng: np.random.Generator) -> ValidityResult:
    headline = columns.scores.get(spec.headline, np.full(len(columns.is_member), np.nan))
    given = GateInput(
        columns.is_member,
        columns.blind,
        columns.controls,
        headline,
        columns.groups,
        columns.has_near_duplicate,
        columns.ngram_share,
        columns.usual_share,
        untouched="the base" if spec.reference == "distilled" else "the reference",
    )
    gates = judge_gates(given, confidence=spec.confidence, rng=rng)
    strongest = strongest_blind(given)
    minus: dict[str, Finding] = {}
    if strongest is not None and any(gate.status == "failed" for gate in gates):
        blind = oriented(columns.blind[strongest], columns.is_member, strongest)
        minus = _headline_minus_blind(columns, headline, blind, spec, rng)
    return ValidityResult(gates=gates, strongest_blind=strongest, headline_minus_blind=minus)


def _headline_minus_blind(
    columns: Columns, headline: FloatArray, blind: FloatArray, spec: AuditSpec, rng: np.random.Generator
) -> dict[str, Finding]:
    paired = compare_scores(
        headline,
        blind,
        columns.is_member,
        fprs=spec.fpr,
        n_resamples=spec.resamples,
        confidence=spec.confidence,
        rng=rng,
        groups=columns.groups,
    )
    about = {
        "n_members": paired.n_members,
        "n_nonmembers": paired.n_nonmembers,
        "confidence": spec.confidence,
    }
    found = {"auc": finding(paired.auc.value, paired.auc.interval, "paired DeLong", **about)}
    for fpr, rates in paired.rates.items():
        if rates is not None:
            difference = rates.difference
            found[rate_metric(fpr)] = finding(difference.value, difference.interval, "paired bootstrap", **about)
    return found
