"""What is asked of `loraudit forecast`, and what it predicts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from loraudit.spec.form import Names, as_tuple
from loraudit.spec.making import Request
from loraudit.spec.requests import RecordFormat
from loraudit.spec.robustness import Doses
from loraudit.spec.tasks import TaskFiles

AFamily = Literal["gaussian", "uniform", "orthogonal"]
ForecastMethodName = Literal["full", "head", "bitfit", "lora"]
TargetSet = Literal["all", "attention", "mlp"]
Ranks = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(as_tuple)]
Positives = Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], BeforeValidator(as_tuple)]
DEFAULT_FORECAST_METHODS: tuple[ForecastMethodName, ...] = ("full", "head", "bitfit", "lora")
DEFAULT_RANKS = (1, 2, 4, 8, 16, 32, 64)
KAIMING_VARIANCE = 1 / 3
"""c of PEFT's default initialisation: A is uniform on ±1/√n, of variance 1/(3n)."""


class ForecastSpec(Request, RecordFormat, TaskFiles):
    """Which tuning methods to predict, on what. Every field is also a flag of `loraudit forecast`."""

    command: ClassVar[str] = "forecast"
    how_not_what: ClassVar[frozenset[str]] = frozenset({"device", "offline", "out", "fail_on", "policy", "memory"})

    base: str = Field(description="Checkpoint that tuning would start from: a folder or a hub name.")
    max_records: int | None = Field(
        default=128, ge=2, description="Records that tuning is predicted on, drawn at random."
    )
    test_records: int | None = Field(default=200, ge=2, description="Records it is tested on, drawn at random.")

    methods: Annotated[tuple[ForecastMethodName, ...], BeforeValidator(as_tuple)] = Field(
        default=DEFAULT_FORECAST_METHODS, description="Tuning methods: full, head, bitfit, lora."
    )
    ranks: Ranks = Field(default=DEFAULT_RANKS, description="Ranks of LoRA.")
    variances: Positives = Field(
        default=(KAIMING_VARIANCE,),
        description="c of LoRA's initial A, whose entries have variance c divided by the layer's width; PEFT's is 1/3.",
    )
    alphas: Positives = Field(default=(16.0,), description="alpha of LoRA.")
    scaling: Literal["alpha/r", "alpha/sqrt(r)"] = Field(
        default="alpha/r", description="Factor of the update; alpha/sqrt(r) is rsLoRA."
    )
    targets: Annotated[tuple[TargetSet, ...], BeforeValidator(as_tuple)] = Field(
        default=("all",), description="Linear maps that LoRA adapts: all, attention, mlp; each is predicted."
    )
    family: AFamily = Field(default="uniform", description="Of LoRA's initial A.")
    draws: int = Field(default=4, ge=2, description="Draws of A; their spread is the Monte-Carlo error.")
    heads: int = Field(
        default=3, ge=1, description="Draws of a classifier's head, where the base has none; predictions are averaged."
    )

    attack: Names = Field(
        default=(),
        description="A poison, with settings of its own after a colon, as of `loraudit robustness` (default: "
        "label_flip and rare_words).",
    )
    doses: Doses = Field(
        default=(), description="Below 1 shares of the records that can be poisoned, from 1 on numbers of them."
    )
    target: str | None = Field(default=None, description="Label that backdoors lead to (default: the rarest).")
    response: str = Field(default="", description="Not used by classifiers.", exclude=True)
    clean_loss: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Clean loss at which methods are compared, as a share of the loss at the base (default: the "
        "lowest that every method reaches).",
    )
    measured: str | None = Field(
        default=None, description="A robustness run of the same base and task, to set the prediction against."
    )
    max_linear_error: float = Field(
        default=0.5, gt=0, description="One-step error above which predictions are refused as not linear."
    )
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context)."
    )
    on_long: Literal["error", "cut"] = Field(default="error", description="Refuse longer texts, or cut and count them.")
    memory: float = Field(default=4.0, gt=0, allow_inf_nan=False, description="GiB that the kernels may take.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of every two-sided interval.")
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples.")
    seed: int = Field(default=0, ge=0, description="Of the split, of what is poisoned, and of every draw.")
    fail_on: Names = Field(default=(), description="Conditions that end with exit code 1, such as 'asr.upper95 > 0.5'.")
    policy: str | None = Field(default=None, description="File with such conditions under fail-on.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
    out: str | None = Field(default=None, description="Run folder (default: runs/forecast-<hash of the spec>).")
