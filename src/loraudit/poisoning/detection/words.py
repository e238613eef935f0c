"""Outlier words: a word that makes a text unlikely is suspected of being a trigger."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from loraudit.errors import ConfigError
from loraudit.poisoning.detection.detector import Observed, detector, given
from loraudit.types import FloatArray

CLEAN_QUANTILE = 0.99


@detector(
    "onion",
    requires=frozenset({"word_drops"}),
    finds=("training records", "inputs"),
    tasks=frozenset({"classification", "causal_lm"}),
    source="Qi et al. 2021, arXiv:2011.10369; by any causal language model, whose perplexity is per token",
    summary="Largest drop of the text's perplexity when one word is left out.",
    blind_to="Triggers that read well: sentences, syntax, style, topics; and several words that excuse each other.",
)
def onion(observed: Observed) -> FloatArray:
    """[N] in units of perplexity; NaN for a text without a word that can be left out."""
    largest = [_largest(word_suspicions(drops)) for drops in given(observed.word_drops)]
    return np.array(largest, dtype=np.float64)


def word_suspicions(drops: FloatArray) -> FloatArray:
    """[W] perplexity of the whole text minus that without each word.

    Args:
        drops: [1 + W] mean −log p per token, nats: of the whole text, then without each word.
    """
    perplexities = np.exp(np.asarray(drops, dtype=np.float64))
    return perplexities[:1] - perplexities[1:]


def clean_threshold(clean_drops: Iterable[FloatArray], quantile: float = CLEAN_QUANTILE) -> float:
    """The suspicion that a share `quantile` of clean texts does not exceed in any word.

    It comes from clean records alone: one from the suspected ones would move with what it is to find.

    Args:
        clean_drops: As of `word_suspicions`, of records known to be clean.
        quantile: In (0, 1).

    Raises:
        ConfigError: There are too few clean texts to resolve that quantile.
    """
    found = np.array([_largest(word_suspicions(drops)) for drops in clean_drops], dtype=np.float64)
    found = found[~np.isnan(found)]
    n_needed = int(np.ceil(1 / (1 - quantile) - 1e-9))
    if len(found) < n_needed:
        raise ConfigError(
            f"Quantile {quantile:g} of {len(found)} clean texts cannot be resolved. Expected at least {n_needed} texts "
            "with words that can be left out. Give more clean records, or a lower quantile."
        )
    return float(np.quantile(found, quantile, method="higher"))


def suspicious_words(drops: FloatArray, threshold: float) -> list[int]:
    """Places of the words whose suspicion exceeds the threshold, for `without_words` to take out."""
    return np.flatnonzero(word_suspicions(drops) > threshold).tolist()


def without_words(text: str, places: Iterable[int]) -> str:
    """The text without the words at these places; words are what white space separates."""
    left_out = set(places)
    return " ".join(word for place, word in enumerate(text.split()) if place not in left_out)


def without_each_word(text: str) -> list[str]:
    """The text with its white space made single, and then without each of its words in turn."""
    words = text.split()
    return [" ".join(words), *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))]


def _largest(suspicions: FloatArray) -> float:
    known = suspicions[~np.isnan(suspicions)]
    return float(known.max()) if len(known) else float("nan")
