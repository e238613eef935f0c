"""What is asked of `loraudit influence`, and what it predicts of every record."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from loraudit.spec.forecast import LinearityCheck
from loraudit.spec.form import SCHEMA_VERSION, Strict
from loraudit.spec.making import Request
from loraudit.spec.results import ModelSummary
from loraudit.types import Finding

FitFlow = Literal["squared", "log"]
"""What gradient flow goes down: ½ f², which ends at f = 0, or −f itself, which never saturates."""
FIT_FLOWS: tuple[FitFlow, ...] = ("squared", "log")


class InfluenceSpec(Request):
    """Which contrast is to be predicted, record by record. Every field is also a flag of `loraudit influence`."""

    command: ClassVar[str] = "influence"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"device", "offline", "out", "memory"})

    contrast: str = Field(description="Folder of a finished contrast.")
    max_records: int = Field(
        default=128, ge=4, description="Members to probe, and as many non-members, drawn at random."
    )
    draws: int = Field(
        default=4, ge=2, description="Draws of LoRA's A; each is predicted on its own, and the mean shown."
    )
    extractable: float = Field(
        default=1e-3,
        gt=0,
        lt=1,
        description="Probability of a record's suffix, in one attempt, from which it counts as extractable.",
    )
    max_linear_error: float = Field(
        default=0.3, gt=0, allow_inf_nan=False, description="One-step error above which a prediction is refused."
    )
    memory: float = Field(default=4.0, gt=0, allow_inf_nan=False, description="GiB that one part of the pass may take.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    seed: int = Field(default=0, ge=0, description="Of the draw of records and of A.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
    out: str | None = Field(default=None, description="Run folder (default: runs/influence-<hash of the spec>).")


class FitAgreement(Strict):
    """Spearman's correlation of one predicted quantity with one measured one, beside those of baselines."""

    predicted: str = Field(description="gain or own.")
    measured: str = Field(description="gain, excess, suffix_gain, suffix, or score: and the name of an attack.")
    side: Literal["members", "nonmembers"]
    spearman: Finding
    baselines: dict[str, Finding] = Field(
        description="The same measurement against what needs no kernel of the method: base_loss, length, and "
        "full_self_influence."
    )


class FitPrediction(Strict):
    """What one flow predicts of a method, where the non-members gain what was measured of the validation records.

    Of LoRA every draw of A has a flow of its own, and what is predicted of a record is the mean over draws.
    """

    flow: FitFlow
    time: float | None = Field(
        description="Of the flow at the matched level, in units of 1 / the mean diagonal of the method's kernel, mean "
        "over draws of A; None: the non-members never gain as much, under some draw."
    )
    own: Finding | None = Field(
        default=None, description="Mean over members of f with the record minus f without it, nats per token."
    )
    own_draw_error: float | None = Field(
        default=None,
        description="Standard error over draws of A of the members' mean own part, nats per token; None without draws.",
    )
    gap: Finding | None = Field(
        default=None, description="Mean predicted gain of members minus that of non-members, nats per token."
    )
    agreements: list[FitAgreement] = Field(default_factory=list)


class MethodGap(Strict):
    """Difference of another method's own part and measured gap from the first method's, over the same records."""

    other: str = Field(description="The method that it is compared with.")
    predicted: dict[FitFlow, Finding] = Field(description="Own part of the other minus own part of this one.")
    measured: Finding = Field(description="Measured gap of the other minus measured gap of this one.")


class ExtractionOutcome(Strict):
    """Suffixes after training ended, predicted and measured, in one attempt from all tokens at T = 1."""

    flow: FitFlow
    time: float | None
    log_p: Finding | None = Field(description="Mean predicted log p of the members' suffixes, nats.")
    share: Finding | None = Field(description="Members whose predicted p is at the threshold or above.")
    held_out_share: Finding | None = Field(description="The same of non-members.")
    agreements: list[FitAgreement] = Field(default_factory=list)


class MethodExtraction(Strict):
    """What was measured of the suffixes of the first training run, and what is predicted."""

    validation_gain: float = Field(description="Measured at the end of that run, nats per token.")
    is_past_best: bool = Field(description="Whether the run had a lower validation loss before its end.")
    log_p: Finding
    share: Finding
    held_out_log_p: Finding
    held_out_share: Finding
    predicted: list[ExtractionOutcome]


class InfluenceMethod(Strict):
    """One method of the contrast."""

    name: str
    method: str
    rank: int | None = None
    alpha: float | None = None
    variance: float | None = None
    kinds: list[str] = Field(default_factory=list, description="Of the linear maps that LoRA adapts.")
    monte_carlo_error: float | None = Field(
        default=None,
        description="Standard error of the mean kernel over draws of A, relative to it; no prediction is made from it.",
    )
    epoch: float = Field(description="Mean epoch at which its runs have the matched validation loss.")
    n_runs: int
    linearity: list[LinearityCheck]
    refused: str | None = Field(description="Why nothing is predicted of it.")
    gap: Finding = Field(description="Measured mean gain of members minus that of non-members, nats per token.")
    gain: Finding = Field(description="Measured mean gain of the probed non-members, nats per token.")
    predictions: list[FitPrediction]
    against: MethodGap | None = Field(default=None, description="Beside the first method; None for itself.")
    extraction: MethodExtraction | None = None


class LeftOutMethod(Strict):
    """A method of the contrast that no kernel here describes."""

    name: str
    why: str


class InfluenceResult(Strict):
    """`result.json` of `loraudit influence`."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["influence"] = "influence"
    loraudit: str
    spec: InfluenceSpec
    spec_hash: str
    command: str
    contrast: str = Field(description="Hash of the contrast's request.")
    base: ModelSummary
    functional: str = Field(description="What f is, in words.")
    n_trained: int = Field(description="Members that the contrast trained on.")
    n_members: int = Field(description="Of them, probed.")
    n_nonmembers: int
    level: float = Field(description="Validation loss at which methods are compared, nats per token.")
    base_validation_loss: float
    suffix: dict[str, int] | None = Field(description="Tokens given and tokens to follow; None: nothing was extracted.")
    base_extraction: dict[str, Finding] = Field(description="log_p and share of the members' suffixes under the base.")
    heading: str
    sentence: str
    methods: list[InfluenceMethod]
    left_out: list[LeftOutMethod]
    records: str = Field(description="sha256 of influence.parquet.")
    numerics: dict[str, Any]
    versions: dict[str, str]
    n_passes: int = Field(description="Forward and backward passes over the records, each for a part of the layers.")
    warnings: list[str]
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float
