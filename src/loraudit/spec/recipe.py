"""How a model is fine-tuned, as a request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from loraudit.spec.form import Names, Strict, as_tuple

Epochs = Annotated[tuple[PositiveFloat, ...], BeforeValidator(as_tuple)]

Initialisation = Literal["kaiming", "gaussian", "orthogonal", "pissa", "olora"]


class Recipe(Strict):
    """How a model is fine-tuned. Every field is also a flag of `loraudit tune`."""

    task: Literal["causal_lm", "classification"] = Field(
        default="causal_lm", description="Next-token prediction, or labels over whole texts."
    )
    method: str = Field(
        default="lora", description="What is trained: full, head, lora, last_k, bitfit, or peft with --peft-config."
    )
    epochs: int = Field(default=3, ge=1, description="Passes over the records.")
    batch_size: int = Field(default=16, ge=1, description="Windows per step (packs of windows with --packing).")
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="Windows per forward pass; gradients are summed up to --batch-size."
    )
    learning_rate: float = Field(default=1e-4, gt=0, allow_inf_nan=False, description="Peak of the schedule.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate falls after the warm-up, to 0 or not at all."
    )
    warmup: float = Field(default=0.0, ge=0, lt=1, description="Share of the steps over which the rate rises from 0.")
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Of AdamW, on matrices only.")
    max_gradient_norm: float = Field(
        default=1.0, gt=0, description="Longer gradients are scaled down to this norm (under --dp-*: each record's)."
    )
    mixed_precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Of matrix products while training; weights stay fp32."
    )
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context)."
    )
    on_long: Literal["error", "cut"] = Field(
        default="error", description="Classification: refuse texts longer than a window, or cut and count them."
    )
    span: Literal["trained", "all"] = Field(
        default="trained", description="Tokens the loss is taken over: completions and assistant turns, or all."
    )
    append_eos: bool = Field(default=False, description="End every record with the end-of-text token.")
    packing: bool = Field(default=False, description="Fill windows with several records, which do not see each other.")
    keep_duplicates: bool = Field(
        default=True, description="Train on a record as often as it stands in the files, or once."
    )
    seed: int = Field(default=0, ge=0, description="Seed of initialisation, order and dropout.")

    checkpoints: int = Field(default=0, ge=0, description="Checkpoints kept per epoch.")
    checkpoint_epochs: Epochs = Field(
        default=(),
        description="Further checkpoints after so many epochs, such as 0.25; rounded to steps.",
    )
    select: Literal["last", "best"] = Field(
        default="last", description="Keep the weights of the end, or those of the lowest validation loss."
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many epochs without a lower validation loss."
    )
    ngram_limit: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Stop once this share of n-grams of training records is predicted word for word; the last "
        "epoch below it is kept.",
    )
    ngram_length: int = Field(default=10, ge=1, description="Tokens of such an n-gram.")
    model_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout of the model's own layers (default: as its config says)."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Probability spread over the whole vocabulary.")
    token_drop: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of tokens never trained on, chosen by what stands before them (goldfish loss).",
    )

    rank: int = Field(default=16, ge=1, description="LoRA: rank.")
    alpha: float | None = Field(
        default=None, gt=0, description="LoRA: scale, divided by the rank (default: twice the rank)."
    )
    dropout: float = Field(default=0.05, ge=0, lt=1, description="LoRA: dropout on its input.")
    targets: Names = Field(default=("all-linear",), description="LoRA: names of the modules it is put on.")
    rslora: bool = Field(default=False, description="LoRA: divide alpha by the root of the rank.")
    dora: bool = Field(default=False, description="LoRA: train magnitudes apart from directions (DoRA).")
    init: Initialisation = Field(default="kaiming", description="LoRA: how its matrices start.")
    init_variance: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="LoRA: c where entries of A start with variance c / input width, for kaiming and gaussian "
        "(default: 1/3, as in PEFT's kaiming).",
    )
    freeze_a: bool = Field(default=False, description="LoRA: train B only.")
    spread: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="LoRA: weight of a penalty on updates with few strong directions, such as a trigger's.",
    )
    peft_config: str | None = Field(
        default=None, description="adapter_config.json, or another JSON file, of any PEFT method; sets --method peft."
    )
    layers: int = Field(default=1, ge=1, description="last_k: how many of the last layers are trained.")

    dp_epsilon: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Train with differential privacy at this ε per record."
    )
    dp_delta: float | None = Field(
        default=None, gt=0, lt=1, description="δ of differential privacy (default: 1 / (10 × records))."
    )
    dp_noise: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Noise multiplier of differential privacy, instead of an ε; the ε it gives is reported.",
    )
    dp_repeatable: bool = Field(
        default=False,
        description="Draw the noise from --seed, so that a private training can be repeated. For tests alone: whoever "
        "knows the seed can take the noise out again, and ε promises nothing.",
    )

    @property
    def scale(self) -> float:
        """LoRA's alpha."""
        return 2 * self.rank if self.alpha is None else self.alpha

    @property
    def is_private(self) -> bool:
        """Whether it is trained with differential privacy."""
        return self.dp_epsilon is not None or self.dp_noise is not None

    @model_validator(mode="before")
    @classmethod
    def _method_of_config(cls, values: object) -> object:
        """A PEFT configuration names its own method."""
        if isinstance(values, dict) and values.get("peft_config") and "method" not in values:
            return {**values, "method": "peft"}
        return values
