"""What is asked of `loraudit contrast`, and what it found."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from loraudit.spec.form import SCHEMA_VERSION, Names, Paths, Rate, Strict, as_tuple
from loraudit.spec.making import Request
from loraudit.spec.memorization import MemorizationResult
from loraudit.spec.memorizing import MemorizationOptions
from loraudit.spec.recipe import Epochs
from loraudit.spec.requests import DEFAULT_FPRS, Precision, RecordFormat
from loraudit.spec.results import ModelSummary, ValidityResult
from loraudit.spec.tuning import Repeats
from loraudit.types import Finding

Rates = Annotated[tuple[Rate, ...], BeforeValidator(as_tuple)]
LearningRates = Annotated[tuple[PositiveFloat, ...], BeforeValidator(as_tuple)]
MatchKind = Literal["validation_loss", "training_loss", "epochs", "best"]
DEFAULT_METHODS = ("full", "head", "lora:4", "lora:16", "lora:64")
SUMMED_LOSS, N_TOKENS = "summed_loss", "n_tokens"
"""Columns of a contrast's `scores.parquet`: summed −log p of the audited tokens in nats, and how many those are."""


class ContrastSpec(Request, RecordFormat, MemorizationOptions):
    """Which methods to compare on which records. Every field is also a flag of `loraudit contrast`."""

    command: ClassVar[str] = "contrast"
    how_not_what: ClassVar[frozenset[str]] = frozenset(
        {"device", "batch_tokens", "offline", "out", "store", "attack_timeout", "keep_checkpoints"}
    )
    added_later: ClassVar[frozenset[str]] = frozenset(
        {"shadow", "pool", "record_tokens", "least_tokens", *MemorizationOptions.model_fields}
    )

    base: str = Field(description="Checkpoint that every method starts from: a folder or a hub name.")
    data: Paths = Field(description="Records; split at random into members, non-members and validation records.")
    max_records: int | None = Field(
        default=None, ge=1, description="Use at most this many members and as many non-members, drawn at random."
    )
    validation_records: int | None = Field(
        default=None,
        ge=1,
        description="How many records the validation loss is taken on (default: a tenth, at most 500).",
    )

    record_tokens: int | None = Field(
        default=None, ge=2, description="Use only the first so many tokens of each text (default: all of it)."
    )
    least_tokens: int | None = Field(default=None, ge=1, description="Leave out texts of fewer tokens (default: none).")

    methods: Names = Field(
        default=DEFAULT_METHODS,
        description="A method, with settings of its own after a colon, such as full, lora:16 (rank), "
        "lora:rank=8,dora=true or full:dp_epsilon=8; seeds=1 among them is for this method alone.",
    )
    seeds: int = Field(default=3, ge=1, description="Training runs per method; their spread is stated.")
    epochs: int = Field(default=3, ge=1, description="Passes over the members.")
    batch_size: int = Field(default=16, ge=1, description="Windows per step.")
    measure_at: Epochs = Field(
        default=(),
        description="Epochs after which leakage is measured (default: ¼, ½, 1, 2, 3, 4, 6, 8, 12 … and the last).",
    )
    settings: Names = Field(
        default=(), description="KEY=VALUE of the recipe, for every method, such as weight_decay=0.1."
    )
    learning_rates: LearningRates = Field(
        default=(),
        description="Candidates for every method; by default a search around a usual rate. The choice is made on "
        "validation loss after --search-epochs, never on leakage.",
    )
    search_epochs: int = Field(default=1, ge=1, description="Epochs of each candidate of that search.")
    keep_duplicates: bool = Field(
        default=True, description="Train on a record as often as it stands in the files, or once."
    )
    repeats: Repeats = Field(
        default=(),
        description="Plant duplicates: each number of repeats goes to an equal share of the members, at random.",
    )
    at_epochs: Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="Epochs at which methods are compared (default: the first, a middle one and the last)."
    )

    shadow: int = Field(
        default=0,
        ge=0,
        description="Train this many shadow models by each method's recipe and measure every run against them after "
        "the same epochs; on halves of --pool, or of the non-members, each scored only by shadows that never saw it.",
    )
    pool: Names = Field(default=(), description="Records of the same domain beside --data that shadows are trained on.")

    span: Literal["trained", "all"] = Field(
        default="trained", description="Tokens trained on and audited: completions and assistant turns, or all."
    )
    append_eos: bool = Field(default=False, description="End every record with the end-of-text token.")
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context, at most 2048)."
    )

    attacks: Names = Field(default=(), description="Attacks to run (default: all that the evidence allows).")
    headline: str = Field(
        default="error_zone", description="The attack the comparison rests on, declared before the run."
    )
    fpr: Rates = Field(
        default=DEFAULT_FPRS, description="False-positive rates at which to state the true-positive rate."
    )
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    attack_timeout: float = Field(default=600, gt=0, description="Seconds one attack may take.")
    seed: int = Field(default=0, ge=0, description="Of the split and of the first training run.")

    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    precision: Precision | None = Field(default=None, description="Of scoring, as in `loraudit audit`.")
    batch_tokens: int | None = Field(default=None, ge=16, description="Tokens per forward pass (default: by device).")
    keep_checkpoints: bool = Field(
        default=False, description="Keep the weights of every measured checkpoint instead of the final ones alone."
    )
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
    out: str | None = Field(default=None, description="Run folder (default: runs/contrast-<hash of the spec>).")
    store: str | None = Field(
        default=None, description="Evidence store shared by runs (default: .loraudit beside the run)."
    )


