"""What a model says about the test records, while it is trained and afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from loraudit.data import encode, token_record
from loraudit.finetuning.examples import make_examples
from loraudit.finetuning.forward import Forward
from loraudit.robustness.outcomes import CLEAN, Said
from loraudit.scoring.classifying import PaddedBatch, classifier_inputs, in_batches
from loraudit.spec import Recipe
from loraudit.tasks import Plan, TaskData, refuse_long
from loraudit.types import FloatArray, IntArray, Record


@dataclass(frozen=True, slots=True)
class TestSet:
    """Records that are measured together.

    Attributes:
        records: In the order of the outcomes.
        target: Class that a trigger leads to; None where the right answer is asked for.
    """

    records: Sequence[Record]
    target: str | None = None

    __test__ = False  # what a name that begins so is to pytest


class _OfRecord(NamedTuple):
    """What was computed for one record.

    Attributes:
        log_p: Of each class; None for a language model.
        loss: Mean over a language model's predictions, nats.
        n_predictions: Of them.
        is_said: Whether each token of the completion is the most likely one; NaN without any.
    """

    log_p: FloatArray | None
    loss: float = math.nan
    n_predictions: int = 1
    is_said: float = math.nan


class Meter:
    """Measures models of one recipe on the test records of all attacks.

    A hit of a language model is a greedy continuation that begins with the response. It does so exactly where each
    token of the response is the most likely one behind the prompt and the tokens before it, which one forward pass
    over both shows; nothing has to be generated. Of a chat the response is the last assistant turn alone.

    Args:
        data: The task.
        plans: Every attack.
        recipe: Window and span.
        tokenizer: Of the base.
        max_length: Window in tokens.
        device: Where models are.
    """

    def __init__(
        self, data: TaskData, plans: Sequence[Plan], recipe: Recipe, tokenizer: Any, max_length: int, device: str
    ) -> None:
        self.data, self.tokenizer, self.max_length, self.device = data, tokenizer, max_length, device
        self.recipe = recipe.model_copy(update={"label_smoothing": 0.0, "token_drop": 0.0, "packing": False})
        self.sets = {CLEAN: TestSet(data.test)}
        for plan in plans:
            target = plan.settings.target if data.task == "classification" else None
            self.sets |= {name: TestSet(records, target) for name, records in plan.test_sets().items()}
        self._rows: dict[str, IntArray] = {}

    def names(self, plan: Plan | None) -> list[str]:
        """The sets that a run is measured on: those of its attack, or of a clean run those of all."""
        return list(self.sets) if plan is None else [CLEAN, *plan.test_sets()]

    def key(self, names: Iterable[str]) -> str:
        """Hash of what is measured on: records, targets and window."""
        content = [(name, self.sets[name].target, [record.id for record in self.sets[name].records]) for name in names]
        return hashlib.sha256(json.dumps([content, self.max_length]).encode()).hexdigest()

    def refuse_long(self, records: Sequence[Record], what: str, *, on_long: Literal["error", "cut"]) -> int:
        """How many records do not fit into one window.

        Of a classifier's text the end is cut off; a language model's response is read by windows that do not see the
        beginning of the prompt. Either may lose the trigger.

        Args:
            records: Of the task.
            what: What they are called.
            on_long: Whether that is an error.

        Raises:
            DataError: There are such, and it is; all are listed.
        """
        if self.data.task == "classification":
            lengths = [len(ids) for ids in classifier_inputs(records, self.tokenizer, 10**9).ids]
        else:
            lengths = [len(item.ids) for item in encode(records, self.tokenizer, append_eos=False)]
        return refuse_long(records, lengths, self.max_length, what, on_long=on_long)

    def measure(self, module: Any, names: Sequence[str]) -> dict[str, Said]:
        """What the model says about some of the sets; it is in evaluation mode, without gradients."""
        known: dict[tuple[str, bool], _OfRecord] = {}
        said: dict[str, Said] = {}
        for name in names:
            # Set by set: what is said about one does not depend, by a rounding, on which others are measured.
            # A language model's right answer ends where the text does, and a response before: two figures of a record.
            is_whole = name == CLEAN or bool(self.data.labels)
            records = {record.id: record for record in self.sets[name].records}
            new = [record for record in records.values() if (record.id, is_whole) not in known]
            if new:
                found = self._classified(module, new) if self.data.labels else self._continued(module, new, name)
                known |= {(record.id, is_whole): one for record, one in zip(new, found, strict=True)}
            said[name] = self._said(name, [known[record.id, is_whole] for record in self.sets[name].records])
        return said

    def _classified(self, module: Any, records: Sequence[Record]) -> list[_OfRecord]:
        import torch

        new = [record for record in records if record.id not in self._rows]
        ids = classifier_inputs(new, self.tokenizer, self.max_length).ids
        self._rows |= {record.id: row for record, row in zip(new, ids, strict=True)}

        def read(batch: PaddedBatch) -> torch.Tensor:
            return torch.log_softmax(batch.output.logits.float(), dim=-1)

        rows = [self._rows[record.id] for record in records]
        found = in_batches(module, rows, read, device=self.device, batch_size=2 * self.recipe.batch_size)
        return [_OfRecord(log_p) for log_p in found.astype(np.float64)]

    def _continued(self, module: Any, records: Sequence[Record], name: str) -> list[_OfRecord]:
        """Loss of each completion and whether each of its tokens is the most likely one."""
        import torch

        recipe = self.recipe
        if name != CLEAN:  # ends of turns and texts, and turns before, are no part of having said the response
            answers = encode(records, self.tokenizer, span="answer")
            records = [token_record(answers[i], source=one.source, line=one.line) for i, one in enumerate(records)]
            recipe = recipe.model_copy(update={"append_eos": False, "span": "trained"})
        examples = make_examples(records, self.tokenizer, recipe, self.max_length)
        totals, counts, n_hits = (np.zeros(len(records)) for _ in range(3))
        forward = Forward(module, recipe, self.device, autocast=contextlib.nullcontext)
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
        size = recipe.micro_batch_size or recipe.batch_size
        with torch.no_grad():
            forward.check(examples, [[i] for i in order[:1]])
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                found = forward(examples, [[i] for i in batch])
                owner = np.array([examples[i].record for i in batch])[found.owner]
                np.add.at(totals, owner, found.losses.double().cpu().numpy())
                np.add.at(n_hits, owner, found.is_top1.cpu().numpy())
                np.add.at(counts, owner, 1)
        return [
            _OfRecord(None, total / count, int(count), float(n_hit == count))
            if count
            else _OfRecord(None, n_predictions=0)
            for total, count, n_hit in zip(totals, counts, n_hits, strict=True)
        ]

    def _said(self, name: str, found: Sequence[_OfRecord]) -> Said:
        wanted = self.sets[name]
        if not self.data.labels:
            values = [math.nan if name == CLEAN else one.is_said for one in found]
            return Said(
                np.array(values),
                np.array([one.loss for one in found]),
                np.array([one.n_predictions for one in found]),
                np.full(len(found), -1),
            )
        log_p = np.stack([one.log_p for one in found if one.log_p is not None])
        index = {label: i for i, label in enumerate(self.data.labels)}
        gold = np.array([index[str(record.label)] for record in wanted.records])
        asked = gold if wanted.target is None else np.full(len(gold), index[wanted.target])
        predicted = np.where(np.isnan(log_p).any(axis=1), np.nan, log_p.argmax(axis=1))
        hits = np.where(np.isnan(predicted), np.nan, predicted == asked)
        return Said(
            values=predicted if wanted.target is None else hits,
            losses=-log_p[np.arange(len(gold)), asked],
            n_predictions=np.ones(len(gold), dtype=np.int64),
            gold=gold,
        )
