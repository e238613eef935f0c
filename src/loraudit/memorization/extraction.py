"""What a greedy reader gets back of each record, from evidence alone: nothing is generated.

A record is its T audited tokens; what stands before them (a start token, a prompt) is always given. In a table of
evidence every token was predicted from the true ones before it. Where a run of such predictions hits, greedy
generation writes the same tokens, because each of them is the context of the next. Where a record was cut into
several windows, or text that is not audited stands between audited tokens, the model is taken to see that text.

Measures are NaN for records that could not be scored, and for those too short for what is asked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loraudit.errors import ConfigError
from loraudit.types import BoolArray, FloatArray, IntArray, TokenTable


class Greedy(NamedTuple):
    """Whether the suffix of each record is what greedy generation writes after its prefix.

    Attributes:
        is_extracted: [N] 1 for yes, 0 for no, NaN where the record has fewer tokens or could not be scored.
        has_small_margin: [N] some token of the suffix was predicted with so small a lead over the second that
            rounding may make generation differ; False where undefined.
    """

    is_extracted: FloatArray
    has_small_margin: BoolArray


class Suffixes(NamedTuple):
    """Where the same part of every record stands in the flat columns of a table.

    Attributes:
        records: [n] records that have this part.
        starts: [n] its first token.
        ends: [n] one past its last; never at its first.
        n_records: N, with those that lack it.
    """

    records: IntArray
    starts: IntArray
    ends: IntArray
    n_records: int

    def spread(self, values: FloatArray) -> FloatArray:
        """[N] the values [n] at their records, NaN elsewhere."""
        found = np.full(self.n_records, np.nan)
        found[self.records] = values
        return found


def exact_memorization(table: TokenTable) -> FloatArray:
    """[N] share of each record's tokens that are the model's most likely one.

    Args:
        table: Evidence; only audited tokens count.

    References:
        Tirumala et al. 2022, arXiv:2205.10770.
    """
    table = table.audited()
    parts = suffixes(table, 0, None)
    hits_before = _counts_before(table.columns["is_top1"])
    return parts.spread((hits_before[parts.ends] - hits_before[parts.starts]) / (parts.ends - parts.starts))


def minimal_prefix(table: TokenTable) -> FloatArray:
    """[N] the fewest tokens a, given which greedy generation writes all the others; T where it misses the last one.

    Args:
        table: Evidence; only audited tokens count.
    """
    table = table.audited()
    parts = suffixes(table, 0, None)
    hits = table.columns["is_top1"]
    last_miss = np.maximum.accumulate(np.where(hits, -1, np.arange(len(hits))))
    return parts.spread(np.maximum(last_miss[parts.ends - 1] + 1 - parts.starts, 0).astype(np.float64))


def extraction_strength(table: TokenTable) -> FloatArray:
    """[N] 1 − a/T with a the `minimal_prefix`: 1 where nothing need be given, 0 where the last token is missed.

    Args:
        table: Evidence; only audited tokens count.

    References:
        Carlini et al. 2021, arXiv:2012.07805; Carlini et al. 2023, arXiv:2202.07646.
    """
    table = table.audited()
    return 1 - minimal_prefix(table) / table.n_tokens


def hit_runs(table: TokenTable) -> IntArray:
    """[tokens] how many tokens, from this one on and within its record, greedy generation writes if given all before.

    Args:
        table: Evidence; only audited tokens count, so the result has as many tokens as `table.audited()`.
    """
    table = table.audited()
    hits = table.columns["is_top1"]
    places = np.arange(len(hits))
    next_miss = np.minimum.accumulate(np.where(hits, len(hits), places)[::-1])[::-1]
    return np.minimum(next_miss, np.repeat(table.offsets[1:], table.n_tokens)) - places


def greedy_extraction(table: TokenTable, *, prefix: int, suffix: int, margin_below: float) -> Greedy:
    """Whether tokens prefix to prefix + suffix of each record are all the model's most likely ones.

    In float32 this equals what generation gives; at lower precision about one in 300 differs, nearly always one
    whose margin is small.

    Args:
        table: Evidence; only audited tokens count.
        prefix: Tokens given, 0 or more.
        suffix: Tokens to be written, 1 or more.
        margin_below: Nats between the first and the second token, below which a margin is small.

    Raises:
        ConfigError: A length is out of range.

    References:
        Carlini et al. 2023, arXiv:2202.07646 (discoverable memorization).
    """
    table = table.audited()
    parts = suffixes(table, prefix, suffix)
    misses_before = _counts_before(~table.columns["is_top1"])
    small_before = _counts_before(table.columns["margin"] < margin_below)
    has_small_margin = np.zeros(len(table), dtype=bool)
    has_small_margin[parts.records] = small_before[parts.ends] > small_before[parts.starts]
    is_extracted = misses_before[parts.ends] == misses_before[parts.starts]
    return Greedy(parts.spread(is_extracted.astype(np.float64)), has_small_margin)


def suffixes(table: TokenTable, prefix: int, suffix: int | None) -> Suffixes:
    """The `suffix` tokens behind the first `prefix` of each record; all of them for None.

    Args:
        table: Evidence of which every token is audited.
        prefix: 0 or more.
        suffix: 1 or more, or None.

    Raises:
        ConfigError: A length is out of range.
    """
    if prefix < 0:
        raise ConfigError(f"Prefix of {prefix} tokens is out of range. Expected 0 or more.")
    if suffix is not None and suffix < 1:
        raise ConfigError(f"Suffix of {suffix} tokens is out of range. Expected 1 or more.")
    is_long_enough = table.n_tokens >= prefix + (suffix or 1)
    records = np.flatnonzero(is_long_enough & (np.asarray(table.status, dtype=np.str_) == "ok"))
    starts = table.offsets[records] + prefix
    return Suffixes(records, starts, table.offsets[records + 1] if suffix is None else starts + suffix, len(table))


def _counts_before(mask: BoolArray) -> IntArray:
    """[len + 1] how many are true before each place."""
    counts = np.zeros(len(mask) + 1, dtype=np.int64)
    np.cumsum(mask, out=counts[1:])
    return counts
