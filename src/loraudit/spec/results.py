"""What an audit found, as `result.json` holds it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from loraudit.spec.form import SCHEMA_VERSION, Strict
from loraudit.spec.memorization import MemorizationResult
from loraudit.spec.requests import AuditSpec
from loraudit.types import Finding

VerdictLevel = Literal["leaks", "detectable", "not_seen", "inverted", "unknown"]


class SideSummary(Strict):
    """One side's records, as used."""

    files: list[dict[str, Any]] = Field(description="File name, sha256 and rows read of each file.")
    n_read: int
    n_bad: int = Field(description="Unreadable rows that were skipped.")
    n_duplicates: int = Field(description="Repeats of an earlier record of the same side, left out.")
    n_overlap: int = Field(description="Records that stood on both sides, left out.")
    n_left_out: int = Field(description="Records left out by --max-records.")
    n_set_aside: int = Field(default=0, description="Records set aside for the prefix of recall, and not audited.")
    n_records: int
    n_groups: int
    n_tokens: int = Field(description="Audited tokens.")
    n_windowed: int = Field(description="Records longer than one window.")
    status: dict[str, int] = Field(description="Records by status; only 'ok' ones have scores.")


class ModelSummary(Strict):
    """A model as it was loaded."""

    name: str
    kind: str
    fingerprint: str = Field(description="sha256 over the content of weights and config.")
    details: dict[str, Any] = Field(default_factory=dict)


class AttackResult(Strict):
    """One attack's findings."""

    name: str
    summary: str
    source: str
    needs: list[str]
    cost: str
    population: Literal["all", "nonmembers"] | None = Field(
        default=None,
        description="What it first learned from: all records, unlabelled; or non-members of other folds.",
    )
    status: Literal["ok", "error", "not_measured"]
    reason: str | None = None
    seconds: float = 0.0
    findings: dict[str, Finding] = Field(default_factory=dict)
    p_value: float | None = Field(default=None, description="One-sided, of an AUC of at most 0.5.")
    p_holm: float | None = Field(
        default=None, description="The same after Holm's correction over all attacks but the headline."
    )


class BestAttack(Strict):
    """The attack with the largest AUC, corrected for having been chosen among all."""

    name: str
    n_attacks: int
    auc: Finding = Field(description="With an interval that holds for every attack at once.")
    p_value: float | None = Field(description="That no attack sees anything, by the largest of each resample.")


class DatasetTest(Strict):
    """Whether the set as a whole is recognisable, on a half that did not choose the attack."""

    attack: str = Field(description="Largest AUC on the first half.")
    auc: Finding = Field(description="Of that attack on the second half.")
    p_mann_whitney: float | None = Field(description="One-sided; by documents where there are groups.")
    p_welch: float | None = Field(description="One-sided Welch t test of the mean score; None where it is undefined.")
    n_to_detect: int | None = Field(
        description="Records a side at which this AUC is detected with 80 % power at 5 %, one-sided; None if never."
    )


class ExposedRecord(Strict):
    """A member that stands out, without its text."""

    id: str = Field(description="Keyed hash, as in scores.parquet.")
    score: float | None = Field(description="None where it is infinite.")
    p_value: float = Field(description="Calibrated on the non-members: (1 + those scoring as high) / (1 + all).")
    q_value: float = Field(description="Benjamini-Hochberg over all members.")
    n_tokens: int
    n_copies: int | None
    snippet: str = Field(description="Its beginning with every word and number masked.")


class Subgroup(Strict):
    """Exposure of some of the records. Exploratory: chosen by nobody in advance and not corrected."""

    by: str = Field(description="length, copies, or the name of the user's column.")
    name: str
    n_members: int
    n_nonmembers: int
    auc: Finding
    tpr: Finding = Field(description="At a threshold set on all non-members.")
    fpr: float = Field(description="The rate of that threshold.")


