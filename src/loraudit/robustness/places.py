"""Where along their training the runs of a method are read, and what they say there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.robustness.outcomes import CLEAN, RunOutcomes
from loraudit.robustness.readings import Measure, at_place, is_collapsed_at, predicted_at
from loraudit.spec import RobustnessSpec
from loraudit.statistics import OverRuns, crossing, f1_lost, f1_over_runs
from loraudit.types import Finding, FloatArray

_F1 = 34

Place = Callable[[RunOutcomes], "FloatArray | None"]
"""Where along a clean run a method is read: weights over its checkpoints, or None where it has no such place."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """The runs of one method on one attack at one dose, each at its place.

    Attributes:
        dose: 0 for the clean arm.
        n_poisoned: Records poisoned.
        epoch: Mean epoch at which the runs are read.
        runs: By seed.
        places: [K] weights of each.
        clean: Runs of the clean arm with the same seeds.
        clean_places: [K] weights of each.
    """

    dose: float
    n_poisoned: int
    epoch: float
    runs: Sequence[RunOutcomes]
    places: Sequence[FloatArray]
    clean: Sequence[RunOutcomes]
    clean_places: Sequence[FloatArray]

    @property
    def exposures(self) -> float:
        """Poisoned records seen until then."""
        return self.n_poisoned * self.epoch

    @property
    def is_collapsed(self) -> list[bool]:
        """Of each run, where it is read."""
        return [is_collapsed_at(run, place) for run, place in zip(self.runs, self.places, strict=True)]

    def harm(self, measure: Measure, attack: str | None) -> FloatArray | None:
        """[S, N] what is worse the larger it is: errors, loss, hits; None where it was not measured."""
        return _stacked(self.runs, self.places, measure, attack)

    def f1(self, spec: RobustnessSpec) -> tuple[OverRuns, Finding] | None:
        """Macro F1, and what of it is lost from the clean arm; None of language models."""
        poisoned = [predicted_at(run, place) for run, place in zip(self.runs, self.places, strict=True)]
        clean = [predicted_at(run, place) for run, place in zip(self.clean, self.clean_places, strict=True)]
        known, twins = ([one for one in arm if one is not None] for arm in (poisoned, clean))
        if len(known) < len(poisoned) or len(twins) < len(clean):
            return None
        gold = self.runs[0].last.sets[CLEAN].gold.astype(np.float64)
        of_both, of_one = (np.random.default_rng([spec.seed, _F1, part]) for part in range(2))
        found = f1_over_runs(known, gold, confidence=spec.confidence, n_resamples=spec.resamples, rng=of_one)
        lost = f1_lost(known, twins, gold, confidence=spec.confidence, n_resamples=spec.resamples, rng=of_both)
        return found, lost

    def clean_harm(self, measure: Measure, attack: str | None) -> FloatArray | None:
        """[S, N] the same of the clean arm."""
        return _stacked(self.clean, self.clean_places, measure, attack)


def _stacked(
    runs: Sequence[RunOutcomes], places: Sequence[FloatArray], measure: Measure, attack: str | None
) -> FloatArray | None:
    rows: list[FloatArray] = []
    for run, place in zip(runs, places, strict=True):
        values = at_place(run, place, measure, attack)
        if values is None:
            return None
        rows.append(1 - values if measure == "accuracy" else values)
    return np.stack(rows) if rows else None


def trained_crossing(run: RunOutcomes, level: float) -> FloatArray | None:
    """The place of a level of validation loss; None where only the untouched base stands there."""
    weights = crossing(run.validation, level)
    return None if weights is None or weights[0] == 1 else weights


def best_place(run: RunOutcomes) -> FloatArray | None:
    """The trained checkpoint of the lowest validation loss."""
    losses = np.where(np.isfinite(run.validation), run.validation, math.inf)[1:]
    weights = np.zeros(len(run.checkpoints))
    weights[1 + int(np.argmin(losses))] = 1.0
    return weights
