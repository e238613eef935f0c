"""What outcomes mean: per record of one checkpoint or of a place between two, and the figures of single checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from loraudit.robustness.outcomes import CLEAN, Checkpoint, RunOutcomes, Said
from loraudit.spec import PoisonedPoint
from loraudit.statistics import Predicted, collapsed, rate_over_runs
from loraudit.tasks import partial, triggered, untriggered
from loraudit.types import FloatArray

Measure = Literal["accuracy", "clean_loss", "attack_success", "partial", "untriggered"]
"""What is known of single records."""
Shown = Literal["accuracy", "f1", "clean_loss", "attack_success", "partial"]
"""What curves are made of."""


class Scores(NamedTuple):
    """Macro averages over classes.

    Attributes:
        precision: None where some class is never predicted.
        recall: Over the classes that are there.
        f1: Likewise; a class that is never predicted counts as 0.
    """

    precision: float | None
    recall: float | None
    f1: float | None


def per_record(said: Mapping[str, Said], measure: Measure, attack: str | None) -> FloatArray | None:
    """[N] the measure on each record; None where it was not taken.

    accuracy: 1 where the predicted class is the right one. clean_loss: nats, a record of a language model weighted by
    its share of the predictions, so that the mean is that over predictions. The others: 1 where the model gives the
    target.
    """
    if measure in {"accuracy", "clean_loss"}:
        clean = said[CLEAN]
        if measure == "clean_loss":
            return _weighted(clean)
        if (clean.gold < 0).all():
            return None
        return np.where(np.isnan(clean.values), np.nan, clean.values == clean.gold)
    if attack is None:
        return None
    name = {"attack_success": triggered, "partial": partial, "untriggered": untriggered}[measure](attack)
    return said[name].values if name in said else None


def _weighted(clean: Said) -> FloatArray:
    """[N] losses times the record's share of the predictions; NaN where a record has none."""
    predicts = clean.n_predictions > 0
    if not predicts.any():
        return np.full(len(predicts), np.nan)
    return np.where(predicts, clean.losses * clean.n_predictions / clean.n_predictions[predicts].mean(), np.nan)


def at_place(run: RunOutcomes, weights: FloatArray, measure: Measure, attack: str | None) -> FloatArray | None:
    """[N] the measure at a place along a run: a straight line between two checkpoints, record by record."""
    total: FloatArray | None = None
    for position in np.flatnonzero(weights).tolist():
        values = per_record(run.checkpoints[position].sets, measure, attack)
        if values is None:
            return None
        part = weights[position] * values
        total = part if total is None else total + part
    return total


def predicted_at(run: RunOutcomes, weights: FloatArray) -> Predicted | None:
    """The classes a classifier gives clean test records at a place along a run; None of a language model."""
    places = np.flatnonzero(weights).tolist()
    said = [run.checkpoints[place].sets[CLEAN] for place in places]
    if any((clean.gold < 0).all() for clean in said):
        return None
    return [(float(weights[place]), clean.values) for place, clean in zip(places, said, strict=True)]


def is_collapsed(checkpoint: Checkpoint) -> bool:
    """Whether a model says nothing at all, or a classifier one class only or nothing better than the commonest."""
    clean = checkpoint.sets[CLEAN]
    if is_lost(checkpoint):
        return True
    known = ~np.isnan(clean.values)
    if (clean.gold < 0).all() or not known.any():
        return False
    return collapsed(clean.values[known], clean.gold[known])


def is_lost(checkpoint: Checkpoint) -> bool:
    """Whether the model has no finite loss on any clean record that it predicts something of: training diverged."""
    clean = checkpoint.sets[CLEAN]
    losses = clean.losses[clean.n_predictions > 0]
    return bool(len(losses)) and not np.isfinite(losses).any()


def is_collapsed_at(run: RunOutcomes, weights: FloatArray) -> bool:
    """Whether a run has collapsed at a place: next to it, or diverged at a checkpoint that it lies between."""
    lost = any(is_lost(run.checkpoints[position]) for position in np.flatnonzero(weights).tolist())
    return lost or is_collapsed(nearest(run, weights))


def nearest(run: RunOutcomes, weights: FloatArray) -> Checkpoint:
    """The checkpoint that a place lies closest to."""
    return run.checkpoints[int(np.argmax(weights))]


def macro_scores(clean: Said) -> Scores:
    """Macro precision, recall and F1 on clean test records.

    >>> said = Said(np.array([0.0, 0, 1, 1]), np.zeros(4), np.ones(4, dtype=int), np.array([0, 1, 1, 1]))
    >>> [round(score, 4) for score in macro_scores(said)]
    [0.75, 0.8333, 0.7333]
    """
    known = ~np.isnan(clean.values)
    if (clean.gold < 0).all() or not known.any():
        return Scores(None, None, None)
    gold, predicted = clean.gold[known], clean.values[known]
    classes = np.unique(gold)
    hits = np.array([((gold == c) & (predicted == c)).sum() for c in classes])
    n_gold = np.array([(gold == c).sum() for c in classes])
    n_predicted = np.array([(predicted == c).sum() for c in classes])
    precision = float((hits / n_predicted).mean()) if n_predicted.all() else None
    return Scores(precision, float((hits / n_gold).mean()), float((2 * hits / (n_gold + n_predicted)).mean()))


def point_of(checkpoint: Checkpoint, *, confidence: float) -> PoisonedPoint:
    """All figures of one checkpoint."""
    sets = checkpoint.sets
    accuracy = per_record(sets, "accuracy", None)
    loss = per_record(sets, "clean_loss", None)
    scores = macro_scores(sets[CLEAN])
    rates = {
        name: rate_over_runs(said.values[None], confidence=confidence).finding
        for name, said in sets.items()
        if name != CLEAN
    }

    def of(kind: str) -> dict[str, object]:
        return {name.partition(":")[2]: found for name, found in rates.items() if name.startswith(f"{kind}:")}

    return PoisonedPoint.model_validate(
        {
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "validation_loss": checkpoint.validation_loss,
            "clean_loss": float(np.nanmean(loss)) if loss is not None and not np.isnan(loss).all() else float("nan"),
            "accuracy": None if accuracy is None else rate_over_runs(accuracy[None], confidence=confidence).finding,
            "precision": scores.precision,
            "recall": scores.recall,
            "f1": scores.f1,
            "attack_success": of("triggered"),
            "untriggered": of("untriggered"),
            "partial": of("partial"),
        }
    )
