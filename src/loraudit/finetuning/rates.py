"""A learning rate for each method: chosen by validation loss in short runs, remembered, never by what is measured."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraudit.errors import ModelError
from loraudit.execution import Progress, StopRequest
from loraudit.finetuning.arms import Arm
from loraudit.finetuning.base import ResidentBase
from loraudit.finetuning.folder import TrainedModel
from loraudit.finetuning.inputs import identity_of
from loraudit.finetuning.tune import Observe, finetune
from loraudit.models import locate
from loraudit.models.fingerprint import count_parameters
from loraudit.spec import Recipe, TriedRate
from loraudit.store import open_private_folder, write_atomically
from loraudit.types import Record

_HIGHEST_START = 3e-3
_FACTOR = math.sqrt(10)
_MOST_TRIES = 6


@dataclass(frozen=True, slots=True)
class Bench:
    """What all training runs of one comparison have in common.

    Attributes:
        base: Folder or hub name.
        records: To train on.
        validation: To take the validation loss on.
        device: Where to train.
        offline: Never use the network.
        progress: Told how far it is.
        stop: Asked between steps.
        copies: Exposures of each record in an epoch, by id.
        resident: Keeps the base's hash and tokenizer.
    """

    base: str
    records: Sequence[Record]
    validation: Sequence[Record]
    device: str
    offline: bool
    progress: Progress
    stop: StopRequest | None
    copies: Mapping[str, int] = field(default_factory=dict[str, int])
    resident: ResidentBase = field(default_factory=lambda: ResidentBase(keeps_weights=False))

    def train(
        self,
        recipe: Recipe,
        out: Path,
        *,
        records: Sequence[Record] | None = None,
        observe: Observe | None = None,
        observe_at: Sequence[float] = (),
    ) -> TrainedModel:
        """One training run; what is there already is used again.

        Args:
            recipe: How.
            out: Folder of the model.
            records: Others than those all have in common.
            observe: As of `finetune`.
            observe_at: Likewise.
        """
        return finetune(
            self.base,
            self.records if records is None else records,
            recipe,
            out,
            validation=self.validation,
            copies=self.copies,
            device=self.device,
            offline=self.offline,
            progress=self.progress,
            stop=self.stop,
            resident=self.resident,
            observe=observe,
            observe_at=observe_at,
        )

    def identity(
        self, recipe: Recipe, *, records: Sequence[Record] | None = None, observe_at: Sequence[float] = ()
    ) -> dict[str, Any]:
        """What a run of this recipe is made from, as hashes."""
        return identity_of(
            self.base,
            self.records if records is None else records,
            recipe,
            validation=self.validation,
            copies=self.copies,
            offline=self.offline,
            resident=self.resident,
            observe_at=observe_at,
        )


def choose_rate(
    arm: Arm, bench: Bench, folder: Path, *, candidates: Sequence[float], epochs: int
) -> tuple[float, list[TriedRate]]:
    """The learning rate of the lowest validation loss after a short training run, and all that were tried.

    A rate with which training diverges counts as the worst.

    Args:
        arm: The method; a rate of its own is taken as it is.
        bench: What to train on.
        folder: For what was tried; a stopped search goes on from there.
        candidates: Rates; none for a search around a usual one.
        epochs: Of each short run.

    Raises:
        ModelError: Training diverges with every rate.
    """
    if arm.has_rate:
        return arm.recipe.learning_rate, []
    memory = open_private_folder(folder) / f"{arm.slug}.json"
    made_from = bench.identity(arm.recipe)
    tried = _remembered(memory, made_from)

    def loss(rate: float) -> float:
        key = f"{rate:.6g}"
        if key not in tried:
            bench.progress.say(f"{arm.name}: trying learning rate {rate:.3g}")
            tried[key] = _short_run(arm, bench, folder, rate, epochs)
            content = {"made_from": made_from, "validation_losses": tried}
            write_atomically(memory, json.dumps(content, indent=2).encode())
        known = tried[key]
        return math.inf if known is None else known

    if candidates:
        best = min(candidates, key=loss)
    else:
        base = locate(bench.base, offline=bench.offline)
        start = usual_rate(arm.recipe.method, count_parameters(base.folder))
        best = climb(loss, start, factor=_FACTOR, most_tries=_MOST_TRIES)
    if math.isinf(loss(best)):
        raise ModelError(
            f"Method '{arm.name}' diverged with every learning rate tried ({', '.join(sorted(tried))}). Give lower "
            "ones with --learning-rates."
        )
    by_rate = sorted((float(key), value) for key, value in tried.items())
    return best, [TriedRate(learning_rate=rate, validation_loss=value) for rate, value in by_rate]


def _short_run(arm: Arm, bench: Bench, folder: Path, rate: float, epochs: int) -> float | None:
    recipe = arm.recipe.model_copy(
        update={"learning_rate": rate, "epochs": epochs, "checkpoint_epochs": (), "select": "last"}
    )
    out = folder / f"{arm.slug}-{rate:.3g}"
    try:
        losses = bench.train(recipe, out).validation_losses
    except ModelError:
        losses = []
    shutil.rmtree(out, ignore_errors=True)
    return min((value for value in losses if math.isfinite(value)), default=None)


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
