"""Error-zone attacks (EZ-MIA, arXiv:2601.12104).

E is the set of tokens where the target's most likely token is not the record's. There
P = Σ_E max(δ, 0) is the probability mass fine-tuning moved towards the record and
N = Σ_E |min(δ, 0)| what it moved away, with δ = log p_target − log p_reference.
"""

from __future__ import annotations

import numpy as np

from loraudit.membership.attack import attack
from loraudit.types import BoolArray, FloatArray, Views

_BOTH = ("target", "reference")
_PAPER = "EZ-MIA, arXiv:2601.12104"
SMOOTHING_NATS = 1.0


def gains_and_losses(views: Views, where: BoolArray) -> tuple[FloatArray, FloatArray]:
    """P and N, [N] each in nats, over the tokens `where` [N, T]."""
    ratio = np.where(where, views.log_ratio, 0.0)
    return np.maximum(ratio, 0).sum(axis=1), np.maximum(-ratio, 0).sum(axis=1)


def smoothed_score(views: Views, *, smoothing: float = SMOOTHING_NATS) -> FloatArray:
    """[N] log((P + ε) / (N + ε)); over all audited tokens for a record without errors.

    Args:
        views: Of target and reference.
        smoothing: ε in nats; larger values pull records with little evidence harder towards 0.
    """
    errors = ~views.target.is_top1
    errors |= ~errors.any(axis=1, keepdims=True)
    gains, losses = gains_and_losses(views, errors)
    return np.log((gains + smoothing) / (losses + smoothing))


@attack(
    "error_zone",
    needs=_BOTH,
    source=f"{_PAPER}; smoothed log((P + ε)/(N + ε)) with ε = 1 nat is ours",
    summary="Gains against losses over the reference where the target errs, smoothed (default).",
)
def error_zone(views: Views) -> FloatArray:
    """[N] see `smoothed_score`."""
    return smoothed_score(views)


@attack(
    "error_zone_paper",
    needs=_BOTH,
    source=f"{_PAPER}, appendix; P/(P + N), which ranks as P/N",
    summary="The paper's rule: no error, or no loss among the errors, is the strongest sign.",
)
def error_zone_paper(views: Views) -> FloatArray:
    """[N] P/(P + N); 1 + P over all tokens where E is empty or N = 0 < P; NaN where P = N = 0."""
    errors = ~views.target.is_top1
    gains, losses = gains_and_losses(views, errors)
    all_gains, _ = gains_and_losses(views, np.ones_like(errors))
    is_strongest = ~errors.any(axis=1) | ((losses == 0) & (gains > 0))
    with np.errstate(invalid="ignore"):
        return np.where(is_strongest, 1 + all_gains, gains / (gains + losses))


@attack(
    "error_zone_reference_code",
    needs=_BOTH,
    source=f"{_PAPER}, as its released code computes it",
    summary="The released code's rule, for reproducing its numbers; it zeroes the clearest members.",
)
def error_zone_reference_code(views: Views) -> FloatArray:
    """[N] P/N without the first token; 0.0 where N = 0 or fewer than two errors are left."""
    errors = ~views.target.is_top1
    errors[:, 0] = False
    gains, losses = gains_and_losses(views, errors)
    is_zeroed = (losses == 0) | (errors.sum(axis=1) < 2)
    return np.where(is_zeroed, 0.0, gains / np.where(is_zeroed, 1.0, losses))
