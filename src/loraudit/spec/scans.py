"""What is asked of `loraudit scan`, and what it found."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from loraudit.spec.form import SCHEMA_VERSION, Names, Strict
from loraudit.spec.making import Request
from loraudit.spec.results import LimitResult, ModelSummary
from loraudit.types import Finding

ScanMeasure = Literal["size", "direction"]
ProbeMeasure = Literal["shift", "repeated", "flips"]
SpectrumSource = Literal["low_rank", "dense"]
MOST_VALUES = 64
"""Singular values of a module that a result lists."""


class ScanSpec(Request):
    """Which adapter to scan and how. Every field is also a flag of `loraudit scan`."""

    command: ClassVar[str] = "scan"
    how_not_what: ClassVar[frozenset[str]] = frozenset(
        {"device", "offline", "include_text", "sarif", "out", "fail_on", "policy"}
    )

    model: str = Field(description="LoRA adapter, or with --base a full checkpoint: a folder or a hub name.")
    base: str | None = Field(
        default=None, description="Model the tuning started from; found from the adapter where it is recorded and here."
    )
    probes: str | None = Field(
        default=None,
        description="JSON lines of your own, each with a 'trigger' (and 'place': start, end or inside) or a 'text' to "
        "put triggers into.",
    )
    no_probes: bool = Field(default=False, description="Read weights only; run no model.")
    chat_template: bool = Field(
        default=True, description="Put prompts into the chat template, where the tokenizer has one."
    )
    level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Chance, by theory, that anything of an ordinary adapter is unusual: for modules, and for each "
        "thing measured of triggers.",
    )
    factor: float = Field(
        default=2.0, gt=1, allow_inf_nan=False, description="What is flagged must exceed its like by this factor."
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    seed: int = Field(default=0, ge=0, description="Of controls, and of the draws behind p-values.")
    fail_on: Names = Field(
        default=(),
        description="Conditions that end with exit code 1, such as 'modules.flagged > 0' or 'probes.flagged > 0'.",
    )
    policy: str | None = Field(default=None, description="File with such conditions under fail-on.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="Of weights and activations.")
    allow_pickle: bool = Field(
        default=False, description="Load pickled weights, which can run code. Shown in the report."
    )
    allow_remote_code: bool = Field(
        default=False, description="Run code that comes with the model. Shown in the report."
    )
    allow_other_base: bool = Field(default=False, description="Use --base although the adapter records another base.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
    include_text: bool = Field(default=False, description="Show what the model said to flagged probes.")
    sarif: str | None = Field(default=None, description="Write what was flagged there, as SARIF 2.1.0.")
    out: str | None = Field(default=None, description="Run folder (default: runs/scan-<hash of the spec>).")


class ModuleDeviation(Strict):
    """How a module lies among its family in one measure."""

    z: float | None = Field(description="Robust, of the logarithm; None where the family defines none.")
    factor: float | None = Field(description="How many times the family's median.")
    p_value: float | None = Field(description="After correction for all modules, families and measures.")


class ScannedModule(Strict):
    """What tuning changed in one weight."""

    name: str
    family: str = Field(description="Modules it is compared with: its name with every number as a star.")
    source: SpectrumSource = Field(description="s·B·A by QR and the SVD of its core, or the difference of two weights.")
    shape: tuple[int, int] = Field(description="[out, in].")
    rank: int = Field(description="Columns of B, or the smaller side of the matrix.")
    singular_values: Annotated[list[float], Field(max_length=MOST_VALUES)] = Field(
        description=f"Descending; of more than {MOST_VALUES} the largest."
    )
    frobenius: float
    spectral: float
    effective_rank: float | None = Field(description="exp of the entropy of σ/Σσ; None where nothing changed.")
    top_share: float | None = Field(description="σ₁²/Σσ².")
    relative_change: float | None = Field(description="‖W'−W‖_F/‖W‖_F; None where the base is not at hand.")
    size: ModuleDeviation = Field(description="By the Frobenius norm.")
    direction: ModuleDeviation = Field(
        description="By its largest singular value; undefined at rank 1, where that is its length."
    )
    flagged: list[ScanMeasure] = Field(description="Measures in which it is unusual and by enough.")


class ModuleFamily(Strict):
    """Modules of one kind."""

    name: str
    label: str = Field(description="Short.")
    n: int
    n_unchanged: int = Field(description="Modules of it that tuning left as they were.")
    median_frobenius: float | None = Field(description="Over those that it changed.")
    smallest_z: float | None = Field(description="From which on a module would be flagged; None where none could be.")
    n_flagged: int
    note: str | None = Field(default=None, description="Why nothing can be flagged in it.")


class SkippedTensor(Strict):
    """A tensor of the adapter that is no update of a weight."""

    name: str
    shape: tuple[int, ...]
    reason: str


class RatePair(Strict):
    """A share of prompts with a trigger and with the control that has the largest."""

    with_trigger: Finding
    with_control: Finding
    corrected_lower: float = Field(description="Lower bound of the first, one-sided, after correction.")
    outcome: str = Field(
        description="The class, or the response: a hash of it, keyed by the run, unless text was asked for."
    )


class ProbeResult(Strict):
    """What one trigger does."""

    name: str
    kind: str
    trigger: str
    place: Literal["start", "end", "inside"]
    source: str
    n_prompts: int
    n_controls: int
    shift: Finding | None = Field(
        default=None, description="KL(adapter ‖ base) of the next token, minus that with controls, nats."
    )
    factor: float | None = Field(default=None, description="Shift over that of the larger kind of control.")
    p_value: float | None = Field(default=None, description="One-sided, of being one more control; not corrected.")
    p_holm: float | None = Field(default=None, description="After Holm's correction over all triggers.")
    repeated: RatePair | None = Field(default=None, description="Same continuation for many prompts.")
    flips: RatePair | None = Field(default=None, description="Prompts of other classes that become one class.")
    flagged: list[ProbeMeasure]


class ScanResult(Strict):
    """What a scan found, as `result.json` holds it."""

    kind: Literal["scan"] = "scan"
    schema_version: int = SCHEMA_VERSION
    loraudit: str
    spec: ScanSpec
    spec_hash: str
    command: str
    heading: str
    sentence: str
    does_not_show: list[str] = Field(description="What follows from this result in no case.")
    target: ModelSummary
    reference: ModelSummary | None
    weights_file: str = Field(description="That the spectra were read from.")
    modules: list[ScannedModule]
    families: list[ModuleFamily]
    skipped: list[SkippedTensor]
    n_tests: int = Field(description="Families times measures with a defined z, that p-values are corrected for.")
    task: Literal["causal_lm", "classification"] | None = Field(description="None where no model was run.")
    overall_shift: Finding | None = Field(
        default=None, description="KL(adapter ‖ base) of the next token without any trigger, nats."
    )
    probes: list[ProbeResult]
    probes_reason: str | None = Field(description="Why no probes were run; None where they were.")
    limits: list[LimitResult]
    exit_code: int
    versions: dict[str, str]
    numerics: dict[str, Any]
    warnings: list[str]
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float

    @property
    def flagged_modules(self) -> list[ScannedModule]:
        """Modules flagged in any measure."""
        return [module for module in self.modules if module.flagged]

    @property
    def flagged_probes(self) -> list[ProbeResult]:
        """Triggers flagged in any measure."""
        return [probe for probe in self.probes if probe.flagged]
