"""Which value of a field a model finds likeliest: names, addresses, numbers in their own context.

The text around each field is scored once with every candidate in its place. A candidate's number is the total
log-probability of the text (or of the candidate's tokens), so longer candidates start lower, as they do when a model
writes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loraudit.errors import ConfigError
from loraudit.statistics import exposure_bits
from loraudit.types import BoolArray, FloatArray, IntArray


class FieldRanks(NamedTuple):
    """Where the true value of each of M fields stands among its C candidates.

    Attributes:
        ranks: [M] 1 is the likeliest; the mean of the places it shares with candidates as likely. NaN where the true
            value has no number.
        last_ranks: [M] the last of these places: ties count against the model.
        n_candidates: [M] C, the true value among them.
        bits: [M] exposure, log2 C − log2 rank.
    """

    ranks: FloatArray
    last_ranks: FloatArray
    n_candidates: IntArray
    bits: FloatArray


def rank_candidates(log_probs: FloatArray, offsets: IntArray, true_index: IntArray) -> FieldRanks:
    """Rank the true value of every field among its candidates.

    Args:
        log_probs: [total candidates] nats; a candidate without one (NaN) counts as likelier than the true value.
        offsets: [M + 1] field i owns candidates offsets[i] to offsets[i + 1].
        true_index: [M] which of its own candidates is the true one, from 0.

    Raises:
        ConfigError: A true index names none of its field's candidates.

    References:
        Lukas et al. 2023, arXiv:2302.00539 (inference of personal data); Carlini et al. 2019, arXiv:1802.08232
        (exposure).

    >>> rank_candidates(np.array([-3.0, -1.0, -2.0, -2.0]), np.array([0, 4]), np.array([2])).ranks.tolist()
    [2.5]
    """
    counts = np.diff(offsets)
    is_wrong = (true_index < 0) | (true_index >= counts)
    if is_wrong.any():
        first = int(np.flatnonzero(is_wrong)[0])
        raise ConfigError(
            f"True index {true_index[first]} of field {first} names none of its {counts[first]} candidates. "
            f"Expected 0 or more and less than their number; {int(is_wrong.sum())} of {len(counts)} fields are wrong."
        )
    values = log_probs.astype(np.float64)
    field = np.repeat(np.arange(len(counts)), counts)
    true_values = values[offsets[:-1] + true_index]
    of_true = true_values[field]

    def count(is_counted: BoolArray) -> IntArray:
        return np.bincount(field[is_counted], minlength=len(counts))

    is_known = ~np.isnan(true_values)
    n_as_likely = count(values == of_true) - 1
    last = np.where(is_known, counts - count(values < of_true), np.nan)
    ranks = last - n_as_likely / 2
    return FieldRanks(ranks, last, counts, exposure_bits(ranks, counts))
