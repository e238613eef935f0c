"""One training run of a robustness run, measured as it goes; what is finished is never done again."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.errors import Diverged
from loraudit.finetuning import Arm, Bench, Moment, TrainedModel
from loraudit.robustness.measuring import Meter
from loraudit.robustness.outcomes import Checkpoint, RunOutcomes, nothing_said, read_checkpoint, write_checkpoint
from loraudit.spec import Recipe
from loraudit.store import open_private_folder, write_atomically
from loraudit.tasks import Plan
from loraudit.types import Record

_DONE = "cell.json"
_MODEL = "model"
LEFT = ("merged", "cleaned")
"""Models made of a finished one, for as long as they are looked at."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run.

    Attributes:
        arm: Its method.
        rate: Its learning rate.
        plan: Its attack; None for a clean run.
        dose: As asked for; 0 for a clean run.
        seed: Of training, and of what is poisoned.
        is_control: Whether it is the positive control.
    """

    arm: Arm
    rate: float
    plan: Plan | None
    dose: float
    seed: int
    is_control: bool = False

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.arm.recipe.model_copy(update={"learning_rate": self.rate, "seed": self.seed})

    @property
    def slug(self) -> str:
        """Its folder."""
        what = "clean" if self.plan is None else f"{self.plan.asked.slug}-{self.dose:g}"
        return f"{self.arm.slug}/{what}{'-control' if self.is_control else ''}-seed{self.seed}"

    @property
    def words(self) -> str:
        """How it is called."""
        what = "clean"
        if self.plan is not None:
            what = f"{self.plan.name}, {'positive control' if self.is_control else f'dose {self.dose:g}'}"
        return f"{self.arm.name}, {what}, seed {self.seed}"

    def records(self, train: Sequence[Record]) -> Sequence[Record]:
        """What it is trained on."""
        return train if self.plan is None else self.plan.poisoned(train, self.dose, self.seed).records


@dataclass(frozen=True, slots=True)
class Finished:
    """A training run that is over.

    Attributes:
        cell: Which.
        outcomes: What was measured; without shown ids.
        facts: Of the model: recipe, parameters, steps; empty where training diverged.
        more: What else was found on its weights, by whoever looked at them.
        model: Folder of the weights; None where they were not kept.
    """

    cell: Cell
    outcomes: RunOutcomes
    facts: dict[str, Any]
    more: dict[str, Any]
    model: Path | None


Afterwards = Callable[[Cell, TrainedModel, Path, str], dict[str, Any]]
"""(cell, its model, its folder, key) → what is found on the weights before they are let go; as JSON.

