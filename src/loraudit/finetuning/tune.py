"""From a base, records and a recipe to a tuned model on disk."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from loraudit.errors import ConfigError, DataError, StoreError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.finetuning.base import Trainable, make_trainable, window_length
from loraudit.finetuning.device import accelerator_for
from loraudit.finetuning.examples import Example, epoch_order, exposures, make_examples, make_labelled, packed
from loraudit.finetuning.forward import Forward
from loraudit.finetuning.history import Moment
from loraudit.finetuning.loop import SECONDS_BETWEEN_STATES, Outcome, Run, train
from loraudit.finetuning.methods import check_settings
from loraudit.finetuning.private import Budget, PrivateTraining, plan_budget
from loraudit.finetuning.state import STATE_FILE
from loraudit.models import fingerprint, load_tokenizer, locate, tokenizer_fingerprint
from loraudit.models.fingerprint import weight_files
from loraudit.models.loading import quiet_libraries
from loraudit.models.locate import Source
from loraudit.models.plan import RECIPE_FILE
from loraudit.spec import Recipe
from loraudit.store import Lock, open_private_folder, write_atomically
from loraudit.types import Record

TRAINING_FOLDER = "training"
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a fine-tune left.

    Attributes:
        path: Folder of the checkpoint or adapter, tokenizer included; `training/` in it holds the exposure log and
            kept checkpoints.
        moments: Losses along the way; the first is the untouched base where there are validation records.
        chosen: The moment whose weights these are.
        facts: What `loraudit_recipe.json` says: recipe, base, records, steps, parameters, privacy.
    """

    path: Path
    moments: list[Moment]
    chosen: Moment
    facts: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def training_losses(self) -> list[float]:
        """Mean loss over each epoch, nats per prediction, as seen while training."""
        found: dict[int, list[tuple[float, int]]] = {}
        for m in self.moments:
            if m.training_loss is not None:
                found.setdefault(math.ceil(m.epoch), []).append((m.training_loss, m.n_predictions))
        return [sum(loss * n for loss, n in of) / sum(n for _, n in of) for of in found.values()]

    @property
    def validation_losses(self) -> list[float]:
        """Loss after each epoch, nats per prediction; empty without validation records."""
        ends = (m for m in self.moments if m.step and float(m.epoch).is_integer())
        return [m.validation_loss for m in ends if m.validation_loss is not None]


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
    source = _start(base, recipe, validation, offline=offline)
    records, copies = distinct(records, copies or {})
    identity = made_from(source, records, recipe, validation, copies)
    done = _read(out, identity)
    if done:
        _remove_leftovers(out)
        return done
    tokenizer = load_tokenizer(source.folder)
    max_length = window_length(recipe, source.config)
    labels, train_examples, held_out, n_cut = _examples(records, validation, tokenizer, recipe, max_length)
    n_copies = exposures(train_examples, records, copies)
    if not n_copies.sum():
        raise DataError(f"None of the {len(records)} records is trained on: all have 0 copies. Give at least one.")
    budget = plan_budget(recipe, len({e.record for e in train_examples})) if recipe.is_private else None
    pad_id = _pad_id(tokenizer, train_examples, held_out, source) if recipe.task == "classification" else None
    folder = _open(out)
    devices = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices), accelerator_for(device, recipe.mixed_precision) as accelerator:
        torch.manual_seed(recipe.seed)
        trainable = make_trainable(source, recipe, device, labels, pad_id)
        try:
            private = PrivateTraining(recipe, train_examples, n_copies, budget, device) if budget else None
            with Lock(folder):
                _remove_half_written(out)
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
                    save_model=lambda where: _save_model(where, trainable, tokenizer, source),
                    identity=identity,
                    progress=progress,
                    stop=stop,
                    private=private,
                    seconds_between_states=seconds_between_states,
                )
                if private:
                    private.self_test(
                        Forward(run.trainee, recipe, device, autocast=accelerator.autocast, pad_id=pad_id or 0)
                    )
                outcome = train(run)
                facts = {
                    "recipe": recipe.model_dump(mode="json"),
                    "base": _shown_base(source, base),
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
                return _finish(out, run, outcome, facts)
        finally:
            trainable.converter.close()


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
    source = _start(base, recipe, validation, offline=offline)
    tokenizer = load_tokenizer(source.folder)
    max_length = window_length(recipe, source.config)
    records, copies = distinct(records, copies or {})
    labels, examples, held_out, _ = _examples(records, validation, tokenizer, recipe, max_length)
    n_copies = exposures(examples, records, copies)
    pad_id = _pad_id(tokenizer, examples, held_out, source) if recipe.task == "classification" else None
    with torch.random.fork_rng(devices=[]):
        trainable = make_trainable(source, recipe, "cpu", labels, pad_id)
    trainable.converter.close()
    n_rows = int(n_copies.sum())
    if recipe.packing:
        n_rows = len(packed(examples, epoch_order(n_copies, recipe.seed, 0), max_length))
    n_distinct = len({example.record for example in examples})
    budget = plan_budget(recipe, n_distinct) if recipe.is_private else None
    return TrainingCost(
        len(records),
        len(examples),
        int(sum(len(example.ids) * n for example, n in zip(examples, n_copies, strict=True))),
        budget.n_steps if budget else recipe.epochs * math.ceil(n_rows / recipe.batch_size),
        trainable.n_trained,
        trainable.n_parameters,
        4 * trainable.n_parameters + 12 * trainable.n_trained,
        budget.epsilon if budget else None,
    )


def _start(base: str, recipe: Recipe, validation: Sequence[Record], *, offline: bool) -> Source:
    """What can be said before anything is read."""
    check_settings(recipe)
    if not validation and (recipe.select == "best" or recipe.patience):
        raise ConfigError(
            "select = 'best' and patience go by the validation loss, and there are no validation records. Give some, "
            "or leave both out."
        )
    source = locate(base, offline=offline)
    if source.kind != "checkpoint":
        raise ConfigError(f"Base '{base}' is an adapter. Expected a full checkpoint; merge it with merge_and_unload().")
    return source


def trained_before(
    base: str,
    records: Sequence[Record],
    recipe: Recipe,
    folder: Path,
    *,
    validation: Sequence[Record] = (),
    copies: Mapping[str, int] | None = None,
) -> TrainedModel | None:
    """What an earlier `finetune` left in `folder`, if it was made from the same base, records and recipe."""
    records, copies = distinct(records, copies or {})
    return _read(folder, made_from(locate(base), records, recipe, validation, copies))


def read_trained(folder: Path) -> TrainedModel | None:
    """What `finetune` left in `folder`, whatever it was made from; None where nothing whole is there."""
    return _read(folder, None)


def distinct(records: Sequence[Record], copies: Mapping[str, int]) -> tuple[list[Record], dict[str, int]]:
    """Each record once, and how often it is trained on: a list that holds it twice means two copies."""
    seen: dict[str, Record] = {}
    counted: dict[str, int] = {}
    for record in records:
        seen.setdefault(record.id, record)
        counted[record.id] = counted.get(record.id, 0) + copies.get(record.id, 1)
    return list(seen.values()), counted


def made_from(
    source: Source, records: Sequence[Record], recipe: Recipe, validation: Sequence[Record], copies: Mapping[str, int]
) -> dict[str, Any]:
    """Everything that decides the weights, as hashes."""
    repeated = {record.id: copies.get(record.id, 1) for record in records}
    config = Path(recipe.peft_config).read_bytes() if recipe.peft_config and Path(recipe.peft_config).exists() else b""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "base_fingerprint": fingerprint(source.folder),
        "tokenizer_fingerprint": tokenizer_fingerprint(source.folder),
        "records_sha256": _digest([f"{name}:{n}" for name, n in repeated.items()]),
        "validation_sha256": _digest([record.id for record in validation]),
        "peft_config_sha256": hashlib.sha256(config).hexdigest(),
    }


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _read(folder: Path, identity: Mapping[str, Any] | None) -> TrainedModel | None:
    try:
        facts = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        if identity is not None and facts["made_from"] != identity:
            return None
        moments = [Moment.read(content) for content in facts["moments"]]
        chosen = next(moment for moment in moments if moment.step == facts["chosen_step"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    if not weight_files(folder):
        return None
    return TrainedModel(folder, moments, chosen, facts)


def _examples(
    records: Sequence[Record], validation: Sequence[Record], tokenizer: Any, recipe: Recipe, max_length: int
) -> tuple[tuple[str, ...], list[Example], list[Example], int]:
    labels: tuple[str, ...] = ()
    n_cut = 0
    if recipe.task == "classification":
        labels = tuple(sorted({record.label for record in records if record.label is not None}))
        if len(labels) < 2:
            raise DataError(
                f"The training records have {len(labels)} label{'' if len(labels) == 1 else 's'}. Expected at least "
                "two; name the column with --label-field."
            )
        trained, n_cut = make_labelled(records, tokenizer, recipe, max_length, labels)
        held_out, _ = make_labelled(validation, tokenizer, recipe, max_length, labels)
    else:
        trained = make_examples(records, tokenizer, recipe, max_length)
        held_out = make_examples(validation, tokenizer, recipe.model_copy(update={"token_drop": 0.0}), max_length)
    if not trained:
        raise DataError(f"None of the {len(records)} records has a token to train on. Give longer records.")
    if validation and not held_out:
        raise DataError(
            f"None of the {len(validation)} validation records has a token to take a loss on. Give longer records."
        )
    return labels, trained, held_out, n_cut


def _pad_id(tokenizer: Any, trained: Sequence[Example], held_out: Sequence[Example], source: Source) -> int:
    """An id that exists already; a decoder finds the end of each text by it.

    Where the tokenizer names none, the largest that stands in no text.
    """
    for named in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if named is not None:
            return int(named)
    used = {int(i) for example in (*trained, *held_out) for i in example.ids}
    n_known = source.config.get("vocab_size") or len(tokenizer)
    return max(set(range(int(n_known))) - used, default=0)


def _shown_base(source: Source, base: str) -> str:
    return base if source.is_from_hub else str(source.folder.resolve())


def _privacy_facts(budget: Budget, recipe: Recipe, outcome: Outcome) -> dict[str, Any]:
    return {
        "epsilon": budget.after(outcome.n_steps),
        "delta": budget.delta,
        "noise_multiplier": budget.noise,
        "clipping_norm": recipe.max_gradient_norm,
        "sample_rate": budget.sample_rate,
        "n_steps": outcome.n_steps,
        "unit": "record, with all its windows and copies",
        "accountant": "Rényi (opacus)",
    }


# --- files --------------------------------------------------------------------------------------------


def _open(out: Path) -> Path:
    open_private_folder(out)
    return open_private_folder(out / TRAINING_FOLDER)


def _save_model(where: Path, trainable: Trainable, tokenizer: Any, source: Source) -> None:
    """Weights and tokenizer as one folder that is whole or absent."""
    beside = where.with_name(f".{where.name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        with quiet_libraries():
            trainable.module.save_pretrained(str(beside), **_how(trainable))
            tokenizer.save_pretrained(str(beside))
        _name_base(beside, source)
        shutil.rmtree(where, ignore_errors=True)
        beside.rename(where)
    except Exception as error:
        # The tokenizers' library has no kind of error of its own for a full disk.
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        n_bytes = 4 * (trainable.n_trained if (beside / "adapter_config.json").exists() else trainable.n_parameters)
        shutil.rmtree(beside, ignore_errors=True)
        raise StoreError(
            f"The model cannot be saved to '{where}' (about {n_bytes:,} bytes): {_why(error)}. Free space or name "
            "another folder with --out; the same command goes on from the last saved step."
        ) from error


def _remove_earlier(out: Path) -> None:
    """The files of a model that another request left here; nothing else is touched."""
    try:
        names = json.loads((out / RECIPE_FILE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    (out / RECIPE_FILE).unlink(missing_ok=True)
    for name in names:
        (out / Path(str(name)).name).unlink(missing_ok=True)


def _remove_leftovers(out: Path) -> None:
    """What a run that was killed behind its last file left: a state, and a second copy of the weights."""
    training = out / TRAINING_FOLDER
    if (training / STATE_FILE).exists() or (training / CHOSEN).exists():
        with Lock(training):
            _remove_half_written(out)
            (training / STATE_FILE).unlink(missing_ok=True)
            shutil.rmtree(training / CHOSEN, ignore_errors=True)


def _remove_half_written(out: Path) -> None:
    """What killed runs were writing when they died; nobody else writes here while the lock is held."""
    for path in [*out.rglob(".*.tmp"), *out.rglob(".*.unfinished")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _how(trainable: Trainable) -> dict[str, Any]:
    """PEFT alone knows how to convert, and asks the hub about embeddings unless told."""
    if not hasattr(trainable.module, "peft_config"):
        return {}
    return {"save_embedding_layers": False, **trainable.converter.options}


def _name_base(folder: Path, source: Source) -> None:
    """An adapter names its base by the hub name, or by an absolute path, so that it is found from any folder."""
    path = folder / "adapter_config.json"
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = source.name if source.is_from_hub else str(source.folder.resolve())
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _finish(out: Path, run: Run, outcome: Outcome, facts: dict[str, Any]) -> TrainedModel:
    """Put the chosen weights in place; the recipe comes last and says that everything is there.

    They are copied, so that a run killed half way still has them whole.
    """
    _remove_earlier(out)
    chosen = run.folder / CHOSEN
    if outcome.chosen.step == outcome.n_steps:
        run.save_model(chosen)
    try:
        facts["files"] = sorted(file.name for file in chosen.iterdir())
        for name in facts["files"]:
            shutil.copyfile(chosen / name, out / name)
    except OSError as error:
        raise StoreError(
            f"The model cannot be copied to '{out}': {error.strerror}. Free space; the same command goes on from here."
        ) from error
    for moment in outcome.history.moments:
        if moment.checkpoint and (out / moment.checkpoint).exists():
            content = {**facts, "chosen_step": moment.step, "is_checkpoint_of": facts["n_steps"]}
            write_atomically(out / moment.checkpoint / RECIPE_FILE, (json.dumps(content, indent=2) + "\n").encode())
    write_atomically(out / RECIPE_FILE, (json.dumps(facts, indent=2) + "\n").encode())
    (run.folder / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(chosen, ignore_errors=True)
    return TrainedModel(out, outcome.history.moments, outcome.chosen, facts)
