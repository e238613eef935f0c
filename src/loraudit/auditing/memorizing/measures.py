"""The columns of `memorization.parquet`: what every figure of the memorization measures rests on.

A column's name is its parts joined by colons: the measure, the view (`target`, or `reference` for the base), and what
else it was asked with: prefix length, decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from loraudit.auditing.columns import group_numbers
from loraudit.auditing.memorizing.beginnings import is_long_enough
from loraudit.auditing.memorizing.request import DRAWN_FROM
from loraudit.memorization import (
    bits_above_base,
    exact_memorization,
    extraction_strength,
    greedy_extraction,
    suffix_log_prob,
)
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.types import BoolArray, Decoding, FloatArray, IntArray, TokenTable

if TYPE_CHECKING:
    from loraudit.scoring import ScoringOptions

EXACT, STRENGTH, LOSS = "exact_memorization", "extraction_strength", "loss"
GREEDY, CLOSE, LOG_PROB = "greedy", "close", "log_prob"
CAPACITY, BITS = "bits", "suffix_bits"
SAID, NEAR, FIELD = "said", "near", "field"
ANY, OWN_SUFFIX, LONGEST, PERSONAL, UNSEEN = "any", "suffix", "longest", "personal", "unseen"
VIEWS = (TARGET, REFERENCE)


def column(*parts: object) -> str:
    """The name of a column.

    >>> column("log_prob", "target", 50, (40, 0.7))
    'log_prob:target:50:40:0.7'
    """
    words = [f"{part[0]}:{part[1]:g}" if isinstance(part, tuple) else str(part) for part in parts]
    return ":".join(words)


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """The content of `memorization.parquet` as arrays.

    Attributes:
        ids: [N] shown ids.
        is_member: [N].
        groups: [N] document of each record as a number, or None.
        n_copies: [N] in the training set.
        n_tokens: [N].
        values: [N] per column, NaN = undefined or not asked.
    """

    ids: Sequence[str]
    is_member: BoolArray
    groups: IntArray | None
    n_copies: IntArray
    n_tokens: IntArray
    values: Mapping[str, FloatArray]

    @classmethod
    def of(cls, table: pa.Table) -> Measures:
        """The columns of a table that `table` wrote."""
        facts = {"id", "is_member", "group", "n_copies", "n_tokens"}
        return cls(
            table.column("id").to_pylist(),
            table.column("is_member").to_numpy(zero_copy_only=False).astype(bool),
            group_numbers(table.column("group").to_pylist()),
            table.column("n_copies").to_numpy(zero_copy_only=False),
            table.column("n_tokens").to_numpy(zero_copy_only=False),
            {
                name: np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)
                for name in table.column_names
                if name not in facts
            },
        )

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __getitem__(self, name: str) -> FloatArray:
        return self.values[name]


def allowed_prefixes(measures: Measures, prefixes: Sequence[int]) -> list[int]:
    """Those of the lengths that any member is long enough for."""
    return [
        prefix
        for prefix in prefixes
        if not np.isnan(measures[column(GREEDY, TARGET, prefix)][measures.is_member]).all()
    ]


def evidence_measures(
    tables: Mapping[str, TokenTable],
    *,
    prefixes: Sequence[int],
    suffix: int,
    options: ScoringOptions,
    decodings: Sequence[Decoding] = DRAWN_FROM,
) -> dict[str, FloatArray]:
    """[N] columns that follow from evidence alone.

    Args:
        tables: Of the target and, where one is known, of its base.
        prefixes: Lengths of the beginning that is given.
        suffix: Tokens that follow.
        options: How the evidence was made.
        decodings: Whose log-sum-exps it holds, besides the model's own distribution.
    """
    found: dict[str, FloatArray] = {}
    views = [view for view in VIEWS if view in tables]
    for view in views:
        table = tables[view]
        audited = table.audited()
        found[column(EXACT, view)] = exact_memorization(audited)
        found[column(STRENGTH, view)] = extraction_strength(audited)
        found[column(LOSS, view)] = -suffix_log_prob(audited, (0, 1.0)) / np.maximum(audited.n_tokens, 1)
        for prefix in prefixes:
            is_long = is_long_enough(table, prefix, suffix, options.max_length)
            greedy = greedy_extraction(
                audited, prefix=prefix, suffix=suffix, margin_below=2 * options.numerics.batching_noise
            )
            found[column(GREEDY, view, prefix)] = np.where(is_long, greedy.is_extracted, np.nan)
            found[column(CLOSE, view, prefix)] = np.where(is_long, greedy.has_small_margin, np.nan)
            for decoding in decodings:
                log_probs = suffix_log_prob(audited, decoding, prefix=prefix, suffix=suffix)
                found[column(LOG_PROB, view, prefix, decoding)] = np.where(is_long, log_probs, np.nan)
    if len(views) == len(VIEWS):
        both = tables[TARGET], tables[REFERENCE]
        found[CAPACITY] = bits_above_base(*both)
        for prefix in prefixes:
            is_long = is_long_enough(both[0], prefix, suffix, options.max_length)
            found[column(BITS, prefix)] = np.where(
                is_long, bits_above_base(*both, prefix=prefix, suffix=suffix), np.nan
            )
    return found
