"""From blind scores, controls and overlap to gates that hold or fail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from loraudit.spec import Gate
from loraudit.statistics import auc, auc_interval, auc_p_value, cross_fitting_factor, finding, holm
from loraudit.types import BoolArray, FloatArray, IntArray
from loraudit.validity.blind import BAG_OF_WORDS, LENGTH, ZLIB, count_folds
from loraudit.validity.overlap import MOSTLY_SHARED, NEAR_DUPLICATE, NGRAM_WORDS

REFERENCE_ONLY = "reference_"
CONTROL = "control_"
REFERENCE_AS_TARGET = "reference_as_target"
N_SHUFFLES = 200
FEWEST_PER_SIDE = 10
_TOLERATED_SHARED = 0.01
_ALARM = 1e-3
_SUMMARIES = {
    BAG_OF_WORDS: "A model of the words, trained on other folds, that never sees the target",
    LENGTH: "Length in bytes",
    ZLIB: "How far zlib compresses the text",
}


@dataclass(frozen=True, slots=True, eq=False)
class GateInput:
    """What the gates look at; all of it is kept in `scores.parquet`.

    Attributes:
        is_member: [N].
        blind: [N] per blind classifier; `reference_…` are attacks on the target alone, run on the reference.
        controls: [N] per attack that compares, with the reference in the target's role.
        headline: [N] scores of the headline attack.
        groups: [N] document of each record, or None.
        has_near_duplicate: [N] see `Overlap`.
        ngram_share: [N] see `Overlap`.
        usual_share: See `Overlap`.
        untouched: What stands for a model that never saw the members, in words: the reference, or the base where
            the reference has learned from the target.
    """

    is_member: BoolArray
    blind: Mapping[str, FloatArray]
    controls: Mapping[str, FloatArray]
    headline: FloatArray
    groups: IntArray | None
    has_near_duplicate: BoolArray
    ngram_share: FloatArray
    usual_share: float
    untouched: str = "the reference"


def judge_gates(given: GateInput, *, confidence: float, rng: np.random.Generator) -> list[Gate]:
    """All gates, in the order they are shown.

    Blind classifiers, controls and the length law are tests of one family: a fair split fails any of them
    in at most 1 − `confidence` of audits (Holm). The bag of words is tested for an AUC above 0.5, the
    others, which were not trained to point at members, for one on either side.

    Args:
        given: Scores and facts.
        confidence: Such as 0.95.
        rng: Source of the shuffles.
    """
    gates = [
        *(_blind_gate(name, values, given, confidence) for name, values in given.blind.items()),
        _length_law(given),
        *_control_gates(given, confidence),
    ]
    adjusted = holm(np.array([math.nan if gate.p_value is None else gate.p_value for gate in gates]))
    judged = [_judged(gate, float(p), 1 - confidence) for gate, p in zip(gates, adjusted, strict=True)]
    return [
        *judged,
        _shuffled_labels(given, confidence, rng),
        _near_duplicates(given),
        _ngram_overlap(given),
        _documents(given),
    ]


def oriented(values: FloatArray, is_member: BoolArray, name: str) -> FloatArray:
    """A blind score turned so that members tend to score higher; the trained bag of words is left as it is."""
    members, nonmembers = _sides(values, is_member)
    return -values if name != BAG_OF_WORDS and auc(members, nonmembers) < 0.5 else values


def strongest_blind(given: GateInput) -> str | None:
    """The blind classifier with the largest AUC after orientation."""
    areas = {name: auc(*_sides(oriented(v, given.is_member, name), given.is_member)) for name, v in given.blind.items()}
    known = {name: area for name, area in areas.items() if not math.isnan(area)}
    return max(known, key=lambda name: known[name]) if known else None


def _sides(values: FloatArray, is_member: BoolArray) -> tuple[FloatArray, FloatArray]:
    is_defined = ~np.isnan(values)
    return values[is_defined & is_member], values[is_defined & ~is_member]


def _tested(name: str, kind: str, summary: str, values: FloatArray, given: GateInput, confidence: float) -> Gate:
    members, nonmembers = _sides(values, given.is_member)
    is_defined = ~np.isnan(values)
    blank = Gate(name=name, kind=kind, status="not_measured", summary=summary, reason="")  # type: ignore[arg-type]
    if min(len(members), len(nonmembers)) < FEWEST_PER_SIDE:
        reason = f"fewer than {FEWEST_PER_SIDE} records a side have a score"
        return blank.model_copy(update={"reason": reason})
    groups = _side_groups(given, values)
    is_trained = name == BAG_OF_WORDS
    factor = cross_fitting_factor(count_folds(given.is_member, given.groups)) if is_trained else 1.0
    about: dict[str, Any] = {
        "member_groups": groups[0],
        "nonmember_groups": groups[1],
        "error_factor": factor,
    }
    interval = auc_interval(members, nonmembers, confidence=confidence, **about)
    p_value = auc_p_value(members, nonmembers, alternative="greater" if is_trained else "two-sided", **about)
    area = auc(members, nonmembers)
    found = finding(
        area,
        interval,
        "DeLong on the logit scale"
        + (f", error times {factor:g} for cross-fitting" if is_trained else "")
        + ("" if given.groups is None else ", clustered by group"),
        n_members=len(members),
        n_nonmembers=len(nonmembers),
        confidence=confidence,
        n_undefined_members=int((given.is_member & ~is_defined).sum()),
        n_undefined_nonmembers=int((~given.is_member & ~is_defined).sum()),
    )
    if math.isnan(p_value):
        return blank.model_copy(update={"finding": found, "reason": "too few documents to say how far it varies"})
    ends = "" if found.lower is None else f" [{found.lower:.3f}, {found.upper:.3f}]"
    return blank.model_copy(
        update={"finding": found, "p_value": p_value, "status": "passed", "reason": f"AUC {area:.3f}{ends}"}
    )


def _blind_gate(name: str, values: FloatArray, given: GateInput, confidence: float) -> Gate:
    attack = name.removeprefix(REFERENCE_ONLY)
    summary = _SUMMARIES.get(name, f"The attack {attack} on {given.untouched}, which was never tuned on the members")
    return _tested(name, "blind", summary, values, given, confidence)


def _control_gates(given: GateInput, confidence: float) -> list[Gate]:
    """One gate for the attacks that see nothing, as they must; one for each of the others."""
    seeing = [name for name, values in given.controls.items() if len(np.unique(values[~np.isnan(values)])) > 1]
    gates = [
        _tested(
            name,
            "control",
            f"The attack {name.removeprefix(CONTROL)} with {given.untouched} in the target's role",
            given.controls[name],
            given,
            confidence,
        )
        for name in seeing
    ]
    n_blind = len(given.controls) - len(seeing)
    what = f"Attacks that compare see nothing when {given.untouched} takes the target's role"
    if not given.controls:
        return [
            Gate(
                name=REFERENCE_AS_TARGET,
                kind="control",
                status="not_measured",
                summary=what,
                reason="no attack that compares with a reference was run",
            )
        ]
    blind = f"{n_blind} of {len(given.controls)} attacks give every record the same score, as they must"
    summary = Gate(name=REFERENCE_AS_TARGET, kind="control", status="passed", summary=what, reason=blind)
    return [summary, *gates]


def _length_law(given: GateInput) -> Gate:
    """Kolmogorov-Smirnov over lengths; over documents' mean lengths where records are grouped."""
    summary = "Both sides have the same distribution of lengths (Kolmogorov-Smirnov)"
    lengths = given.blind.get(LENGTH)
    blank = Gate(name="length_law", kind="blind", status="not_measured", summary=summary, reason="")
    if lengths is None:
        return blank.model_copy(update={"reason": "lengths are not known"})
    pairs = zip(_sides(lengths, given.is_member), _side_groups(given, lengths), strict=True)
    sides = [_means(side, group) for side, group in pairs]
    if min(map(len, sides)) < FEWEST_PER_SIDE:
        return blank.model_copy(update={"reason": f"fewer than {FEWEST_PER_SIDE} documents a side"})
    found = stats.ks_2samp(sides[0], sides[1], method="asymp")
    medians = " and ".join(f"{np.median(side):,.0f}" for side in sides)
    reason = f"largest distance {found.statistic:.3f}; median {medians} bytes"
    return blank.model_copy(update={"status": "passed", "p_value": float(found.pvalue), "reason": reason})


