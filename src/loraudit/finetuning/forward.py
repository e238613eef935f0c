"""A batch through the model: its loss, and what each example contributes to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from loraudit.errors import EnvironmentFault, ModelError
from loraudit.finetuning.examples import Example, TrainingBatch, make_training_batch
from loraudit.models.numerics import is_out_of_memory
from loraudit.spec import Recipe
from loraudit.types import BoolArray, FloatArray, IntArray

_SAME_LOGITS = 1e-3


class BatchLoss(NamedTuple):
    """What one batch gives.

    Attributes:
        objective: Sum over predictions of what is minimised, with its graph.
        losses: [n] −log p of each gold token or label, nats, without smoothing; detached.
        is_top1: [n] whether the gold one was the most likely; empty while training, where nobody asks.
        owner: [n] the example of the batch each belongs to.
    """

    objective: torch.Tensor
    losses: torch.Tensor
    is_top1: torch.Tensor
    owner: IntArray


@dataclass(frozen=True, slots=True)
class Measured:
    """Loss on examples outside of training.

    Attributes:
        loss: Mean over predictions, nats.
        accuracy: Share of predictions whose gold token or label was the most likely.
        ngram_score: Share of n-grams predicted word for word; NaN where no example is long enough.
    """

    loss: float
    accuracy: float
    ngram_score: float


class Forward:
    """Runs batches of one model under one recipe.

    The head sees only positions that are trained on, where the architecture allows it: that is found out on
    the first batch, by comparing with the model's own logits.

    Args:
        module: Model or `PeftModel`.
        recipe: Task, smoothing, precision.
        device: Where the model is.
        autocast: Context of mixed precision.
        pad_id: Fills rows; only a decoder with a classification head looks at it.
    """

    def __init__(
        self,
        module: Any,
        recipe: Recipe,
        device: str,
        *,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]],
        pad_id: int = 0,
    ) -> None:
        self.module = module
        self.recipe = recipe
        self.device = device
        self.autocast = autocast
        self.pad_id = pad_id
        self.selects = recipe.task == "causal_lm" and not recipe.is_private

    def __call__(self, examples: Sequence[Example], packs: Sequence[Sequence[int]]) -> BatchLoss:
        """The loss of a batch.

        Raises:
            EnvironmentFault: It does not fit into memory.
        """
        batch = make_training_batch(examples, [list(pack) for pack in packs])
        what = f"A batch of {len(packs)} windows of up to {batch.ids.shape[1]} tokens"
        with enough_memory(self.device, what), self.autocast():
            logits, gold, owner = self._logits(batch)
            return self._loss(logits.float(), gold, owner)

    def _logits(self, batch: TrainingBatch) -> tuple[torch.Tensor, torch.Tensor, IntArray]:
        """[n, V] logits, [n] gold ids and [n] owners."""
        if self.recipe.task == "classification":
            ids = np.where(batch.is_token, batch.ids, self.pad_id)
            logits = self.module(
                input_ids=torch.from_numpy(ids).to(self.device),
                attention_mask=torch.from_numpy(batch.is_token.astype(np.int64)).to(self.device),
            ).logits
            return logits, torch.from_numpy(batch.labels).to(self.device), np.arange(batch.n_examples)
        inputs = {"input_ids": torch.from_numpy(batch.ids).to(self.device), "use_cache": False}
        if self.recipe.packing or self.recipe.is_private:  # opacus cannot see per-record gradients of a shared range
            inputs["position_ids"] = torch.from_numpy(batch.positions).to(self.device)
        rows, columns, gold = (torch.from_numpy(a).to(self.device) for a in (batch.rows, batch.columns, batch.gold))
        if self.selects:
            with _selected(self.module.get_output_embeddings(), rows, columns, batch.ids.shape[1]):
                return self.module(**inputs).logits, gold, batch.owner
        logits = self.module(**inputs).logits[:, -batch.ids.shape[1] :]
        return logits[rows, columns], gold, batch.owner

    def _loss(self, logits: torch.Tensor, gold: torch.Tensor, owner: IntArray) -> BatchLoss:
        losses = torch.nn.functional.cross_entropy(logits, gold, reduction="none")
        objective = losses
        smoothing = self.recipe.label_smoothing
        if smoothing:
            objective = torch.nn.functional.cross_entropy(logits, gold, reduction="none", label_smoothing=smoothing)
        is_top1 = logits.new_zeros(0, dtype=torch.bool) if torch.is_grad_enabled() else logits.argmax(dim=-1) == gold
        return BatchLoss(objective, losses.detach(), is_top1, owner)

    @torch.no_grad()
    def check(self, examples: Sequence[Example], packs: Sequence[Sequence[int]]) -> None:
        """Find out whether the head can be run on selected positions, and that packed records stay apart.

        Raises:
            ModelError: Packed records see each other in this architecture.
        """
        with _evaluating(self.module):
            if self.selects:
                batch = make_training_batch(examples, [list(packs[0])])
                try:
                    selected, _, _ = self._logits(batch)
                    self.selects = False
                    whole, _, _ = self._logits(batch)
                    self.selects = selected.shape == whole.shape and _near(selected, whole)
                except (IndexError, ValueError, TypeError, RuntimeError):
                    self.selects = False
            together = next((pack for pack in packs if len(pack) > 1), None)
            if together is None:
                return
            joined = self(examples, [together]).losses
            apart = torch.cat([self(examples, [[position]]).losses for position in together])
            if not _near(joined, apart):
                raise ModelError(
                    f"In {type(self.module).__name__} packed records see each other: their losses change by up to "
                    f"{float((joined - apart).abs().max()):.2g} nats. Train without --packing."
                )

    @torch.no_grad()
    def measure(self, examples: Sequence[Example]) -> Measured:
        """Loss, accuracy and n-gram score of examples, without dropout."""
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
        size = self.recipe.micro_batch_size or self.recipe.batch_size
        losses: list[FloatArray] = []
        hits: list[BoolArray] = []
        n_spans = n_found = 0
        with _evaluating(self.module):
            for start in range(0, len(order), size):
                found = self(examples, [[i] for i in order[start : start + size]])
                is_top1 = found.is_top1.cpu().numpy()
                losses.append(found.losses.double().cpu().numpy())
                hits.append(is_top1)
                for own in np.split(is_top1, np.flatnonzero(np.diff(found.owner)) + 1):
                    spans = _runs(own, self.recipe.ngram_length)
                    n_spans, n_found = n_spans + len(spans), n_found + int(spans.sum())
        return Measured(
            float(np.concatenate(losses).mean()),
            float(np.concatenate(hits).mean()),
            n_found / n_spans if n_spans else float("nan"),
        )


@contextlib.contextmanager
def enough_memory(device: str, what: str = "A training step") -> Iterator[None]:
    """Say what to make smaller when memory runs out.

    Raises:
        EnvironmentFault: It did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EnvironmentFault(
            f"{what} does not fit into the memory of {device}. Give a smaller --micro-batch-size (the result is the "
            "same up to rounding) or --max-length."
        ) from None


def _runs(is_top1: BoolArray, length: int) -> BoolArray:
    """Whether each span of `length` predictions holds hits alone."""
    if len(is_top1) < length:
        return np.zeros(0, dtype=bool)
    total = np.concatenate([[0], np.cumsum(is_top1)])
    return total[length:] - total[:-length] == length


@contextlib.contextmanager
def _selected(head: Any, rows: torch.Tensor, columns: torch.Tensor, length: int) -> Iterator[None]:
    """The head receives the chosen positions only; virtual tokens in front of the row are skipped."""

    def choose(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        return (hidden[rows, columns + hidden.shape[1] - length], *inputs[1:])

    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Without dropout; every part goes back to the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _near(one: torch.Tensor, two: torch.Tensor) -> bool:
    return bool(torch.allclose(one.float(), two.float(), atol=_SAME_LOGITS, rtol=_SAME_LOGITS))
