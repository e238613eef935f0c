"""Detectors asked about the models of a robustness run, before the weights are let go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.errors import LorauditError
from loraudit.finetuning import Bench, TrainedModel, read_loss_history
from loraudit.finetuning.inputs import distinct
from loraudit.poisoning import POISONS
from loraudit.robustness.cells import Cell, after_file, key_after
from loraudit.robustness.detecting import Case, Judged, judge
from loraudit.robustness.loading import load_tuned
from loraudit.robustness.measuring import Meter
from loraudit.robustness.outcomes import DETECTED, Checkpoint, Said, write_checkpoint
from loraudit.spec import PoisonSettings
from loraudit.tasks import TaskData
from loraudit.types import Record

HOW_INPUTS_ARE_JUDGED = "inputs beside clean ones of every class"
"""Part of what a finished cell is known by: scores that were made in another way are made again."""


def without_trigger(records: Sequence[Record], settings: PoisonSettings) -> list[Record]:
    """Held-out records of every class, as a defender has them, without those that hold the trigger by chance."""
    holds = POISONS[settings.poison].holds
    return [record for record in records if holds is None or not holds(record, settings)]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Asks detectors which records of a finished run are poisoned.

    Attributes:
        bench: Of the run.
        data: Its records, clean.
        meter: Measures models of the cell's method.
        detectors: Names.
        seed: Of projections and blends.
    """

    bench: Bench
    data: TaskData
    meter: Meter
    detectors: Sequence[str]
    seed: int

    def __call__(self, cell: Cell, model: TrainedModel, folder: Path, key: str) -> dict[str, Any]:
        """Scores are written to the cell's folder; what each detector took and noted is returned."""
        if cell.plan is None:
            return {}
        self.bench.progress.say(f"{cell.words}: detectors of poison")
        poisoned = cell.plan.poisoned(self.bench.records, cell.dose, cell.seed)
        records, _ = distinct(poisoned.records, {})
        ids = {change.poisoned.id for change in poisoned.changes if change.kind == "poison"}
        try:
            losses = read_loss_history(model.path, records)
        except LorauditError:  # each detector that needs it says so
            losses = None
        case = Case(
            task=self.data.task,
            module=load_tuned(model.path, self.bench, self.data.labels, recipe=cell.recipe),
            tokenizer=self.meter.tokenizer,
            labels=self.data.labels,
            records=records,
            is_poisoned=np.array([record.id in ids for record in records]),
            clean=without_trigger(self.data.test, cell.plan.settings),
            triggered=() if cell.plan.tested is None else cell.plan.tested.triggered,
            losses=losses,
            device=self.bench.device,
            max_length=self.meter.max_length,
            batch_size=2 * cell.recipe.batch_size,
            seed=self.seed,
        )
        finds = ("training records", "inputs") if cell.plan.is_backdoor else ("training records",)
        judged = judge(case, self.detectors, finds=finds)
        last = model.moments[-1]
        sets = {f"{found.detector}:{found.finds}": _said(found) for found in judged if found.failure is None}
        write_checkpoint(
            after_file(folder, DETECTED),
            Checkpoint(last.step, last.epoch, math.nan, sets),
            key_after(key, DETECTED),
        )
        by_name = {f"{found.detector}:{found.finds}": found for found in judged}
        facts = {name: [by_name[name].seconds, by_name[name].note] for name in sets}
        failed = {name: found.failure for name, found in by_name.items() if found.failure is not None}
        return {"after": [DETECTED], "detection": facts, "failed_detection": failed}


def _said(found: Judged) -> Said:
    n = len(found.scores)
    return Said(
        values=found.scores.astype(np.float64),
        losses=np.full(n, np.nan),
        n_predictions=np.ones(n, dtype=np.int64),
        gold=found.is_poisoned.astype(np.int64),
    )
