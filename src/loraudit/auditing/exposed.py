"""Single records: which members stand out, and in which subgroups."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from loraudit.auditing.columns import Columns
from loraudit.policy import PREFERRED_FPR
from loraudit.spec import AuditSpec, ExposedRecord, RecordsResult, Subgroup
from loraudit.statistics import (
    auc,
    auc_interval,
    benjamini_hochberg,
    calibrated_p_values,
    clopper_pearson,
    finding,
    finite,
    threshold_at_fpr,
    unresolved_rate,
)
from loraudit.types import BoolArray, FloatArray

N_EXPOSED_SHOWN = 20
_FEWEST_IN_SUBGROUP = 10
_MOST_SUBGROUPS = 12
_N_LENGTH_CLASSES = 4


def exposed_records(columns: Columns, spec: AuditSpec, snippet: Callable[[int], str]) -> RecordsResult | None:
    """Members by calibrated p-value of the headline attack, and subgroups; None where it has no scores.

    Args:
        columns: Scores and facts.
        spec: Headline, rates, false-discovery rate.
        snippet: Masked beginning of the record in a row; called for the shown ones only.
    """
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
                score=finite(float(values[rows[i]])),
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
        _, _, groups = columns.sides(inside)
        found.append(
            Subgroup(
                by=by,
                name=name,
                n_members=len(members),
                n_nonmembers=len(nonmembers),
                auc=finding(
                    auc(members, nonmembers),
                    auc_interval(members, nonmembers, confidence=spec.confidence, **groups),
                    "DeLong on the logit scale",
                    n_members=len(members),
                    n_nonmembers=len(nonmembers),
                    confidence=spec.confidence,
                ),
                tpr=finding(
                    n_found / len(members),
                    clopper_pearson(n_found, len(members), confidence=spec.confidence),
                    "Clopper-Pearson at this sample's threshold",
                    n_members=len(members),
                    n_nonmembers=n_nonmembers,
                    confidence=spec.confidence,
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
