"""From the columns of `scores.parquet` to every figure of a result.

An audit and `loraudit verify` both go through here, so a figure that is reported can be recomputed from
what is stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from loraudit.policy import PREFERRED_FPR
from loraudit.spec import (
    AuditSpec,
    BestAttack,
    DatasetTest,
    ExposedRecord,
    RecordsResult,
    Subgroup,
    ValidityResult,
)
from loraudit.statistics import (
    PARTIAL_AUC_MAX_FPR,
    Interval,
    auc_interval,
    auc_p_value,
    benjamini_hochberg,
    best_of_many,
    calibrated_p_values,
    clopper_pearson,
    compare_scores,
    holm,
    measure,
    rate_metric,
    resample_rates,
    set_test,
    split_in_halves,
    threshold_at_fpr,
    unresolved_rate,
)
from loraudit.statistics.auc import auc
from loraudit.types import BoolArray, Finding, FloatArray, IntArray
from loraudit.validity import GateInput, judge_gates
from loraudit.validity.gates import oriented, strongest_blind

BLIND = "blind."
CONTROL = "control."
OVERLAP = "overlap."
USUAL_SHARE = b"usual_share"
N_EXPOSED_SHOWN = 20
_FEWEST_IN_SUBGROUP = 10
_MOST_SUBGROUPS = 12
_N_LENGTH_CLASSES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What the figures rest on: the content of `scores.parquet`, as arrays.

    Attributes:
        ids: [N] shown ids.
        is_member: [N].
        groups: [N] document of each record as a number, or None.
        subgroups: [N] value of the user's column, or None.
        n_tokens: [N].
        n_copies: [N].
        scores: [N] per attack, NaN = undefined.
        blind: [N] per blind classifier.
        controls: [N] per control.
        has_near_duplicate: [N].
        ngram_share: [N].
        usual_share: See `validity.Overlap`.
    """

    ids: list[str]
    is_member: BoolArray
    groups: IntArray | None
    subgroups: Sequence[str] | None
    n_tokens: IntArray
    n_copies: IntArray
    scores: Mapping[str, FloatArray]
    blind: Mapping[str, FloatArray]
    controls: Mapping[str, FloatArray]
    has_near_duplicate: BoolArray
    ngram_share: FloatArray
    usual_share: float

    @classmethod
    def of(cls, table: pa.Table, attacks: Sequence[str]) -> Columns:
        """The columns of a run whose attacks have these names."""

        def numbers(name: str) -> FloatArray:
            return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)

        def with_prefix(prefix: str) -> dict[str, FloatArray]:
            names = [name for name in table.column_names if name.startswith(prefix)]
            return {name.removeprefix(prefix): numbers(name) for name in names}

        groups = table.column("group").to_pylist()
        subgroups = table.column("subgroup").to_pylist()
        metadata = table.schema.metadata or {}
        return cls(
            table.column("id").to_pylist(),
            table.column("is_member").to_numpy(zero_copy_only=False).astype(bool),
            group_numbers(groups),
            None if all(value is None for value in subgroups) else subgroups,
            table.column("n_tokens").to_numpy(zero_copy_only=False),
            table.column("n_copies").to_numpy(zero_copy_only=False),
            {name: numbers(name) for name in attacks},
            with_prefix(BLIND),
            with_prefix(CONTROL),
            numbers(f"{OVERLAP}has_near_duplicate").astype(bool),
            numbers(f"{OVERLAP}ngram_share"),
            float(metadata.get(USUAL_SHARE, b"nan")),
        )


def group_numbers(names: Sequence[str | None]) -> IntArray | None:
    """Document of each record as a number; a record without a name stands alone; None where none has one."""
    if all(name is None for name in names):
        return None
    keys = [("alone", str(i)) if name is None else ("group", name) for i, name in enumerate(names)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])


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
    """

    findings: dict[str, dict[str, Finding]]
    p_values: dict[str, tuple[float | None, float | None]]
    best: BestAttack | None
    dataset_test: DatasetTest | None
    records: RecordsResult | None
    validity: ValidityResult


def examine(columns: Columns, spec: AuditSpec, snippet: Callable[[int], str]) -> Examined:
    """Every figure of a result.

    Args:
        columns: Scores and facts.
        spec: Rates, resamples, confidence, seed, headline.
        snippet: Masked beginning of the record in a row; called for exposed members only.
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
        _records(columns, spec, snippet),
        _validity(columns, spec, rng(3)),
    )