The key is a hash of what the run is made from and measured on.
"""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs cells.

    Attributes:
        bench: What all are trained on, clean.
        folder: For the cells.
        observed: Epochs after which everything is measured.
        keep_models: Whether weights stay.
    """

    bench: Bench
    folder: Path
    observed: tuple[float, ...]
    keep_models: bool

    def run(
        self, cell: Cell, meter: Meter, *, asked: Sequence[str] = (), afterwards: Sequence[Afterwards] = ()
    ) -> Finished:
        """One training run and everything measured along it; or what an earlier one left.

        A poisoned run that diverges is an outcome: from there on nothing is said about any record, and nothing is
        looked at afterwards.

        Args:
            cell: Which.
            meter: Measures models of its method.
            asked: Words for what `afterwards` do; other words than before make it be done again.
            afterwards: Look at the finished weights.

        Raises:
            Diverged: A clean run did.
        """
        folder = open_private_folder(self.folder / cell.slug)
        records = cell.records(self.bench.records)
        names = meter.names(cell.plan)
        identity = self.bench.identity(cell.recipe, records=records, observe_at=self.observed)
        key = _digest([identity, meter.key(names), _poison_of(cell)])
        done = self._read(cell, folder, key, asked)
        if done is not None:
            return done
        self.bench.progress.say(cell.words)
        if (folder / _DONE).exists():
            _forget(folder)

        def observe(module: Any, moment: Moment) -> None:
            if self._is_wanted(moment):
                loss = math.nan if moment.validation_loss is None else moment.validation_loss
                checkpoint = Checkpoint(moment.step, moment.epoch, loss, meter.measure(module, names))
                write_checkpoint(_step_file(folder, moment.step), checkpoint, key)

        def trained() -> tuple[TrainedModel | Diverged, Sequence[Moment]]:
            try:
                model = self.bench.train(
                    cell.recipe, folder / _MODEL, records=records, observe=observe, observe_at=self.observed
                )
            except Diverged as error:
                if cell.plan is None:
                    raise
                return error, self._without_numbers(cell, folder, error, key)
            return model, model.moments

        model, moments = trained()
        if self._checkpoints(folder, moments, key) is None:  # damaged, or of other test records than now
            shutil.rmtree(folder / _MODEL)
            model, moments = trained()
        more = _looked(cell, model, folder, key, afterwards)
        content = {
            "key": key,
            "asked": list(asked),
            "moments": [[moment.step, moment.epoch] for moment in moments],
            "facts": {} if isinstance(model, Diverged) else model.facts,
            "more": more,
        }
        write_atomically(folder / _DONE, (json.dumps(content, indent=2) + "\n").encode())
        if not self.keep_models or isinstance(model, Diverged):
            shutil.rmtree(folder / _MODEL)
        finished = self._read(cell, folder, key, asked)
        if finished is None:
            raise RuntimeError("a run that was written a moment ago can be read")
        return finished

    def _without_numbers(self, cell: Cell, folder: Path, error: Diverged, key: str) -> list[Moment]:
        """The moments of a run that diverged; those it did not live to see are written as saying nothing."""
        per_epoch = error.n_steps // cell.recipe.epochs
        wanted = {max(1, round(per_epoch * epoch)) for epoch in (*self.observed, cell.recipe.epochs)}
        moments = [Moment(step, step / per_epoch) for step in sorted({0, *wanted})]
        start = read_checkpoint(_step_file(folder, 0), key)
        for moment in moments:
            if start is not None and moment.step >= error.step:
                lost = nothing_said(start, moment.step, moment.epoch)
                write_checkpoint(_step_file(folder, moment.step), lost, key)
        return moments

    def _is_wanted(self, moment: Moment) -> bool:
        if not moment.step:
            return True
        per_epoch = round(moment.step / moment.epoch)
        return moment.step in {max(1, round(per_epoch * epoch)) for epoch in self.observed}

    def _checkpoints(self, folder: Path, moments: Sequence[Moment], key: str) -> list[Checkpoint] | None:
        """Everything measured along a run; None where any of it is missing."""
        wanted = [moment.step for moment in moments if self._is_wanted(moment)]
        found = [read_checkpoint(_step_file(folder, step), key) for step in wanted]
        known = [checkpoint for checkpoint in found if checkpoint is not None]
        return known if len(known) == len(found) and known else None

    def _read(self, cell: Cell, folder: Path, key: str, asked: Sequence[str]) -> Finished | None:
        try:
            content = json.loads((folder / _DONE).read_text(encoding="utf-8"))
            if content["key"] != key or content["asked"] != list(asked):
                return None
            moments = [Moment(step, epoch) for step, epoch in content["moments"]]
            facts, more = content["facts"], content["more"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        checkpoints = self._checkpoints(folder, moments, key)
        after = {
            name: read_checkpoint(after_file(folder, name), key_after(key, name)) for name in more.get("after", ())
        }
        keeps = self.keep_models and "diverged" not in more
        if checkpoints is None or (keeps and not (folder / _MODEL).exists()):
            return None
        if any(checkpoint is None for checkpoint in after.values()):
            return None
        plan = cell.plan
        n_poisoned = 0
        if plan is not None:
            n_poisoned = (
                (plan.control_poisoned or 0) if cell.is_control else plan.n_poisoned[plan.doses.index(cell.dose)]
            )
        if not self.keep_models:
            shutil.rmtree(folder / _MODEL, ignore_errors=True)
        return Finished(
            cell,
            RunOutcomes(
                method=cell.arm.name,
                attack=None if plan is None else plan.name,
                dose=cell.dose,
                n_poisoned=n_poisoned,
                is_control=cell.is_control,
                seed=cell.seed,
                checkpoints=checkpoints,
                after={name: checkpoint for name, checkpoint in after.items() if checkpoint is not None},
            ),
            facts,
            more,
            folder / _MODEL if keeps else None,
        )


def _looked(
    cell: Cell, model: TrainedModel | Diverged, folder: Path, key: str, afterwards: Sequence[Afterwards]
) -> dict[str, Any]:
    """What was found on the weights; there are none where training diverged."""
    more: dict[str, Any] = {"after": []}
    if isinstance(model, Diverged):
        return {**more, "diverged": str(model)}
    for look in afterwards:
        found = look(cell, model, folder, key)
        more |= {**found, "after": [*more["after"], *found.get("after", ())]}
    return more


def after_file(folder: Path, name: str) -> Path:
    """Where the outcomes are kept of a model after something was done to it."""
    return folder / f"after-{name}.parquet"


def key_after(key: str, name: str) -> str:
    """What these outcomes rest on: all that the run itself does, and what was done to its model."""
    return _digest([key, name])


def _forget(folder: Path) -> None:
    """Nothing that was made of a finished run is taken for that of the next one in its folder."""
    (folder / _DONE).unlink()
    for path in folder.glob("after-*.parquet"):
        path.unlink()
    for name in LEFT:
        shutil.rmtree(folder / name, ignore_errors=True)


def _step_file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:06d}.parquet"


def _poison_of(cell: Cell) -> Any:
    if cell.plan is None:
        return None
    return [cell.plan.settings.model_dump(mode="json"), cell.dose, cell.is_control]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
