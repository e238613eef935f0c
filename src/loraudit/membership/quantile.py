"""Attacks calibrated by non-members: how confident a target that never saw the record would be.

A regression learns, from known non-members, what the target's confidence φ usually is on a record like this one, and
how far it scatters. A record's score is how far its own φ lies above that. It takes no other model than the target, or
the reference beside it, where shadow models take trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from loraudit.membership.attack import ScoreFunction, fitted_attack
from loraudit.membership.shadow import confidence
from loraudit.membership.target_only import mean_of_lowest
from loraudit.types import FloatArray, Views

_SOURCE = (
    "Bertran et al. 2023, arXiv:2307.03694, its Gaussian form with a linear mean and log-scale (ours), cross-fitted "
    "over the non-members"
)
RIDGE = 1.0
"""Penalty on the squared weights of standardised features, as if so many records had said 0."""
_LEAST = 1e-9
_MEAN_LOG_ABSOLUTE = -0.6351814227307391
"""E log |z| of a standard normal z: −(γ + log 2) / 2."""

PerRecord = Callable[[Views], FloatArray]


def features_of_text(views: Views) -> FloatArray:
    """[N, 5] what is known of a record before any model reads it: logs of lengths, and how dense the text is."""
    n_tokens = np.full(len(views.target), views.target.log_prob.shape[1], dtype=np.float64)
    n_bytes, n_zlib = (np.maximum(1.0, size) for size in (views.facts.n_bytes, views.facts.n_zlib_bytes))
    logs = [np.log(n_tokens), np.log(n_bytes), np.log(n_zlib)]
    return np.stack([*logs, n_zlib / n_bytes, n_bytes / n_tokens], axis=1)


def features_of_reference(views: Views) -> FloatArray:
    """[N, 12] those of the text, and what the reference says of it."""
    reference = views.reference
    log_prob = reference.log_prob.astype(np.float64)
    said = [
        confidence(reference),
        log_prob.mean(axis=1),
        log_prob.std(axis=1),
        mean_of_lowest(log_prob),
        reference.entropy.mean(axis=1, dtype=np.float64),
        np.sqrt(reference.var_log_prob.astype(np.float64)).mean(axis=1),
        reference.is_top1.mean(axis=1, dtype=np.float64),
    ]
    return np.concatenate([features_of_text(views), np.stack(said, axis=1)], axis=1)


# --- the regression -----------------------------------------------------------------------------------


class LinearRidge:
    """Least squares with a penalty, on standardised features.

    Args:
        features: [N, F], N ≥ 1.
        values: [N].
    """

    def __init__(self, features: FloatArray, values: FloatArray) -> None:
        self._centre, spread = features.mean(axis=0), features.std(axis=0)
        # A feature that is one number for all says nothing; rounding must not blow it up.
        self._scale = np.where(spread > _LEAST * (1 + np.abs(self._centre)), spread, math.inf)
        x = (features - self._centre) / self._scale
        self._level = float(values.mean())
        self._weights: FloatArray = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (values - self._level))

    def __call__(self, features: FloatArray) -> FloatArray:
        """[N] predictions."""
        x: FloatArray = (features - self._centre) / self._scale
        return self._level + (x * self._weights).sum(axis=1)  # a product of matrices rounds by their shape


def standardised(population: Iterable[Views], features: PerRecord, gained: PerRecord) -> ScoreFunction:
    """A score function: how many standard deviations `gained` lies above what is usual for such a record.

    Mean and log-scale are linear in the features; the scale is that of the residuals, by least squares on
    log |residual|, which has the mean log σ − (γ + log 2) / 2 under the normal law.

    Args:
        population: Records to learn from.
        features: [N, F] of some records.
        gained: [N] what is to be predicted.
    """
    rows = [np.column_stack([gained(views), features(views)]) for views in population]
    if not rows:
        return lambda views: np.full(len(views.target), np.nan)  # nobody to learn from
    known = np.concatenate(rows)
    known = known[np.lexsort(known.T)]  # sums depend on the order of their terms; records have none
    values, known = known[:, 0], known[:, 1:]
    mean = LinearRidge(known, values)
    residuals = np.abs(values - mean(known))
    floor = max(_LEAST, 1e-3 * float(np.sqrt((residuals**2).mean())))
    log_scale = LinearRidge(known, np.log(np.maximum(residuals, floor)))
    seen = log_scale(known)
    lowest, highest = float(seen.min()), float(seen.max())

    def score(views: Views) -> FloatArray:
        x = features(views)
        # A record unlike all that were learned from gets no scale that none of those has.
        return (gained(views) - mean(x)) / np.exp(np.clip(log_scale(x), lowest, highest) - _MEAN_LOG_ABSOLUTE)

    return score


# --- attacks ------------------------------------------------------------------------------------------


def _confidence_gained(views: Views) -> FloatArray:
    """[N] φ of the target minus φ of the reference: 0 for a target that is the reference."""
    return confidence(views.target) - confidence(views.reference)


def _confidence(views: Views) -> FloatArray:
    return confidence(views.target)


@fitted_attack(
    "quantile_regression",
    needs=("target", "reference"),
    source=_SOURCE,
    summary="Confidence above what non-members show whose text and reference scores are alike, in their scatter.",
    population="nonmembers",
)
def quantile_regression(population: Iterable[Views]) -> ScoreFunction:
    """[N] (φ_T − φ_R − its mean) / its scale, given the text and what the reference says."""
    return standardised(population, features_of_reference, _confidence_gained)


@fitted_attack(
    "quantile_regression_text",
    needs=("target",),
    source=_SOURCE,
    summary="The same from the text's length and density alone.",
    population="nonmembers",
)
def quantile_regression_text(population: Iterable[Views]) -> ScoreFunction:
    """[N] (φ_T − its mean) / its scale, given the text."""
    return standardised(population, features_of_text, _confidence)
