"""What is asked of `loraudit forecast`, and what it predicts."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from loraudit.spec.form import SCHEMA_VERSION, Names, Strict, as_tuple
from loraudit.spec.making import Request
from loraudit.spec.poisoning import Task
from loraudit.spec.results import LimitResult, ModelSummary
from loraudit.spec.robustness import PoisonResult
from loraudit.spec.tasks import PoisonedTask
from loraudit.types import Finding

InitialisationFamily = Literal["gaussian", "uniform", "orthogonal"]
LoraScaling = Literal["alpha/r", "alpha/sqrt(r)"]
ForecastMethodName = Literal["full", "head", "bitfit", "lora"]
TargetSet = Literal["all", "attention", "mlp"]
FittedLoss = Literal["logistic", "squared"]
Several = BeforeValidator(as_tuple)
_METHOD_WITH_RANK = re.compile(r"lora:(?:rank=)?(\d+)")


def _without_settings(name: object) -> object:
    """A method's name alone; one with settings, as training takes it, is refused with where they are given."""
    if not isinstance(name, str) or ":" not in name:
        return name
    rank = _METHOD_WITH_RANK.fullmatch(name)
    where = f"--ranks {rank[1]}" if rank else "--ranks, --variances, --alphas and --targets"
    raise PydanticCustomError(
        "method_with_settings",
        "'full', 'head', 'bitfit' or 'lora' alone; settings of LoRA are given apart, here with {where}",
        {"where": where},
    )


Ranks = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Several]
PositiveNumbers = Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Several]
FORECAST_METHODS: tuple[ForecastMethodName, ...] = ("full", "head", "bitfit", "lora")
DEFAULT_RANKS = (1, 2, 4, 8, 16, 32, 64)
KAIMING_VARIANCE = 1 / 3
"""c of PEFT's default initialisation: A is uniform on ±1/√n, of variance 1/(3n)."""
MOST_EIGENVALUES = 64
"""Eigenvalues of a kernel that a result lists."""


