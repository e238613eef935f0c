"""What is predicted of single records beside what was measured of them, as numbers with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loraudit.influence.predicting import Fit
from loraudit.spec import FitAgreement
from loraudit.statistics import finding
from loraudit.theory import agreement
from loraudit.types import BoolArray, Finding, FloatArray, IntArray

GAIN, OWN, EXCESS, SUFFIX_GAIN, SUFFIX = "gain", "own", "excess", "suffix_gain", "suffix"
SCORE = "score:"
BASE_LOSS, LENGTH, SELF = "base_loss", "length", "full_self_influence"


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The probed records as statistics take them.

    Attributes:
        is_member: [n].
        groups: [n] document of each, or None.
        baselines: [n] by name: what needs no kernel of a method.
        confidence: Of intervals.
    """

    is_member: BoolArray
    groups: IntArray | None
    baselines: Mapping[str, FloatArray]
    confidence: float

    def groups_of(self, where: BoolArray | IntArray) -> IntArray | None:
        """Documents of some of them."""
        return None if self.groups is None else self.groups[where]


def excess(
    fit: Fit, gains: FloatArray, is_member: BoolArray, covariates: Mapping[str, FloatArray], names: tuple[str, ...]
) -> FloatArray:
    """[M] what members gained beyond what such records gain that were not trained on.

    Members and non-members are one random draw cut in two, so what a non-member of the same base loss, length and
    predicted shared gain gains, by least squares over the non-members alone, is what the member would have gained.

    Args:
        fit: Predicted.
        gains: [n] measured.
        is_member: [n].
        covariates: [n] by name.
        names: Those that are taken.

    Returns:
        NaN where too few non-members fix the coefficients.
    """
    known = np.column_stack([np.ones(len(gains)), *(covariates[name] for name in names)])
    shared = np.empty(len(gains))
    shared[is_member], shared[~is_member] = fit.without, fit.nonmembers
    known = np.column_stack([known, shared])
    learnt = known[~is_member]
    if len(learnt) <= known.shape[1] + 1:
        return np.full(int(is_member.sum()), np.nan)
    coefficients = np.linalg.lstsq(learnt, gains[~is_member], rcond=None)[0]
    return gains[is_member] - known[is_member] @ coefficients


def set_against(
    records: Records,
    where: IntArray,
    predicted: FloatArray,
    measured: FloatArray,
    *,
    names: tuple[str, str],
    are_members: bool,
) -> FitAgreement:
    """Spearman's correlation of a prediction with a measurement, and those of the baselines.

    Args:
        records: All that are probed.
        where: Of them, those it is about.
        predicted: [len(where)].
        measured: [len(where)].
        names: What was predicted, and what measured.
        are_members: Which side it is.
    """

    def correlation(values: FloatArray) -> Finding:
        found = agreement(values, measured, records.groups_of(where), confidence=records.confidence)
        return finding(
            found.value,
            found.interval,
            "Spearman, by the influence of records on it",
            n_members=found.n_records if are_members else 0,
            n_nonmembers=0 if are_members else found.n_records,
            confidence=records.confidence,
        )

    return FitAgreement(
        predicted=names[0],
        measured=names[1],
        side="members" if are_members else "nonmembers",
        spearman=correlation(predicted),
        baselines={name: correlation(values[where]) for name, values in records.baselines.items()},
    )
