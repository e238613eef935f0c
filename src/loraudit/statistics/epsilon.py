"""A lower bound on ε from one training run, and exposure of planted records."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from loraudit.types import BoolArray, FloatArray, IntArray

_LARGEST = 50.0


class EpsilonBound(NamedTuple):
    """What guesses about coin-flipped records prove.

    Attributes:
        epsilon: Lower bound at `confidence`; 0 proves nothing.
        ceiling: The most that so many guesses could have proved, all of them being right.
        n_canaries: Records whose inclusion was decided by a fair coin.
        n_guesses: Made about them; the rest was passed over.
        n_correct: Right ones.
        delta: δ that the bound is stated at.
        confidence: One-sided.
    """

    epsilon: float
    ceiling: float
    n_canaries: int
    n_guesses: int
    n_correct: int
    delta: float
    confidence: float


def epsilon_from_guesses(
    n_canaries: int, n_guesses: int, n_correct: int, *, delta: float, confidence: float = 0.95
) -> EpsilonBound:
    """The ε that a training run surely spent, from how often inclusion was guessed right.

    With q = e^ε / (1 + e^ε), guesses about an (ε, δ)-private run are right at least v times out of r with a
    probability of at most Pr[Bin(r, q) ≥ v] + 2mδ · max_i Pr[v > Bin(r, q) ≥ v − i] / i. The bound is the largest
    ε at which that is below 1 − confidence. It holds only if each record was included by its own fair coin,
    independently of all else, and the guesses were chosen without looking at the coins. It is a lower bound, never a
    certificate of privacy.

    Args:
        n_canaries: m, records with a coin.
        n_guesses: r ≤ m.
        n_correct: v ≤ r.
        delta: δ.
        confidence: One-sided.

    Raises:
        ValueError: The numbers contradict each other.

    References:
        Steinke, Nasr, Jagielski 2023, arXiv:2305.08846, Theorem 5.2.

    >>> round(epsilon_from_guesses(100, 100, 100, delta=1e-5).epsilon, 2)
    3.49
    """
    if not 0 <= n_correct <= n_guesses <= n_canaries:
        raise ValueError(f"{n_correct} right of {n_guesses} guesses about {n_canaries} records is impossible.")
    if not (0 <= delta < 1 and 0 < confidence < 1):
        raise ValueError(f"Expected δ in [0, 1) and confidence in (0, 1), not {delta} and {confidence}.")

    def bound(right: int) -> float:
        def excess(epsilon: float) -> float:
            return _tail(n_canaries, n_guesses, right, epsilon, delta) - (1 - confidence)

        if excess(0.0) >= 0:
            return 0.0
        return _LARGEST if excess(_LARGEST) <= 0 else float(optimize.brentq(excess, 0.0, _LARGEST, xtol=1e-9))

    return EpsilonBound(bound(n_correct), bound(n_guesses), n_canaries, n_guesses, n_correct, delta, confidence)


def _tail(n_canaries: int, n_guesses: int, n_correct: int, epsilon: float, delta: float) -> float:
    """Most probable that so many guesses are right under (ε, δ)."""
    right = stats.binom(n_guesses, 1 / (1 + math.exp(-epsilon)))
    at_least = float(right.sf(n_correct - 1))
    if delta == 0 or n_correct == 0:
        return at_least
    steps = np.arange(1, n_correct + 1)
    between = np.cumsum(right.pmf(n_correct - steps))
    return at_least + 2 * n_canaries * delta * float(np.max(between / steps))


def guess_inclusion(scores: FloatArray, is_included: BoolArray, n_guesses: int) -> int:
    """How many guesses are right: the highest half of them "included", the lowest half "left out".

    Args:
        scores: [m] of records with a coin; higher = more likely included. NaN counts as lowest.
        is_included: [m] how the coins fell.
        n_guesses: Fixed beforehand; an odd one guesses "included" once more.

    Raises:
        ValueError: More guesses than records.
    """
    if n_guesses > len(scores):
        raise ValueError(f"{n_guesses} guesses about {len(scores)} records are too many.")
    order = np.argsort(np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    n_low = n_guesses // 2
    lowest, highest = order[:n_low], order[len(order) - (n_guesses - n_low) :]
    return int(is_included[highest].sum() + (~is_included[lowest]).sum())


def exposure_bits(ranks: IntArray | FloatArray, n_candidates: int | IntArray) -> FloatArray:
    """Bits by which a planted secret stands out among all it could have been: log2 |R| − log2 rank.

    Args:
        ranks: Of the secrets among the candidates by the model's loss; 1 is the most likely, NaN stays so.
        n_candidates: |R|, of all or of each.

    References:
        Carlini et al. 2019, arXiv:1802.08232.

    >>> exposure_bits(np.array([1, 512]), 1024).tolist()
    [10.0, 1.0]
    """
    return np.log2(n_candidates) - np.log2(ranks)


def rank_p_values(ranks: IntArray, n_candidates: int) -> FloatArray:
    """Exact probability of so low a rank, or a lower one, for a secret that was never trained on: rank / |R|."""
    return np.asarray(ranks / n_candidates, dtype=np.float64)
