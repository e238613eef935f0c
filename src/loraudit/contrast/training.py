"""The training runs of a contrast: a learning rate for each method, then every method with every seed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.contrast.arms import Arm
from loraudit.contrast.records import Split
from loraudit.errors import ModelError
from loraudit.execution import Progress, StopRequest
from loraudit.finetuning import TrainedModel, finetune, identity_of
from loraudit.models import locate
from loraudit.models.fingerprint import count_parameters
from loraudit.spec import ContrastSpec, Recipe, TriedRate
from loraudit.store import open_private_folder, write_atomically

_HIGHEST_START = 3e-3
_FACTOR = math.sqrt(10)
_MOST_TRIES = 6


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains the recipes of one contrast.

    Attributes:
        spec: The request.
        split: Its records.
        folder: Of the contrast.
        device: Where to train.
        progress: Told how far it is.
        stop: Asked between steps.
    """

    spec: ContrastSpec
    split: Split
    folder: Path
    device: str
    progress: Progress
    stop: StopRequest | None

    def train(self, recipe: Recipe, out: Path) -> TrainedModel:
        """One training run; what is there already is used again."""
        return finetune(
            self.spec.base,
            self.split.members,
            recipe,
            out,
            validation=self.split.validation,
            copies=self.split.copies,
            device=self.device,
            offline=self.spec.offline,
            progress=self.progress,
            stop=self.stop,
        )

    def run(self, arm: Arm, learning_rate: float, seed: int, *, again: bool = False) -> TrainedModel:
        """One method with one seed; `again` trains it although its model is there."""
        recipe = arm.recipe.model_copy(update={"learning_rate": learning_rate, "seed": seed})
        self.progress.say(f"{arm.name}, seed {seed}, learning rate {learning_rate:.3g}")
        out = model_path(self.folder, arm, seed)
        open_private_folder(out.parent)
        if again:
            shutil.rmtree(out)
        return self.train(recipe, out)

    def choose_rate(self, arm: Arm) -> tuple[float, list[TriedRate]]:
        """The learning rate of the lowest validation loss after a short training run, and all that were tried.

        Leakage is never looked at. A rate with which training diverges counts as the worst.
        """
        if arm.has_rate:
            return arm.recipe.learning_rate, []
        memory = open_private_folder(self.folder / "search") / f"{arm.slug}.json"
        made_from = identity_of(
            self.spec.base,
            self.split.members,
            arm.recipe,
            validation=self.split.validation,
            copies=self.split.copies,
            offline=self.spec.offline,
        )
        tried = _remembered(memory, made_from)

        def loss(rate: float) -> float:
            key = f"{rate:.6g}"
            if key not in tried:
                self.progress.say(f"{arm.name}: trying learning rate {rate:.3g}")
                tried[key] = self._short_run(arm, rate)
                content = {"made_from": made_from, "validation_losses": tried}
                write_atomically(memory, json.dumps(content, indent=2).encode())
            known = tried[key]
            return math.inf if known is None else known

        if self.spec.learning_rates:
            best = min(self.spec.learning_rates, key=loss)
        else:
            base = locate(self.spec.base, offline=self.spec.offline)
            start = usual_rate(arm.recipe.method, count_parameters(base.folder))
            best = climb(loss, start, factor=_FACTOR, most_tries=_MOST_TRIES)
        if math.isinf(loss(best)):
            raise ModelError(
                f"Method '{arm.name}' diverged with every learning rate tried ({', '.join(sorted(tried))}). Give lower "
                "ones with --learning-rates."
            )
        by_rate = sorted((float(key), value) for key, value in tried.items())
        return best, [TriedRate(learning_rate=rate, validation_loss=value) for rate, value in by_rate]

    def _short_run(self, arm: Arm, rate: float) -> float | None:
        recipe = arm.recipe.model_copy(
            update={"learning_rate": rate, "epochs": self.spec.search_epochs, "checkpoint_epochs": (), "select": "last"}
        )
        out = self.folder / "search" / f"{arm.slug}-{rate:.3g}"
        try:
            losses = self.train(recipe, out).validation_losses
        except ModelError:
            losses = []
        shutil.rmtree(out, ignore_errors=True)
        return min((value for value in losses if math.isfinite(value)), default=None)


def model_path(folder: Path, arm: Arm, seed: int) -> Path:
    """Where the final model of one training run of a contrast is kept."""
    return folder / "models" / f"{arm.slug}-seed{seed}"


def usual_rate(method: str, n_parameters: int) -> float:
    """Where a search begins: about what is used for models of this size, ten times as much for parts of a model.

    2 / √parameters gives 1e-3 at 4 million parameters, 2e-4 at 124 million and 2e-5 at 7 billion. Ours, a rule of
    thumb; the search goes on from there.

    >>> f"{usual_rate('full', 7_000_000_000):.0e}, {usual_rate('lora', 7_000_000_000):.0e}"
    '2e-05, 2e-04'
    """
    rate = 2 / math.sqrt(max(1, n_parameters))
    return min(_HIGHEST_START, rate if method == "full" else 10 * rate)


def climb(loss: Callable[[float], float], start: float, *, factor: float, most_tries: int) -> float:
    """The best of a few rates: from `start` downhill by `factor` until both neighbours are worse.

    Args:
        loss: Of a rate; inf where training diverged. Called once per rate.
        start: Tried first.
        factor: Between neighbours.
        most_tries: Rates tried at most.

    >>> round(climb(lambda rate: abs(rate - 9), 1.0, factor=3, most_tries=6), 6)
    9.0
    """
    known: dict[int, float] = {}

    def at(step: int) -> float:
        if step not in known:
            known[step] = loss(start * factor**step)
        return known[step]

    best = 0
    at(0)
    while len(known) < most_tries:
        around = [step for step in (best + 1, best - 1) if step not in known]
        if not around:
            break
        at(around[0])
        best = min(known, key=lambda step: known[step])
    return start * factor**best


def _remembered(path: Path, made_from: dict[str, Any]) -> dict[str, float | None]:
    """Losses by learning rate, if they were taken on the same base and records."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["validation_losses"]) if found["made_from"] == made_from else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
