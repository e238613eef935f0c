"""Attacks in which tokens or windows of tokens vote on whether the target gained over the reference."""

from __future__ import annotations

import numpy as np

from loraudit.membership.attack import attack
from loraudit.membership.target_only import n_lowest
from loraudit.types import FloatArray, Views

_BOTH = ("target", "reference")
WINDOW_WIDTHS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)


@attack(
    "window_vote",
    needs=_BOTH,
    source="WBC, arXiv:2601.02751 (widths 2 to 40)",
    summary="Share of windows that gained over the reference, averaged over ten widths.",
)
def window_vote(views: Views) -> FloatArray:
    """[N] in [0, 1]; widths over T are skipped, NaN where none is left."""
    ratio = views.log_ratio
    n_tokens = ratio.shape[1]
    widths = [width for width in WINDOW_WIDTHS if width <= n_tokens]
    total = np.zeros(len(ratio))
    window_sum, reached = ratio, 1
    for width in widths:
        # Windows grow by one token at a time, so a sum that is exactly 0 stays exactly 0.
        for shift in range(reached, width):
            window_sum = window_sum[:, : n_tokens - shift] + ratio[:, shift:]
        reached = width
        total += np.asarray((window_sum > 0).mean(axis=1), dtype=np.float64)
    return total / len(widths) if widths else np.full(len(ratio), np.nan)


@attack(
    "hard_token",
    needs=_BOTH,
    source="HT-MIA, arXiv:2601.20885 (k = 20 %)",
    summary="Share of the 20 % hardest tokens where the target beats the reference.",
)
def hard_token(views: Views) -> FloatArray:
    """[N] in [0, 1]; tokens of equal probability are taken in reading order."""
    log_prob = views.target.log_prob
    hardest = np.argsort(log_prob, axis=1, kind="stable")[:, : n_lowest(log_prob.shape[1])]
    return (np.take_along_axis(views.log_ratio, hardest, axis=1) > 0).mean(axis=1)


@attack(
    "sign",
    needs=_BOTH,
    source="Sign test on δ (ours)",
    summary="Share of tokens where the target beats the reference.",
)
def sign(views: Views) -> FloatArray:
    """[N] in [0, 1]."""
    return (views.log_ratio > 0).mean(axis=1)


@attack(
    "paired_t",
    needs=_BOTH,
    source="Paired t statistic of δ (ours)",
    summary="Mean gain over the reference in units of its standard error.",
)
def paired_t(views: Views) -> FloatArray:
    """[N] mean δ / sd δ · √T with T − 1 degrees of freedom; NaN where T < 2 or δ is constant."""
    ratio = views.log_ratio
    n_tokens = ratio.shape[1]
    if n_tokens < 2:
        return np.full(len(ratio), np.nan)
    deviation = ratio.std(axis=1, ddof=1)
    deviation[np.ptp(ratio, axis=1) == 0] = np.nan  # rounding would leave a deviation of 1e-17
    return ratio.mean(axis=1) / deviation * np.sqrt(n_tokens)
