"""The training runs of a contrast: every method with every seed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from loraudit.finetuning import Arm, Bench, TrainedModel, choose_rate
from loraudit.spec import ContrastSpec, TriedRate
from loraudit.store import open_private_folder


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains the recipes of one contrast.

    Attributes:
        spec: The request.
        bench: What all runs are trained on.
        folder: Of the contrast.
    """

    spec: ContrastSpec
    bench: Bench
    folder: Path

    def run(self, arm: Arm, learning_rate: float, seed: int, *, again: bool = False) -> TrainedModel:
        """One method with one seed; `again` trains it although its model is there."""
        recipe = arm.recipe.model_copy(update={"learning_rate": learning_rate, "seed": seed})
        self.bench.progress.say(f"{arm.name}, seed {seed}, learning rate {learning_rate:.3g}")
        out = model_path(self.folder, arm, seed)
        open_private_folder(out.parent)
        if again:
            shutil.rmtree(out)
        return self.bench.train(recipe, out)

    def choose_rate(self, arm: Arm) -> tuple[float, list[TriedRate]]:
        """The learning rate of a method and all that were tried; leakage is never looked at."""
        return choose_rate(
            arm,
            self.bench,
            self.folder / "search",
            candidates=self.spec.learning_rates,
            epochs=self.spec.search_epochs,
        )


def model_path(folder: Path, arm: Arm, seed: int) -> Path:
    """Where the final model of one training run of a contrast is kept."""
    return folder / "models" / f"{arm.slug}-seed{seed}"