def _side_groups(given: GateInput, values: FloatArray) -> tuple[IntArray | None, IntArray | None]:
    if given.groups is None:
        return None, None
    is_defined = ~np.isnan(values)
    return given.groups[is_defined & given.is_member], given.groups[is_defined & ~given.is_member]


def _means(values: FloatArray, groups: IntArray | None) -> FloatArray:
    if groups is None:
        return values
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, weights=values) / np.bincount(index)


def _judged(gate: Gate, p_holm: float, level: float) -> Gate:
    if gate.p_value is None:
        return gate
    has_failed = p_holm <= level
    compared = f"{gate.reason}; p = {gate.p_value:.2g}, corrected {p_holm:.2g}"
    return gate.model_copy(
        update={"p_holm": p_holm, "status": "failed" if has_failed else "passed", "reason": compared}
    )


def _shuffled_labels(given: GateInput, confidence: float, rng: np.random.Generator) -> Gate:
    """Whether the headline's interval holds 0.5 as often as it claims when labels mean nothing."""
    summary = f"The headline attack under {N_SHUFFLES} shufflings of who is a member"
    is_defined = ~np.isnan(given.headline)
    values, is_member = given.headline[is_defined], given.is_member[is_defined]
    groups = None if given.groups is None else given.groups[is_defined]
    blank = Gate(name="shuffled_labels", kind="control", status="not_measured", summary=summary, reason="")
    if min(is_member.sum(), (~is_member).sum()) < FEWEST_PER_SIDE:
        return blank.model_copy(update={"reason": f"fewer than {FEWEST_PER_SIDE} records a side have a score"})
    units = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    of_unit = np.zeros(int(units.max()) + 1, dtype=bool)
    of_unit[units[is_member]] = True
    if min(of_unit.sum(), (~of_unit).sum()) < 2:
        return blank.model_copy(update={"reason": "fewer than two documents a side"})
    areas = np.empty(N_SHUFFLES)
    n_holding = 0
    for shuffle in range(N_SHUFFLES):
        shuffled = rng.permutation(of_unit)[units]
        sides = values[shuffled], values[~shuffled]
        side_groups = (None, None) if groups is None else (groups[shuffled], groups[~shuffled])
        ends = auc_interval(
            *sides, confidence=confidence, member_groups=side_groups[0], nonmember_groups=side_groups[1]
        )
        areas[shuffle] = auc(*sides)
        n_holding += math.isnan(ends.lower) or ends.lower <= 0.5 <= ends.upper
    p_value = float(stats.binom.cdf(n_holding, N_SHUFFLES, confidence))
    reason = (
        f"AUC {areas.mean():.3f} ± {areas.std():.3f}; the {100 * confidence:g} % interval holds 0.5 in "
        f"{100 * n_holding / N_SHUFFLES:.1f} % of them"
    )
    return blank.model_copy(update={"status": "failed" if p_value < _ALARM else "passed", "reason": reason})


