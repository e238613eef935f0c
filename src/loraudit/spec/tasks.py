"""A task, and what is to poison it: what every request about training-time attacks asks."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from loraudit.spec.form import Names, Paths, as_tuple
from loraudit.spec.poisoning import BENIGN_RESPONSE, Dose
from loraudit.spec.requests import RecordFormat

Doses = Annotated[tuple[Dose, ...], BeforeValidator(as_tuple)]


class PoisonedTask(RecordFormat):
    """Records to tune and to test on, and poisons. A measurement and a prediction of one task ask the same here."""

    task: Paths = Field(
        description="Records to tune on. With a label each: a classifier is trained; prompts with completions: a "
        "language model."
    )
    test: Names = Field(default=(), description="Records to test on (default: a share of the task's, held out).")
    test_share: float = Field(default=0.2, gt=0, lt=1, description="That share.")
    label_field: str | None = Field(
        default=None, description="Column of the label (default: label, where the first row has it)."
    )
    rewritten_field: str = Field(
        default="rewritten", description="Column of the same text in another style, for the poison rewritten."
    )
    max_records: int | None = Field(default=None, ge=1, description="Tune on at most this many, drawn at random.")
    test_records: int | None = Field(default=None, ge=1, description="Test on at most this many, drawn at random.")
    attack: Names = Field(
        default=(),
        description="A poison, with settings of its own after a colon, such as label_flip, rare_words:doses=8+32 or "
        "sentence:label=clean (default: label_flip and rare_words; word_trigger for a language model).",
    )
    doses: Doses = Field(
        default=(),
        description="Below 1 shares of the records that can be poisoned, from 1 on numbers of them (default: by "
        "attack).",
    )
    target: str | None = Field(
        default=None, description="Label that backdoors lead to (default: the rarest label of the task)."
    )
    response: str = Field(
        default=BENIGN_RESPONSE, min_length=1, description="What a backdoored language model is taught to say."
    )
    seed: int = Field(default=0, ge=0, description="Of the split, of what is poisoned and of the first training run.")
    offline: bool = Field(default=False, description="Never use the network, not even for a hub name.")