class ForecastSpec(Request, PoisonedTask):
    """Which tuning methods to predict, on what. Every field is also a flag of `loraudit forecast`."""

    command: ClassVar[str] = "forecast"
    how_not_what: ClassVar[frozenset[str]] = frozenset(
        {"device", "offline", "out", "fail_on", "policy", "memory", "measured"}
    )

    base: str = Field(description="Checkpoint that tuning would start from: a folder or a hub name.")
    max_records: int | None = Field(
        default=128, ge=2, description="Records that tuning is predicted on, drawn at random."
    )
    test_records: int | None = Field(default=200, ge=2, description="Records it is tested on, drawn at random.")

    methods: Annotated[tuple[Annotated[ForecastMethodName, BeforeValidator(_without_settings)], ...], Several] = Field(
        default=FORECAST_METHODS, description="Tuning methods: full, head, bitfit, lora."
    )
    ranks: Ranks = Field(default=DEFAULT_RANKS, description="Ranks of LoRA.")
    variances: PositiveNumbers = Field(
        default=(KAIMING_VARIANCE,),
        description="c of LoRA's initial A, whose entries have variance c divided by the layer's width; PEFT's is 1/3.",
    )
    alphas: PositiveNumbers = Field(
        default=(), description="alpha of LoRA (default: twice the rank, as `loraudit tune` takes it)."
    )
    scaling: LoraScaling = Field(default="alpha/r", description="Factor of the update; alpha/sqrt(r) is rsLoRA.")
    targets: Annotated[tuple[TargetSet, ...], Several] = Field(
        default=("all",), description="Linear maps that LoRA adapts: all, attention, mlp; each is predicted."
    )
    family: InitialisationFamily = Field(default="uniform", description="Of LoRA's initial A.")
    draws: int = Field(
        default=4,
        ge=2,
        description="Draws of A. Each makes its own prediction, beside one of the heads, and predictions are averaged.",
    )
    heads: int = Field(
        default=3, ge=1, description="Draws of a classifier's head where the base has none; predictions are averaged."
    )
    loss: FittedLoss = Field(
        default="logistic", description="What is fitted: logistic, as in training, or squared, in closed form."
    )
    clean_loss: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Clean loss in nats at which methods are compared (default: where the weakest that learns has had "
        "nine tenths of its gain).",
    )
    max_linear_error: float = Field(
        default=0.3, gt=0, allow_inf_nan=False, description="One-step error above which a prediction is refused."
    )
    measured: str | None = Field(
        default=None, description="Robustness run of the same base and task, to set the prediction against."
    )
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context)."
    )
    on_long: Literal["error", "cut"] = Field(
        default="error", description="Classification: refuse texts longer than a window, or cut and count them."
    )
    memory: float = Field(default=4.0, gt=0, allow_inf_nan=False, description="GiB that one part of the pass may take.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples.")
    fail_on: Names = Field(
        default=(), description="Conditions that end with exit code 1, such as 'asr.value > 0.5' or 'refused > 0'."
    )
    policy: str | None = Field(default=None, description="File with such conditions under fail-on.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    out: str | None = Field(default=None, description="Run folder (default: runs/forecast-<hash of the spec>).")


class LinearityCheck(Strict):
    """One real step of gradient descent beside the step that the kernel predicts."""

    step: float = Field(description="Share of the largest stable step, 1 / the kernel's largest eigenvalue.")
    relative_error: float | None = Field(
        description="‖real change − predicted change‖ / ‖real change‖ over probe records; None where nothing moved."
    )
    lower: float | None = Field(default=None, description="Of its interval, by jackknife over records.")
    upper: float | None = Field(default=None, description="Likewise.")
    n: int = Field(description="Probe records.")


class KernelShape(Strict):
    """Spectrum of a kernel over the training records. What depends on the scale stands apart from what does not."""

    trace: float = Field(description="Mean of the diagonal: the speed at which a record's own output moves.")
    monte_carlo_error: float | None = Field(
        default=None, description="Of the whole kernel over draws of A, relative; None for methods without draws."
    )
    effective_rank: float | None = Field(description="exp of the entropy of the normalised spectrum.")
    participation: float | None = Field(description="(Σλ)² / Σλ².")
    entropies: dict[str, float | None] = Field(description="Rényi's H_α in nats by α: 0, 0.5, 1, 2, inf.")
    log_det: float | None = Field(description="log det(I + K / mean of the diagonal).")
    top_share: dict[int, float | None] = Field(description="Share of the largest 1, 10 and 50 eigenvalues in the sum.")
    eigenvalues: Annotated[list[float], Field(max_length=MOST_EIGENVALUES)] = Field(description="Descending.")
    agreement_with_full: Finding | None = Field(
        description="Centred cosine with the kernel of full tuning; None where that was not asked for."
    )
    alignment: Finding = Field(description="Centred alignment with the clean labels.")


class LoraTheory(Strict):
    """What the theory says of a LoRA from its numbers alone; None where it has no formula for the family of A."""

    h1_published: float | None = Field(
        description="log(σ²rn), unnormalised, arXiv:2505.12871; mean over the adapted maps."
    )
    h2_published: float | None = Field(description="Likewise, diagonal terms alone.")
    h2_corrected: float | None = Field(description="The same from the whole second moment.")
    participation: float | None = Field(description="r·n / (n + r − 2 + κ).")
    speed_sgd: float | None = Field(description="α²σ²/r.")
    speed_adam: float | None = Field(description="ασ.")


class TwinsResult(Strict):
    """How a method sees poisoned records beside the same records clean."""

    attack: str
    proxy: Finding = Field(description="M' = |mean K(x, x̃)|, arXiv:2505.12871; larger is less robust.")
    cosine: Finding = Field(description="Mean K(x, x̃) / √(K(x, x) K(x̃, x̃)): 1 where the method cannot tell.")
    poison_alignment: Finding = Field(description="Centred alignment with the labels as poisoned.")
    n: int = Field(description="Twins, at the largest dose.")


class ForecastMethod(Strict):
    """One tuning method of the grid."""

    name: str = Field(description="full, head, bitfit, or as lora:8, with c, alpha and targets where they vary.")
    method: ForecastMethodName
    rank: int | None = None
    variance: float | None = Field(default=None, description="c.")
    alpha: float | None = None
    alpha_follows_rank: bool = Field(default=False, description="alpha is twice the rank all over the grid.")
    targets: TargetSet | None = None
    n_trained_parameters: int
    shape: KernelShape
    theory: LoraTheory | None = None
    twins: list[TwinsResult]
    linearity: list[LinearityCheck]
    refused: str | None = Field(description="Why nothing is predicted of it.")


class PredictedPoint(Strict):
    """What is predicted of one method at one dose, where its clean arm has the stated clean loss. Rates in [0, 1]."""

    dose: float
    n_poisoned: int
    time: float | None = Field(description="Of gradient flow, in units of 1 / the method's trace; None: not reached.")
    accuracy: Finding | None = Field(description="On clean test records.")
    attack_success: Finding | None = Field(description="Of triggered ones; None for an attack without a trigger.")
    per_start: list[float | None] = Field(
        description="Accuracy, or success of a backdoor, from each start: a draw of the head with a draw of A."
    )


class PredictedCurve(Strict):
    """A method against the doses of an attack; dose 0 is clean."""

    attack: str
    method: str
    points: list[PredictedPoint]


class MeasuredComparison(Strict):
    """Predictions against a robustness run, over the same methods, attacks and doses."""

    run: str
    measure: Literal["accuracy", "attack_success"]
    spearman: Finding
    cells: list[dict[str, Any]] = Field(description="method, attack, dose, predicted, measured of each cell.")
    baselines: dict[str, Finding] = Field(description="Spearman of dose, H1', H2', rσ² and ασ with what was measured.")


class ForecastResult(Strict):
    """`result.json` of a forecast."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["forecast"] = "forecast"
    loraudit: str
    spec: ForecastSpec
    spec_hash: str
    command: str
    base: ModelSummary
    trained_as: Task
    functional: str = Field(description="What f is, in words.")
    n_train: int
    n_validation: int = Field(default=0, description="Records that the clean loss is predicted on.")
    n_test: int
    classes: dict[str, int]
    data: list[dict[str, Any]] = Field(description="File, sha256 and rows of each file read.")
    heading: str
    sentence: str = Field(description="What the forecast says, with numbers.")
    attacks: list[PoisonResult]
    methods: list[ForecastMethod]
    clean_loss: float | None = Field(
        description="At which methods are compared, nats per record; None: none is shared."
    )
    base_loss: float = Field(description="At the base.")
    curves: list[PredictedCurve]
    comparisons: list[MeasuredComparison]
    limits: list[LimitResult]
    numerics: dict[str, Any]
    versions: dict[str, str]
    n_passes: int = Field(description="Forward and backward passes over the records, each for a part of the layers.")
    warnings: list[str]
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float