class RecordsResult(Strict):
    """Single records, by the headline attack."""

    fdr: float
    n_exposed: int = Field(description="Members called exposed at that false-discovery rate.")
    smallest_p_value: float = Field(description="The smallest that so many non-members allow.")
    exposed: list[ExposedRecord]
    subgroups: list[Subgroup]


class ShadowComparison(Strict):
    """One attack against the base and against the mean of shadow models, on the same records."""

    against_base: str = Field(description="Attack that compares with the reference.")
    against_shadows: str = Field(description="The same attack with the shadows' mean as reference.")
    differences: dict[str, Finding] = Field(description="Second minus first, by metric.")
    p_values: dict[str, float | None] = Field(description="Two-sided, of no difference, by metric.")


class ShadowSummary(Strict):
    """The shadow models of an audit."""

    n_shadows: int
    n_per_record: int = Field(description="Shadows that score each record, none of which was trained on it.")
    trained_on: Literal["pool", "nonmembers", "audited"] = Field(
        description="What each was trained on a half of: a pool, the non-members, or all audited records."
    )
    n_records: list[int] = Field(description="Records that each was trained on.")
    n_in_common: int = Field(description="Records they were drawn from.")
    recipe: dict[str, Any] = Field(description="Of the first; the others differ in the seed.")
    recipe_source: str
    fingerprints: list[str]
    files: list[dict[str, Any]] = Field(description="File, sha256 and rows of each file of the pool.")


class FusionPart(Strict):
    """What one score adds to a fusion."""

    name: str
    auc: Finding = Field(description="Of the fusion: in `without`, of all others; in `order`, of this and all before.")
    adds: Finding = Field(
        description="AUC with this score minus AUC without it; of the first in `order`, minus 0.5. Paired DeLong."
    )


class FusionResult(Strict):
    """What all scores show together to somebody who has the labels: the auditor's upper bound, no attack."""

    label: str = "auditor's upper bound"
    reason: str | None = Field(default=None, description="Why it is not measured; None where it is.")
    attacks: list[str] = Field(description="Scores that were fused: those that take more than one value.")
    n_folds: int = Field(description="Disjoint by document; the model of each learned on all others.")
    error_factor: float = Field(description="By which intervals are wider, because folds err together.")
    findings: dict[str, Finding] = Field(default_factory=dict, description="Of the fused scores, by metric.")
    beyond_headline: dict[str, Finding] = Field(
        default_factory=dict, description="Fusion minus headline attack on the same records, by metric."
    )
    blind: list[str] = Field(
        default_factory=list, description="Scores that never saw the target, fused alike for comparison."
    )
    blind_auc: Finding | None = Field(default=None, description="Of that fusion.")
    beyond_blind: Finding | None = Field(default=None, description="AUC of the fusion minus that.")
    without: list[FusionPart] = Field(default_factory=list, description="The fusion without each score.")
    order: list[FusionPart] = Field(
        default_factory=list,
        description="The scores that add most, one after the other; chosen with the labels, hence with hindsight.",
    )


class SlowSummary(Strict):
    """The altered copies of the records that slow attacks look at."""

    n_neighbours: int = Field(description="Copies of each record in which tokens are replaced.")
    replaced_share: float = Field(description="Of the audited tokens, in each copy.")
    n_likeliest: int = Field(description="Of the base's predictions, among which a replacement is drawn.")
    drawn_by: str | None = Field(description="Model whose predictions those are; never the target.")
    drawn_by_fingerprint: str | None
    n_without_neighbours: int = Field(description="Records in which nothing can be replaced.")
    n_shots: int = Field(description="Records in the prefix, none of them audited.")
    n_shots_asked: int
    is_prefix_cut: bool = Field(description="Whether the first of them lacks its beginning, for want of room.")
    n_prefix_tokens: int
    prefix_from: str | None
    n_set_aside: int = Field(description="Non-members that are not audited for the sake of the prefix.")
    n_too_long: int = Field(description="Records that do not fit into one window with the prefix.")
    files: list[dict[str, Any]] = Field(description="File, sha256 and rows of each file of the prefix.")
    n_tokens: dict[str, int] = Field(description="Sent through a model in this run, by part.")
    seconds: dict[str, float] = Field(description="Spent on it in this run, by part.")


