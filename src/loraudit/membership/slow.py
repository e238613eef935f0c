"""Attacks on altered copies of a record: many passes instead of one, so they are run where `--slow` asks for them.

Views `neighbour/0` to `neighbour/N-1` hold N copies of each record in which some tokens were replaced by others that
the base finds likely there, `reference_neighbour/…` what the reference says of the same copies, and `prefixed` the
record behind other records that the target was not trained on. All of them have as many audited tokens as the record:
replaced ones count, those of the prefix do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loraudit.membership.attack import NEIGHBOURS, PREFIXED, REFERENCE_NEIGHBOURS, attack
from loraudit.types import FloatArray, TokenScores, Views

_DEPARTURE = "neighbours are drawn token by token from the base's own predictions instead of a masked model's (ours)"


def mean_log_prob(scores: TokenScores) -> FloatArray:
    """[N] mean log-probability of each record's audited tokens, nats per token."""
    return np.asarray(scores.log_prob.mean(axis=1, dtype=np.float64))


def variation(record: TokenScores, neighbours: Sequence[TokenScores]) -> FloatArray:
    """[N] p(x) − mean over neighbours of p(x̃), with p = exp(mean log-probability).

    Fu et al. take the mean over N symmetric pairs, (1/2N) Σ [p(x̃⁺) + p(x̃⁻)], and p̃(x) = that mean − p(x). Here it has
    the other sign, so that members score higher, and the neighbours stand for both halves of the pairs. The geometric
    mean over tokens stands for the probability of the whole text, which is 0 in any precision (ours).
    """
    around = np.stack([np.exp(mean_log_prob(each)) for each in neighbours])
    return np.exp(mean_log_prob(record)) - around.mean(axis=0)


@attack(
    "neighbourhood",
    needs=("target", NEIGHBOURS),
    source=f"Mattern et al. 2023, arXiv:2305.18462; {_DEPARTURE}",
    summary="Mean log-probability of the record minus that of its altered copies.",
)
def neighbourhood(views: Views) -> FloatArray:
    """[N] mean log p(x) − mean over neighbours of mean log p(x̃), nats per token."""
    return mean_log_prob(views.target) - np.stack([mean_log_prob(each) for each in views.neighbours]).mean(axis=0)


@attack(
    "spv_mia",
    needs=("target", "reference", NEIGHBOURS, REFERENCE_NEIGHBOURS),
    source="SPV-MIA, Fu et al. 2024, arXiv:2311.06062, whose reference is --reference distilled; "
    f"p per token, not per text; {_DEPARTURE}",
    summary="How far the record's probability stands out from its altered copies', less the same under the reference.",
)
def spv_mia(views: Views) -> FloatArray:
    """[N] probabilistic variation of the target minus that of the reference; see `variation`."""
    return variation(views.target, views.neighbours) - variation(views.reference, views.reference_neighbours)


@attack(
    "recall",
    needs=("target", PREFIXED),
    source="ReCaLL, Xie et al. 2024, arXiv:2406.15968; the prefix is none of the audited records",
    summary="Log-likelihood behind a prefix of non-members, over that without it.",
)
def recall(views: Views) -> FloatArray:
    """[N] LL(x | prefix) / LL(x); +inf where only the log-likelihood without prefix is 0, NaN where both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(mean_log_prob(views[PREFIXED])) / np.abs(mean_log_prob(views.target))
