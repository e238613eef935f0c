"""What a training run would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from loraudit.finetuning.base import make_trainable, window_length
from loraudit.finetuning.examples import exposures
from loraudit.finetuning.inputs import distinct, examples_of, open_base, padding_id
from loraudit.finetuning.order import Order
from loraudit.finetuning.private import plan_budget
from loraudit.models import load_tokenizer
from loraudit.spec import Recipe
from loraudit.types import Record


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What a fine-tune would take.

    Attributes:
        n_records: To train on.
        n_examples: Windows they make.
        n_tokens: Tokens per epoch, copies counted, padding not.
        n_steps: Of all epochs.
        n_trained_parameters: Parameters that are trained.
        n_parameters: All of them.
        memory_bytes: Weights, gradients and optimiser; activations of a batch come on top.
        epsilon: Of differential privacy, where it is asked for.
    """

    n_records: int
    n_examples: int
    n_tokens: int
    n_steps: int
    n_trained_parameters: int
    n_parameters: int
    memory_bytes: int
    epsilon: float | None


def estimate_training(
    base: str,
    records: Sequence[Record],
    recipe: Recipe,
    *,
    validation: Sequence[Record] = (),
    copies: Mapping[str, int] | None = None,
    offline: bool = False,
) -> TrainingCost:
    """What `finetune` would take; the base is loaded and the method put on it, nothing is trained.

    Raises:
        LorauditError: As `finetune`, for everything that shows before the first step.
    """
    source = open_base(base, recipe, validation, offline=offline)
    tokenizer = load_tokenizer(source.folder)
    max_length = window_length(recipe, source.config)
    records, copies = distinct(records, copies or {})
    labels, examples, held_out, _ = examples_of(records, validation, tokenizer, recipe, max_length)
    n_copies = exposures(examples, records, copies)
    pad_id = padding_id(tokenizer, examples, held_out, source) if recipe.task == "classification" else None
    with torch.random.fork_rng(devices=[]):
        trainable = make_trainable(source, recipe, "cpu", labels, pad_id)
    trainable.converter.close()
    order = Order(recipe, examples, n_copies, max_length)
    n_distinct = len({example.record for example in examples})
    budget = plan_budget(recipe, n_distinct) if recipe.is_private else None
    return TrainingCost(
        len(records),
        len(examples),
        int(sum(len(example.ids) * n for example, n in zip(examples, n_copies, strict=True))),
        budget.n_steps if budget else recipe.epochs * order.steps_per_epoch,
        trainable.n_trained,
        trainable.n_parameters,
        4 * trainable.n_parameters + 12 * trainable.n_trained,
        budget.epsilon if budget else None,
    )
