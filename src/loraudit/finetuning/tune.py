"""From a base, records and a recipe to a tuned model on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from loraudit.errors import DataError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.finetuning.base import ResidentBase, make_trainable, window_length
from loraudit.finetuning.device import accelerator_for, same_randomness
from loraudit.finetuning.examples import exposures
from loraudit.finetuning.folder import (
    TrainedModel,
    finish,
    open_folder,
    read_model,
    remove_half_written,
    remove_leftovers,
    save_model,
)
from loraudit.finetuning.forward import Forward
from loraudit.finetuning.inputs import (
    distinct,
    examples_of,
    identity_of,
    made_from,
    open_base,
    padding_id,
    shown_base,
)
from loraudit.finetuning.loop import SECONDS_BETWEEN_STATES, Observe, Outcome, Run, train
from loraudit.finetuning.private import Budget, PrivateTraining, plan_budget
from loraudit.spec import Recipe
from loraudit.store import Lock
from loraudit.types import Record


def finetune(
    base: str,
    records: Sequence[Record],
    recipe: Recipe,
    out: Path,
    *,
    validation: Sequence[Record] = (),
    copies: Mapping[str, int] | None = None,
    device: str = "cpu",
    offline: bool = False,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    seconds_between_states: float = SECONDS_BETWEEN_STATES,
    resident: ResidentBase | None = None,
    observe: Observe | None = None,
    observe_at: Sequence[float] = (),
) -> TrainedModel:
    """Tune `base` on `records` and save it; a run that was killed goes on where it stood.

    Records longer than the window are cut into windows, never shortened. The same base, records and
    recipe give the same weights on the same machine, interrupted or not.

    Args:
        base: Folder or hub name of the checkpoint to start from.
        records: To train on.
        recipe: How.
        out: Folder for the result.
        validation: Records to take the validation loss on.
        copies: How often a record is trained on in an epoch, by record id; once where it is not named.
        device: Where to train.
        offline: Never use the network.
        progress: Told of steps done.
        stop: Asked between steps.
        seconds_between_states: How much training a kill may cost.
        resident: Keeps the base in memory for further runs; the weights are the same with or without.
        observe: Called at every moment of the training, the untouched base and the end of every epoch among them,
            with the model as it stands and that moment: without dropout, without gradients. Whatever it draws at
            random, training goes on as if it had not been. Of a run that was killed, the moments since the last
            state are observed again, so none is missing; of a model that is there already, none is.
        observe_at: Further moments, after so many epochs, rounded to steps.

    Raises:
        ConfigError: The recipe contradicts itself or does not apply to this base.
        DataError: No token to train on, labels missing.
        ModelError: The base cannot be used, or the loss stopped being a number.
        MissingExtra: Differential privacy without opacus.
        EnvironmentFault: A batch does not fit into memory.
        StoreError: The result cannot be written.
        Interrupted: A stop was asked for; the state is kept in `out`.
    """
    progress = progress or Silent()
    source = open_base(base, recipe, validation, offline=offline)
    records, copies = distinct(records, copies or {})
    in_memory = resident or ResidentBase()
    identity = made_from(source, records, recipe, validation, copies, in_memory.fingerprint(source), observe_at)
    done = read_model(out, identity)
    if done:
        remove_leftovers(out)
        return done
    tokenizer = in_memory.tokenizer(source)
    max_length = window_length(recipe, source.config)
    labels, train_examples, held_out, n_cut = examples_of(records, validation, tokenizer, recipe, max_length)
    n_copies = exposures(train_examples, records, copies)
    if not n_copies.sum():
        raise DataError(f"None of the {len(records)} records is trained on: all have 0 copies. Give at least one.")
    budget = plan_budget(recipe, len({e.record for e in train_examples})) if recipe.is_private else None
    pad_id = padding_id(tokenizer, train_examples, held_out, source) if recipe.task == "classification" else None
    folder = open_folder(out)
    with same_randomness(device), accelerator_for(device, recipe.mixed_precision) as accelerator:
        torch.manual_seed(recipe.seed)
        trainable = make_trainable(source, recipe, device, labels, pad_id, in_memory)
        try:
            private = PrivateTraining(recipe, train_examples, n_copies, budget, device) if budget else None
            with Lock(folder):
                remove_half_written(out)
                run = Run(
                    module=trainable.module,
                    trainee=private.wrap(trainable.module) if private else trainable.module,
                    recipe=recipe,
                    examples=train_examples,
                    n_copies=n_copies,
                    held_out=held_out,
                    max_length=max_length,
                    device=device,
                    accelerator=accelerator,
                    pad_id=pad_id or 0,
                    folder=folder,
                    save_model=lambda where: save_model(where, trainable, tokenizer, source),
                    identity=identity,
                    progress=progress,
                    stop=stop,
                    private=private,
                    seconds_between_states=seconds_between_states,
                    observe=observe,
                    observe_at=observe_at,
                )
                if private:
                    private.self_test(
                        Forward(run.trainee, recipe, device, autocast=accelerator.autocast, pad_id=pad_id or 0)
                    )
                outcome = train(run)
                facts = {
                    "recipe": recipe.model_dump(mode="json"),
                    "base": shown_base(source, base),
                    "base_fingerprint": identity["base_fingerprint"],
                    "made_from": identity,
                    "n_records": len(records),
                    "records_sha256": identity["records_sha256"],
                    "n_examples": len(train_examples),
                    "n_exposures_per_epoch": int(n_copies.sum()),
                    "n_cut": n_cut,
                    "labels": list(labels),
                    "n_trained_parameters": trainable.n_trained,
                    "n_parameters": trainable.n_parameters,
                    "device": device,
                    "n_steps": outcome.n_steps,
                    "stopped_because": outcome.stopped_because,
                    "moments": [asdict(moment) for moment in outcome.history.moments],
                    "chosen_step": outcome.chosen.step,
                    "privacy": _privacy_facts(budget, recipe, outcome) if budget else None,
                }
                trained = finish(out, run, outcome, facts)
            if resident is not None:
                resident.give_back(trainable.module, source, recipe, device)
            return trained
        finally:
            trainable.converter.close()


def trained_before(
    base: str,
    records: Sequence[Record],
    recipe: Recipe,
    folder: Path,
    *,
    validation: Sequence[Record] = (),
    copies: Mapping[str, int] | None = None,
    offline: bool = False,
) -> TrainedModel | None:
    """What an earlier `finetune` left in `folder`, if it was made from the same base, records and recipe."""
    return read_model(folder, identity_of(base, records, recipe, validation=validation, copies=copies, offline=offline))


def _privacy_facts(budget: Budget, recipe: Recipe, outcome: Outcome) -> dict[str, Any]:
    return {
        "epsilon": budget.after(outcome.n_steps),
        "delta": budget.delta,
        "noise_multiplier": budget.noise,
        "clipping_norm": recipe.max_gradient_norm,
        "sample_rate": budget.sample_rate,
        "n_steps": outcome.n_steps,
        "unit": "record, with all its windows and copies",
        "is_repeatable": recipe.dp_repeatable,
        "accountant": "Rényi (opacus)",
    }
