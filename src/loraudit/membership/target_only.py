"""Attacks that look at the audited model alone."""

from __future__ import annotations

import numpy as np

from loraudit.membership.attack import GRADIENT, attack
from loraudit.types import FloatArray, RecordFacts, TokenScores, Views

LOWEST_SHARE = 0.2
SIGMA_FLOOR = 1e-6


def n_lowest(n_tokens: int, share: float = LOWEST_SHARE) -> int:
    """How many tokens "the lowest k %" of `n_tokens` are: max(1, ⌊share · n⌋)."""
    return max(1, int(share * n_tokens + 1e-9))


def mean_of_lowest(values: FloatArray, share: float = LOWEST_SHARE) -> FloatArray:
    """[N, T] to [N]: mean of the lowest `share` of each row."""
    count = n_lowest(values.shape[1], share)
    return np.partition(values, count - 1, axis=1)[:, :count].mean(axis=1)


def zlib_score(tokens: TokenScores, facts: RecordFacts) -> FloatArray:
    """[N] log-likelihood in nats per zlib byte of the text."""
    return tokens.log_prob.sum(axis=1, dtype=np.float64) / facts.n_zlib_bytes


def min_k_score(tokens: TokenScores) -> FloatArray:
    """[N] mean log-probability of the 20 % least likely tokens, nats."""
    return mean_of_lowest(tokens.log_prob.astype(np.float64))


def min_k_plus_plus_score(tokens: TokenScores) -> FloatArray:
    """[N] mean of the 20 % lowest z = (log p − μ)/σ, with σ at least 1e-6."""
    sigma = np.sqrt(tokens.var_log_prob.astype(np.float64))
    z = (tokens.log_prob.astype(np.float64) - tokens.mean_log_prob) / np.maximum(sigma, SIGMA_FLOOR)
    return mean_of_lowest(z)


@attack(
    "loss",
    needs=("target",),
    source="Yeom et al. 2018, arXiv:1709.01604",
    summary="Mean log-probability of the record.",
)
def loss(views: Views) -> FloatArray:
    """[N] minus the mean loss, nats per token."""
    return views.target.log_prob.mean(axis=1, dtype=np.float64)


@attack(
    "zlib",
    needs=("target",),
    source="Carlini et al. 2021, arXiv:2012.07805",
    summary="Log-likelihood per byte of the zlib-compressed text.",
)
def zlib(views: Views) -> FloatArray:
    """[N] see `zlib_score`."""
    return zlib_score(views.target, views.facts)


@attack(
    "min_k",
    needs=("target",),
    source="Shi et al. 2024, arXiv:2310.16789 (k = 20 %)",
    summary="Mean log-probability of the 20 % least likely tokens.",
)
def min_k(views: Views) -> FloatArray:
    """[N] see `min_k_score`."""
    return min_k_score(views.target)


@attack(
    "min_k_plus_plus",
    needs=("target",),
    source="Zhang et al. 2025, arXiv:2404.02936 (k = 20 %, σ at least 1e-6)",
    summary="As min_k, after standardising each token by the model's own distribution.",
)
def min_k_plus_plus(views: Views) -> FloatArray:
    """[N] see `min_k_plus_plus_score`."""
    return min_k_plus_plus_score(views.target)


@attack(
    "gradient_norm",
    needs=("target", GRADIENT),
    source="Nasr et al. 2019, arXiv:1812.00910 (gradient norm), in the parameters that tuning trained",
    summary="Minus the norm of the gradient of the record's mean loss in what was tuned.",
)
def gradient_norm(views: Views) -> FloatArray:
    """[N] minus ‖∂(mean −log p)/∂θ‖₂: training stops where the gradients on its records are small."""
    norms = views.facts.gradient_norm
    if norms is None:
        raise ValueError("the gradients were not measured")
    return -np.asarray(norms, dtype=np.float64)
