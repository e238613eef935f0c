"""What a comparison of two runs found."""

from __future__ import annotations

from pydantic import Field

from loraudit.spec.form import SCHEMA_VERSION, Strict
from loraudit.types import Finding


class ComparedNumber(Strict):
    """One number in two runs, on the same records."""

    first: float | None
    second: float | None
    difference: Finding = Field(description="First minus second; value None where the sample cannot resolve the rate.")
    p_value: float | None = Field(description="Two-sided, of no difference.")


class ComparedRate(ComparedNumber):
    """A true-positive rate in two runs, and the members that only one of them finds (McNemar)."""

    found_in_first_only: int
    found_in_second_only: int
    p_mcnemar: float | None = Field(description="Exact, two-sided; takes records as independent.")


class ComparedAttack(Strict):
    """One attack in two runs."""

    name: str
    is_headline: bool
    auc: ComparedNumber
    p_holm: float | None = Field(description="Of the AUC, after Holm's correction over all attacks but the headline.")
    rates: dict[str, ComparedRate]


class ComparedRun(Strict):
    """Which run, and how it fared on the records it shares with the other."""

    path: str
    target: str
    spec_hash: str
    n_records: int
    n_alone: int = Field(description="Records that only this run has.")


class ComparisonResult(Strict):
    """What `loraudit compare --json` prints."""

    schema_version: int = SCHEMA_VERSION
    first: ComparedRun
    second: ComparedRun
    n_members: int = Field(description="In both runs, on the same side.")
    n_nonmembers: int
    n_changed_side: int = Field(description="Records on one side in one run, on the other in the other; left out.")
    confidence: float
    attacks: list[ComparedAttack]
    sentence: str
