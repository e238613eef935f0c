"""A lower bound on ε from coin-flipped canaries, and every reason not to state one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from loraudit.canaries.manifest import seal_of
from loraudit.spec import Canary, CanaryManifest, EpsilonResult, GuessCount
from loraudit.statistics import epsilon_from_guesses, guess_inclusion
from loraudit.types import FloatArray

_FEWEST = 20
_UNBELIEVABLE = 1e-6


def coin_canaries(manifest: CanaryManifest) -> list[Canary]:
    """The canaries whose inclusion was left to coins, in the manifest's order."""
    return [canary for canary in manifest.canaries if canary.use == "coin"]


def inclusion_problems(manifest: CanaryManifest) -> list[str]:
    """Why inclusion cannot be taken as decided by a fair coin each; empty where it can.

    Args:
        manifest: As it was read.
    """
    coins = coin_canaries(manifest)
    problems: list[str] = []
    if manifest.digest != seal_of(manifest):
        problems.append("The manifest was changed after it was written: its digest does not match its content.")
    if manifest.spec.inclusion != "drawn":
        problems.append("Inclusion was chosen (--inclusion chosen), not drawn: nothing was left to guess.")
    if not coins:
        problems.append("No canary was left to a coin (--coins 0).")
        return problems
    n_lacking = sum(canary.coin is None for canary in coins)
    if n_lacking:
        problems.append(f"{n_lacking} of {len(coins)} canaries lack the record of how their coin fell.")
    n_other = sum(c.coin is not None and len(c.places) != (c.repeats if c.coin else 0) for c in coins)
    if n_other:
        problems.append(f"{n_other} of {len(coins)} canaries stand elsewhere than their coin put them.")
    if len({canary.repeats for canary in coins}) > 1:
        problems.append("Coin-flipped canaries have several numbers of copies, so that ε would speak of no one unit.")
    if len(coins) < _FEWEST:
        problems.append(
            f"{len(coins)} coins are too few: at least {_FEWEST} are needed for a bound that says anything."
        )
    n_in = sum(canary.coin is True for canary in coins)
    if not n_lacking and stats.binomtest(n_in, len(coins)).pvalue < _UNBELIEVABLE:
        problems.append(f"{n_in} of {len(coins)} coins fell in, which fair coins do less than once in a million times.")
    return problems


def stated_epsilon(
    manifest: CanaryManifest, scores: FloatArray, *, shares: Sequence[float], delta: float, confidence: float
) -> EpsilonResult:
    """The ε that the training surely spent, or why none is stated.

    How many guesses to make is declared beforehand as shares of the coins. Each share gets a bound at a confidence of
    1 − (1 − confidence) / number of shares, so that the largest of them holds at `confidence` (Bonferroni). A guess
    says "in" for the highest and "out" for the lowest scores and never looks at a coin.

    Args:
        manifest: What was planted.
        scores: [m] of the coin-flipped canaries, in the manifest's order; higher = more likely in. NaN counts as
            lowest.
        shares: Of the coins to be guessed.
        delta: δ.
        confidence: One-sided.

    References:
        Steinke, Nasr, Jagielski 2023, arXiv:2305.08846.
    """
    coins = coin_canaries(manifest)
    problems = inclusion_problems(manifest)
    refused = EpsilonResult(
        status="refused",
        reason=" ".join(problems),
        delta=delta,
        confidence=confidence,
        n_coins=len(coins),
        n_included=sum(canary.is_included for canary in coins),
        repeats=coins[0].repeats if coins else manifest.spec.coin_repeats,
    )
    if problems:
        return refused
    is_included = np.array([canary.is_included for canary in coins], dtype=bool)
    sizes = sorted({max(1, round(share * len(coins))) for share in shares}, reverse=True)
    own = 1 - (1 - confidence) / len(sizes)
    guesses: list[GuessCount] = []
    for n_guesses in sizes:
        n_correct = guess_inclusion(scores, is_included, n_guesses)
        bound = epsilon_from_guesses(len(coins), n_guesses, n_correct, delta=delta, confidence=own)
        guesses.append(
            GuessCount(
                n_guesses=n_guesses,
                n_correct=n_correct,
                confidence=own,
                epsilon=bound.epsilon,
                ceiling=bound.ceiling,
            )
        )
    return refused.model_copy(
        update={
            "status": "stated",
            "reason": None,
            "epsilon": max(row.epsilon for row in guesses),
            "ceiling": max(row.ceiling for row in guesses),
            "guesses": guesses,
        }
    )