def _near_duplicates(given: GateInput) -> Gate:
    where = ~given.is_member
    n_found = int((given.has_near_duplicate & where).sum())
    return Gate(
        name="near_duplicates",
        kind="overlap",
        status="warned" if n_found else "passed",
        summary=f"No non-member shares {100 * NEAR_DUPLICATE:g} % of its word triples with a member (MinHash)",
        reason=f"{n_found:,} of {int(where.sum()):,} non-members ({100 * n_found / max(1, where.sum()):.2g} %) do"
        + ("; they count as false alarms though the model saw their like, so leakage is understated" * bool(n_found)),
    )


def _ngram_overlap(given: GateInput) -> Gate:
    summary = f"Few non-members consist of {NGRAM_WORDS}-word sequences that stand in members"
    shares = given.ngram_share[~given.is_member & ~np.isnan(given.ngram_share)]
    blank = Gate(name="ngram_overlap", kind="overlap", status="not_measured", summary=summary, reason="")
    if not len(shares):
        return blank.model_copy(update={"reason": f"no non-member has {NGRAM_WORDS} words"})
    n_mostly = int((shares >= MOSTLY_SHARED).sum())
    usual = "" if math.isnan(given.usual_share) else f" ({100 * given.usual_share:.2g} % between non-members)"
    return blank.model_copy(
        update={
            "status": "warned" if n_mostly > _TOLERATED_SHARED * len(shares) else "passed",
            "reason": f"a non-member shares {100 * shares.mean():.2g} % of them on average{usual}; {n_mostly:,} of "
            f"{len(shares):,} share {100 * MOSTLY_SHARED:g} % or more",
        }
    )


def _documents(given: GateInput) -> Gate:
    summary = "Every document is on one side"
    blank = Gate(name="documents", kind="overlap", status="not_measured", summary=summary, reason="")
    if given.groups is None:
        reason = "no column names documents; if records are cut from documents, name it with --group-field"
        return blank.model_copy(update={"reason": reason})
    shared = np.intersect1d(given.groups[given.is_member], given.groups[~given.is_member])
    n_documents = len(np.unique(given.groups))
    n_records = int(np.isin(given.groups, shared).sum())
    return blank.model_copy(
        update={
            "status": "failed" if len(shared) else "passed",
            "reason": f"{len(shared):,} of {n_documents:,} documents have records on both sides"
            + (f" ({n_records:,} records): give each document to one side" if len(shared) else ""),
        }
    )