# --- several attacks ----------------------------------------------------------------------------------


def _sides(columns: Columns, values: FloatArray) -> tuple[FloatArray, FloatArray, dict[str, Any]]:
    """Defined scores of members and of non-members, and their documents as arguments."""
    is_defined = ~np.isnan(values)
    members, nonmembers = is_defined & columns.is_member, is_defined & ~columns.is_member
    of_sides = (None, None) if columns.groups is None else (columns.groups[members], columns.groups[nonmembers])
    return values[members], values[nonmembers], {"member_groups": of_sides[0], "nonmember_groups": of_sides[1]}


def _p_values(columns: Columns, spec: AuditSpec) -> dict[str, tuple[float | None, float | None]]:
    found: dict[str, float] = {}
    for name, values in columns.scores.items():
        members, nonmembers, groups = _sides(columns, values)
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
        members, nonmembers, groups = _sides(columns, columns.scores[best.name])
        n = len(areas)
        interval = auc_interval(members, nonmembers, confidence=1 - (1 - spec.confidence) / n, **groups)
        p_value = min(1.0, n * auc_p_value(members, nonmembers, **groups))
        method = "exact bound, Bonferroni"
    alone = findings[best.name]["auc"]
    return BestAttack(
        name=best.name,
        n_attacks=len([area for area in areas.values() if not math.isnan(area)]),
        auc=_finding(best.value, interval, method, alone.n_members, alone.n_nonmembers, spec),
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
    members, nonmembers, groups = _sides(columns, values)
    if not len(members) or not len(nonmembers):
        return None
    found = set_test(columns.scores[name], columns.is_member, is_second, columns.groups)
    interval = auc_interval(members, nonmembers, confidence=spec.confidence, **groups)
    return DatasetTest(
        attack=name,
        auc=_finding(
            auc(members, nonmembers), interval, "DeLong on the logit scale", len(members), len(nonmembers), spec
        ),
        p_mann_whitney=finite(found.p_mann_whitney),
        p_welch=finite(found.p_welch),
        n_to_detect=found.n_to_detect,
    )


# --- single records -----------------------------------------------------------------------------------


def _records(columns: Columns, spec: AuditSpec, snippet: Callable[[int], str]) -> RecordsResult | None:
    values = columns.scores.get(spec.headline)
    if values is None:
        return None
    nonmembers = values[~columns.is_member & ~np.isnan(values)]
    rows = np.flatnonzero(columns.is_member & ~np.isnan(values))
    if not len(nonmembers) or not len(rows):
        return None
    p_values = calibrated_p_values(values[rows], nonmembers)
    q_values = benjamini_hochberg(p_values)
    shown = np.lexsort((-values[rows], p_values))[:N_EXPOSED_SHOWN]
    return RecordsResult(
        fdr=spec.fdr,
        n_exposed=int((q_values <= spec.fdr).sum()),
        smallest_p_value=1 / (1 + len(nonmembers)),
        exposed=[
            ExposedRecord(
                id=columns.ids[int(rows[i])],
                score=float(values[rows[i]]),
                p_value=float(p_values[i]),
                q_value=float(q_values[i]),
                n_tokens=int(columns.n_tokens[rows[i]]),
                n_copies=int(columns.n_copies[rows[i]]),
                snippet=snippet(int(rows[i])),
            )
            for i in shown
        ],
        subgroups=_subgroups(columns, values, spec),
    )


def _subgroups(columns: Columns, values: FloatArray, spec: AuditSpec) -> list[Subgroup]:
    n_nonmembers = int((~columns.is_member & ~np.isnan(values)).sum())
    resolved = [fpr for fpr in spec.fpr if unresolved_rate(n_nonmembers, fpr) is None]
    if not resolved:
        return []
    fpr = PREFERRED_FPR if PREFERRED_FPR in resolved else min(resolved)
    threshold = threshold_at_fpr(values[~columns.is_member & ~np.isnan(values)], fpr=fpr)
    found: list[Subgroup] = []
    for by, name, where, nonmembers_too in _partitions(columns):
        members = values[where & columns.is_member & ~np.isnan(values)]
        compared = where if nonmembers_too else np.ones_like(where)
        nonmembers = values[compared & ~columns.is_member & ~np.isnan(values)]
        if min(len(members), len(nonmembers)) < _FEWEST_IN_SUBGROUP:
            continue
        n_found = int((members > threshold).sum())
        inside = np.where(where & columns.is_member | compared & ~columns.is_member, values, np.nan)
        _, _, groups = _sides(columns, inside)
        found.append(
            Subgroup(
                by=by,
                name=name,
                n_members=len(members),
                n_nonmembers=len(nonmembers),
                auc=_finding(
                    auc(members, nonmembers),
                    auc_interval(members, nonmembers, confidence=spec.confidence, **groups),
                    "DeLong on the logit scale",
                    len(members),
                    len(nonmembers),
                    spec,
                ),
                tpr=_finding(
                    n_found / len(members),
                    clopper_pearson(n_found, len(members), confidence=spec.confidence),
                    "Clopper-Pearson at this sample's threshold",
                    len(members),
                    n_nonmembers,
                    spec,
                ),
                fpr=fpr,
            )
        )
    return found


def _partitions(columns: Columns) -> list[tuple[str, str, BoolArray, bool]]:
    """(by, name, rows, whether its non-members are compared with) of each subgroup."""
    parts: list[tuple[str, str, BoolArray, bool]] = []
    lengths = columns.n_tokens
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, _N_LENGTH_CLASSES + 1), method="lower"))
    for low, high in itertools.pairwise(edges):
        is_last = high == edges[-1]
        where = (lengths >= low) & ((lengths <= high) if is_last else (lengths < high))
        parts.append(("length", f"{low:g} to {high if is_last else high - 1:g} tokens", where, True))
    copies = np.unique(columns.n_copies[columns.is_member])
    if len(copies) > 1:
        # How often a record is repeated is a fact of training: repeated members stand against all non-members.
        for low, high in ((1, 1), (2, 3), (4, 15), (16, None)):
            where = (columns.n_copies >= low) & (columns.n_copies <= (high or np.iinfo(np.int64).max))
            name = f"{low}" if high == low else f"{low} or more" if high is None else f"{low} to {high}"
            parts.append(("copies", name, where & columns.is_member, False))
    if columns.subgroups is not None:
        values = np.array([str(value) for value in columns.subgroups])
        names, counts = np.unique(values, return_counts=True)
        largest = names[np.argsort(-counts, kind="stable")][:_MOST_SUBGROUPS]
        parts.extend(("column", str(name), values == name, True) for name in largest)
    return parts


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
    n = paired.n_members, paired.n_nonmembers
    found = {"auc": _finding(paired.auc.value, paired.auc.interval, "paired DeLong", *n, spec)}
    for fpr, rates in paired.rates.items():
        if rates is not None:
            difference = rates.difference
            found[rate_metric(fpr)] = _finding(difference.value, difference.interval, "paired bootstrap", *n, spec)
    return found


def _finding(
    value: float, interval: Interval, method: str, n_members: int, n_nonmembers: int, spec: AuditSpec
) -> Finding:
    return Finding(
        value=finite(value),
        lower=finite(interval.lower),
        upper=finite(interval.upper),
        confidence=spec.confidence,
        method=method,
        n_members=n_members,
        n_nonmembers=n_nonmembers,
    )


def finite(value: Any) -> float | None:
    """A number that JSON can hold, or None."""
    return float(value) if math.isfinite(value) else None
