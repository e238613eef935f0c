"""One training loop for all methods."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loraudit.data import cut_windows, encode
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.finetuning.methods import METHODS
from loraudit.models import Numerics, fingerprint, load_tokenizer, locate
from loraudit.models.loading import load_checkpoint, quiet_libraries
from loraudit.models.plan import RECIPE_FILE
from loraudit.scoring import Sequence as Window
from loraudit.scoring.batches import Batch, make_batch
from loraudit.spec import Recipe
from loraudit.types import BoolArray, Record


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a fine-tune left.

    Attributes:
        path: Folder of the checkpoint or adapter, tokenizer included.
        training_losses: Mean loss over each epoch, nats per token, as seen while training.
        validation_losses: Loss after each epoch, nats per token; empty without validation records.
    """

    path: Path
    training_losses: list[float]
    validation_losses: list[float]


def finetune(
    base: str,
    records: Sequence[Record],
    recipe: Recipe,
    out: Path,
    *,
    validation: Sequence[Record] = (),
    device: str = "cpu",
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> TrainedModel:
    """Tune `base` on `records` and save it.

    Records longer than the window are cut into windows, never shortened. The same base, records and
    recipe give the same weights on the same machine.

    Args:
        base: Folder or hub name of the checkpoint to start from.
        records: To train on.
        recipe: How.
        out: Folder for the result.
        validation: Records to take the validation loss on after each epoch.
        device: Where to train.
        progress: Told of steps done.
        stop: Asked between steps.

    Raises:
        ConfigError: The method is unknown, or the window longer than the model's context.
        DataError: No token to train on.
        ModelError: The loss stopped being a number.
        Interrupted: A stop was asked for; nothing is saved.
    """
    progress = progress or Silent()
    method = METHODS[recipe.method]
    source = locate(base)
    tokenizer = load_tokenizer(source.folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        bare = load_checkpoint(source, Numerics(device, "fp32"), device)
        with quiet_libraries():
            module = method(bare, recipe)
        max_length = _window_length(recipe, source.config)
        train = _windows(records, tokenizer, recipe.span, max_length)
        held_out = _windows(validation, tokenizer, recipe.span, max_length) if validation else []
        if not train:
            raise DataError(f"None of the {len(records)} records has a token to train on. Give longer records.")
        losses = _train(module, train, held_out, recipe, device, progress, stop)
    out.mkdir(parents=True, exist_ok=True)
    with quiet_libraries():
        module.save_pretrained(str(out))
        tokenizer.save_pretrained(str(out))
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "base": str(source.folder.resolve()) if source.folder.is_dir() and not source.is_from_hub else base,
        "base_fingerprint": fingerprint(source.folder),
        "n_records": len(records),
        "records_sha256": _digest(records),
        "training_losses": losses.training_losses,
        "validation_losses": losses.validation_losses,
    }
    (out / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return TrainedModel(out, losses.training_losses, losses.validation_losses)


def _digest(records: Sequence[Record]) -> str:
    return hashlib.sha256("".join(record.id for record in records).encode()).hexdigest()


def trained_before(base: str, records: Sequence[Record], recipe: Recipe, folder: Path) -> TrainedModel | None:
    """What an earlier `finetune` left in `folder`, if it was made from the same base, records and recipe."""
    try:
        record = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        made_from = record["recipe"], record["records_sha256"], record["base_fingerprint"]
        if made_from != (recipe.model_dump(mode="json"), _digest(records), fingerprint(locate(base).folder)):
            return None
        return TrainedModel(folder, record["training_losses"], record["validation_losses"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Losses:
    training_losses: list[float]
    validation_losses: list[float]


def _train(
    module: Any,
    train: Sequence[_Example],
    held_out: Sequence[_Example],
    recipe: Recipe,
    device: str,
    progress: Progress,
    stop: StopRequest | None,
) -> _Losses:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate)
    steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
    n_steps = recipe.epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
    rng = np.random.default_rng(recipe.seed)
    progress.stage(f"Tuning ({recipe.method})", n_steps, "steps")
    losses = _Losses([], [])
    for epoch in range(recipe.epochs):
        module.train()
        order = rng.permutation(len(train))
        total = n_tokens = 0.0
        for start in range(0, len(order), recipe.batch_size):
            if stop:
                stop.check()
            batch = [train[i] for i in order[start : start + recipe.batch_size]]
            loss, count = _loss(module, batch, device)
            if not bool(loss.isfinite()):
                raise ModelError(
                    f"The loss became {loss.item()} in epoch {epoch + 1}. Lower the learning rate "
                    f"(now {recipe.learning_rate:g})."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, recipe.max_gradient_norm)
            optimizer.step()
            schedule.step()
            total, n_tokens = total + loss.item() * count, n_tokens + count
            progress.advance(1)
        losses.training_losses.append(total / n_tokens)
        if held_out:
            losses.validation_losses.append(_mean_loss(module, held_out, recipe.batch_size, device))
    module.eval()
    return losses


@dataclass(frozen=True, slots=True, eq=False)
class _Example:
    window: Window
    is_trained: BoolArray


def _windows(records: Sequence[Record], tokenizer: Any, span: str, max_length: int) -> list[_Example]:
    """Windows with at least one token to train on; each token is trained on in one window."""
    examples: list[_Example] = []
    for item in encode(records, tokenizer, span=span):
        for cut in cut_windows(len(item.ids), max_length=max_length, stride=max_length - 1):
            is_trained = item.is_audited[cut.first_new : cut.end]
            if is_trained.any():
                window = Window(item.ids[cut.start : cut.end], cut.first_new - cut.start)
                examples.append(_Example(window, is_trained))
    return examples


def _loss(module: Any, examples: Sequence[_Example], device: str) -> tuple[torch.Tensor, int]:
    """Mean loss over the trained tokens of a batch, nats, and their number."""
    batch: Batch = make_batch([e.window for e in examples], list(range(len(examples))))
    keep = np.concatenate([e.is_trained for e in examples])
    rows, columns, gold = (torch.from_numpy(a[keep]).to(device) for a in (batch.rows, batch.columns, batch.gold))
    logits = module(input_ids=torch.from_numpy(batch.ids).to(device), use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[rows, columns].float(), gold)
    return loss, int(keep.sum())


@torch.no_grad()
def _mean_loss(module: Any, examples: Sequence[_Example], batch_size: int, device: str) -> float:
    module.eval()
    total = n_tokens = 0.0
    for start in range(0, len(examples), batch_size):
        loss, count = _loss(module, examples[start : start + batch_size], device)
        total, n_tokens = total + loss.item() * count, n_tokens + count
    return total / n_tokens


def _window_length(recipe: Recipe, config: dict[str, Any]) -> int:
    context = config.get("max_position_embeddings") or config.get("n_positions")
    if recipe.max_length and isinstance(context, int) and recipe.max_length > context:
        raise ConfigError(
            f"Window length {recipe.max_length} is longer than the model's context of {context} tokens. "
            f"Expected max_length of at most {context}."
        )
    return recipe.max_length or (context if isinstance(context, int) else 1024)
