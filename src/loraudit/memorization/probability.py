"""How probable it is that sampling writes a record's own tokens, and how many attempts that takes.

Log-probabilities are sums over tokens in nats; they reach far below what a float can hold as a probability, so
everything stays on the log scale until the end.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from loraudit.errors import ConfigError
from loraudit.memorization.extraction import Suffixes, suffixes
from loraudit.types import Decoding, FloatArray, TokenTable

FULL_SOFTMAX: Decoding = (0, 1.0)
"""Sampling from the model's own probabilities."""

_ROUNDING = 1e-12
"""A number of attempts that is a hair above a whole one is that one."""
_TINY = -40.0
"""Below this log-probability, log(1 − p) is −p to the last digit."""


def suffix_log_prob(table: TokenTable, decoding: Decoding, *, prefix: int = 0, suffix: int | None = None) -> FloatArray:
    """Log-probability log p_z of each record's suffix under a decoding, Σ (log p_t / T − log-sum-exp_t).

    Args:
        table: Evidence with the log-sum-exps of this decoding; only audited tokens count.
        decoding: (k, temperature), k = 0 for all tokens. (0, 1) is what `log_prob` states and needs nothing more.
        prefix: Tokens given.
        suffix: Tokens to be written; None for all that follow.

    Returns:
        [N] at most 0; −inf where the decoding forbids a token; NaN where the record has fewer tokens or could not
        be scored.

    Raises:
        ConfigError: The evidence lacks the decoding, or a length is out of range.

    References:
        Hayes et al. 2024, arXiv:2410.19482.
    """
    table = table.audited()
    parts = suffixes(table, prefix, suffix)
    log_probs = table.columns["log_prob"].astype(np.float64)
    if decoding != FULL_SOFTMAX:
        if decoding not in table.log_sum_exps:
            known = [FULL_SOFTMAX, *(known for known in table.log_sum_exps if known != FULL_SOFTMAX)]
            raise ConfigError(
                f"Decoding {_words(decoding)} is not in the evidence. Expected one of: "
                f"{'; '.join(map(_words, known))}. Score the records with it among the decodings."
            )
        with np.errstate(invalid="ignore"):  # infinities of records that could not be scored
            log_probs = log_probs / decoding[1] - table.log_sum_exps[decoding]
        log_probs = np.minimum(log_probs, 0)  # float32 noise may leave a certain token a hair above 1
    return parts.spread(_sums(log_probs, parts))


def attempts_needed(log_p_z: ArrayLike, p: float) -> FloatArray:
    """Fewest independent samples of which at least one is z with probability `p` or more.

    n = max(1, ⌈log(1 − p) / log(1 − p_z)⌉).

    Args:
        log_p_z: Log-probability of z in one sample; NaN stays so.
        p: In (0, 1).

    Returns:
        In the shape of `log_p_z`; inf for p_z = 0 and where n exceeds the largest float, about 1.8e308.

    Raises:
        ConfigError: `p` is out of range.
        ValueError: A log-probability is above 0.

    References:
        Hayes et al. 2024, arXiv:2410.19482: (n, p)-discoverable extraction.

    >>> attempts_needed(np.log([1.0, 0.5, 0.001]), 0.9).tolist()
    [1.0, 4.0, 2302.0]
    """
    if not 0 < p < 1:
        raise ConfigError(f"Probability {p} of extraction is out of range. Expected a number between 0 and 1.")
    with np.errstate(over="ignore"):
        n = np.exp(math.log(-math.log1p(-p)) - _log_hazard(log_p_z))
    return np.maximum(1.0, np.ceil(n * (1 - _ROUNDING)))


def probability_within(log_p_z: ArrayLike, n: ArrayLike) -> FloatArray:
    """Probability that at least one of n independent samples is z: 1 − (1 − p_z)^n.

    Args:
        log_p_z: Log-probability of z in one sample; NaN stays so.
        n: Samples, at least 1; broadcasts with `log_p_z`.

    Raises:
        ConfigError: An n is below 1.
        ValueError: A log-probability is above 0.

    >>> probability_within(np.log(0.5), [1, 2, 3]).tolist()
    [0.5, 0.75, 0.875]
    """
    n = np.asarray(n, dtype=np.float64)
    if not bool((n >= 1).all()):
        raise ConfigError(f"Number of attempts {n.min():g} is out of range. Expected 1 or more.")
    with np.errstate(over="ignore", under="ignore"):
        return -np.expm1(-np.exp(np.log(n) + _log_hazard(log_p_z)))


def bits_above_base(
    target: TokenTable, reference: TokenTable, *, prefix: int = 0, suffix: int | None = None
) -> FloatArray:
    """Bits that the target saves on each record's suffix beyond what the reference saves: max(0, log2 p_T / p_R).

    Over all tokens of a record this is what the model holds of it beyond what the reference could know; summed over
    the training set, how much of the model's capacity the set takes up.

    Args:
        target: Evidence of the fine-tuned model; only audited tokens count.
        reference: Of its base, on the same records.
        prefix: Tokens given.
        suffix: Tokens that count; None for all that follow.

    Returns:
        [N] NaN where the record has fewer tokens or either model could not score it.

    Raises:
        ConfigError: A length is out of range.
        ValueError: The tables do not hold the same records.

    References:
        Morris et al. 2025, arXiv:2505.24832 (unintended memorization).
    """
    target, reference = target.audited(), reference.audited()
    if not np.array_equal(target.offsets, reference.offsets):
        raise ValueError(
            f"Tables of {len(target)} and {len(reference)} records do not hold the same tokens. "
            "Expected the target's and the reference's evidence on the same records."
        )
    known, of_reference = suffixes(target, prefix, suffix), suffixes(reference, prefix, suffix)
    with np.errstate(invalid="ignore"):  # infinities of records that could not be scored
        ratios = target.columns["log_prob"].astype(np.float64) - reference.columns["log_prob"]
    both = np.isin(known.records, of_reference.records, assume_unique=True)
    parts = Suffixes(known.records[both], known.starts[both], known.ends[both], known.n_records)
    return parts.spread(np.maximum(_sums(ratios, parts), 0) / math.log(2))


def _log_hazard(log_p: ArrayLike) -> FloatArray:
    """log(−log(1 − p)) to full precision from p = 1 (inf) down to p = 0 (−inf), by way of floats p cannot be."""
    log_p = np.asarray(log_p, dtype=np.float64)
    if bool((log_p > 0).any()):
        raise ValueError(f"Log-probability {np.nanmax(log_p):g} is above 0. Expected nats, at most 0.")
    with np.errstate(divide="ignore"):
        by_difference = np.log(-np.log(-np.expm1(log_p)))
        by_logarithm = np.log(-np.log1p(-np.exp(np.clip(log_p, _TINY, -math.log(2)))))
    return np.where(log_p < _TINY, log_p, np.where(log_p > -math.log(2), by_difference, by_logarithm))


def _sums(column: FloatArray, parts: Suffixes) -> FloatArray:
    """[n] sums of a flat column over each part.

    Differences of running sums would carry the rounding, and the infinities, of all records before.
    """
    cuts = np.column_stack([parts.starts, parts.ends]).ravel()
    with np.errstate(invalid="ignore"):  # between the parts stands anything
        return np.add.reduceat(np.append(column, 0.0), cuts)[::2]


def _words(decoding: Decoding) -> str:
    k, temperature = decoding
    return f"top-k {k or 'all'} at temperature {temperature:g}"