class MembershipResult(Strict):
    """What the attacks found."""

    headline: str
    attacks: list[AttackResult]
    best: BestAttack | None = None
    dataset_test: DatasetTest | None = None
    records: RecordsResult | None = None
    shadows: ShadowComparison | None = Field(default=None, description="What shadow models change.")
    fusion: FusionResult | None = Field(default=None, description="What all scores show together.")

    def attack(self, name: str) -> AttackResult:
        """The result of the attack called `name`.

        Raises:
            KeyError: It is not part of the result.
        """
        for result in self.attacks:
            if result.name == name:
                return result
        raise KeyError(name)


class Gate(Strict):
    """One check that the numbers can mean what they say."""

    name: str
    kind: Literal["blind", "control", "overlap"]
    status: Literal["passed", "warned", "failed", "not_measured"]
    summary: str = Field(description="What is checked.")
    reason: str = Field(description="What came out, in words.")
    finding: Finding | None = None
    p_value: float | None = None
    p_holm: float | None = Field(default=None, description="After Holm's correction over all gates that test.")


class ValidityResult(Strict):
    """Whether the two sides are of one kind, by what can be told of them without the target."""

    gates: list[Gate]
    strongest_blind: str | None = Field(
        description="The blind classifier with the largest AUC; the trained bag of words is never turned round."
    )
    headline_minus_blind: dict[str, Finding] = Field(
        default_factory=dict, description="The headline where a gate failed: attack minus strongest blind classifier."
    )

    @property
    def failed(self) -> list[Gate]:
        """The gates that failed."""
        return [gate for gate in self.gates if gate.status == "failed"]


class LimitResult(Strict):
    """What became of one limit of the policy."""

    limit: str
    status: Literal["holds", "exceeded", "not_measured"]
    measured: float | None
    reason: str


class VerdictResult(Strict):
    """The one judgement that every format of the report and the exit code repeat."""

    level: VerdictLevel = Field(
        description="leaks (single members can be picked out), detectable (the set as a whole can), not_seen, "
        "inverted (non-members score higher) or unknown."
    )
    heading: str
    sentence: str = Field(description="With numbers and their uncertainty.")
    threat_model: str = Field(description="Who could do this, and with what.")
    validity: str | None = Field(description="Which gates failed and what follows; None where all hold.")
    limits: list[LimitResult]
    is_partial: bool = Field(description="An attack failed, or more than 1 % of the records could not be scored.")
    exit_code: int


class Provenance(Strict):
    """Hashes of everything that went in, and of the scores that came out."""

    weights: dict[str, str] = Field(description="sha256 over weights, configuration and code, by model.")
    tokenizer: str
    chat_template: str | None = Field(description="sha256 of the chat template; None where there is none.")
    data: dict[str, str] = Field(description="sha256 of each file of records.")
    scores: str = Field(description="sha256 of scores.parquet.")
    memorization: str | None = Field(default=None, description="sha256 of memorization.parquet.")


class AuditResult(Strict):
    """`result.json`: everything an audit found and what it takes to repeat it."""

    schema_version: int = SCHEMA_VERSION
    loraudit: str
    spec: AuditSpec
    spec_hash: str
    command: str
    target: ModelSummary
    reference: ModelSummary | None
    members: SideSummary
    nonmembers: SideSummary
    numerics: dict[str, Any]
    versions: dict[str, str]
    scoring: dict[str, Any]
    power: str | None = Field(default=None, description="What this many records can show, said before scoring.")
    verdict: VerdictResult | None = None
    validity: ValidityResult | None = None
    membership: MembershipResult
    shadows: ShadowSummary | None = None
    slow: SlowSummary | None = None
    memorization: MemorizationResult | None = Field(default=None, description="What can be extracted.")
    provenance: Provenance | None = None
    warnings: list[str]
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float