class SeededFinding(Strict):
    """A number that is a mean over training runs.

    The finding's interval holds both kinds of chance: which records were drawn, and how training fell out.
    """

    finding: Finding
    per_seed: list[float | None] = Field(description="The value of each run, by seed.")
    seed_deviation: float | None = Field(description="Standard deviation over the runs; None with one run.")


class TriedRate(Strict):
    """One candidate of a learning-rate search."""

    learning_rate: float
    validation_loss: float | None = Field(description="The lowest of its epochs; None where training diverged.")


class MeasuredPoint(Strict):
    """One checkpoint of one training run."""

    step: int
    epoch: float
    validation_loss: float
    member_loss: float = Field(description="Mean loss on the members' audited tokens, nats, without dropout.")
    nonmember_loss: float
    findings: dict[str, Finding] = Field(description="Of the headline attack.")


class ArmRun(Strict):
    """One training run."""

    seed: int
    model: str = Field(description="Folder of the tuned model, relative to the run folder.")
    points: list[MeasuredPoint] = Field(description="The first is the untouched base.")
    n_steps: int
    stopped_because: str | None = None
    epsilon: float | None = Field(default=None, description="Of differential privacy, where it was trained with it.")


class ArmResult(Strict):
    """One method."""

    name: str = Field(description="As asked for.")
    method: str
    recipe: dict[str, Any] = Field(description="Of the first run; the others differ in the seed.")
    learning_rate: float
    search: list[TriedRate] = Field(description="Empty where the rate was given.")
    n_trained_parameters: int
    n_parameters: int
    runs: list[ArmRun]
    audit: str | None = Field(default=None, description="Run folder of the whole audit of the first run's model.")
    memorization: MemorizationResult | None = Field(
        default=None,
        description="What can be extracted from the first run's model; all of it, and single records, in that folder.",
    )


class MatchedArm(Strict):
    """One method at a level of fit."""

    name: str
    is_reached: bool
    n_reached: int = Field(description="Runs that reach the level.")
    epoch: float | None = Field(description="Mean epoch at which they do.")
    validation_loss: float | None
    attacks: dict[str, dict[str, SeededFinding]] = Field(description="By attack, then by metric.")


class MatchedDifference(Strict):
    """First method minus second, headline attack, same records."""

    first: str
    second: str
    metrics: dict[str, Finding]
    p_values: dict[str, float | None] = Field(description="Two-sided, by metric.")
    p_holm: float | None = Field(description="Of the AUC, after Holm's correction over the pairs of this match.")


class Match(Strict):
    """All methods at the same fit."""

    kind: MatchKind
    level: float | None = Field(description="Loss in nats or number of epochs; None for each method's own best.")
    description: str
    arms: list[MatchedArm]
    differences: list[MatchedDifference]


class ExposureRow(Strict):
    """Members that were seen equally often, against all non-members, at the end of training."""

    arm: str
    exposures: int = Field(description="Copies × epochs.")
    copies: int
    metrics: dict[str, SeededFinding]


class ContrastResult(Strict):
    """`result.json` of a contrast."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["contrast"] = "contrast"
    loraudit: str
    spec: ContrastSpec
    spec_hash: str
    command: str
    base: ModelSummary
    n_members: int
    n_nonmembers: int
    n_validation: int
    data: list[dict[str, Any]] = Field(description="File, sha256 and rows of each file read.")
    base_validation_loss: float
    heading: str
    sentence: str = Field(description="What the comparison says, with numbers and their uncertainty.")
    arms: list[ArmResult]
    matches: list[Match]
    exposure: list[ExposureRow]
    validity: ValidityResult | None
    numerics: dict[str, Any]
    versions: dict[str, str]
    scores: str = Field(description="sha256 of scores.parquet.")
    warnings: list[str]
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float

    @property
    def run_counts(self) -> tuple[int, int]:
        """The fewest and the most training runs that a method has."""
        counts = [len(arm.runs) for arm in self.arms]
        return min(counts), max(counts)

    def match(self, kind: str) -> Match | None:
        """The first comparison of that kind."""
        return next((match for match in self.matches if match.kind == kind), None)
