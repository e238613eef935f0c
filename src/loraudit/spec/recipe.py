"""How a model is fine-tuned, as a request."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loraudit.spec.form import Names, Strict


class Recipe(Strict):
    """How a model is fine-tuned."""

    method: str = Field(default="lora", description="full or lora.")
    epochs: int = Field(default=3, ge=1, description="Passes over the records.")
    batch_size: int = Field(default=16, ge=1, description="Windows per step.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Peak; decays linearly to 0.")
    weight_decay: float = Field(default=0.0, ge=0, description="Of AdamW, on matrices only.")
    max_gradient_norm: float = Field(default=1.0, gt=0, description="Longer gradients are scaled down to this norm.")
    max_length: int | None = Field(
        default=None, ge=2, description="Longest window in tokens (default: the model's context)."
    )
    span: Literal["trained", "all"] = Field(
        default="trained", description="Tokens the loss is taken over, as in an audit."
    )
    seed: int = Field(default=0, ge=0, description="Seed of initialisation, order and dropout.")
    rank: int = Field(default=16, ge=1, description="LoRA: rank.")
    alpha: float = Field(default=32, gt=0, description="LoRA: scale, divided by the rank.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="LoRA: dropout on its input.")
    targets: Names = Field(default=("all-linear",), description="LoRA: names of the modules it is put on.")
