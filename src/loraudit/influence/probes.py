"""The records of a contrast as rows that go through its base, and what f of each record is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.data import Encoded, cut_windows, encode
from loraudit.errors import DataError
from loraudit.spec import ContrastSpec
from loraudit.types import BoolArray, FloatArray, IntArray, Record

_FEWEST = 4


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Windows of records, and outputs as weighted sums over them.

    Outputs stand in this order: f of every record, members first; then f of the suffix of those records that have one.

    Attributes:
        chosen: [n] positions of the records among those of the contrast, members first.
        is_member: [n].
        rows: [R] of [L] token ids.
        masks: [R] of [L] tokens whose prediction counts.
        shares: [outputs, R] what each window counts in each output; a row adds up to 1.
        n_tokens: [n] audited tokens of each record.
        suffix_of: [outputs − n] which of the n records each suffix belongs to.
    """

    chosen: IntArray
    is_member: BoolArray
    rows: list[IntArray]
    masks: list[BoolArray]
    shares: FloatArray
    n_tokens: IntArray
    suffix_of: IntArray

    @property
    def n_records(self) -> int:
        """N."""
        return len(self.chosen)

    @property
    def members(self) -> IntArray:
        """Outputs that are f of members."""
        return np.flatnonzero(self.is_member)

    @property
    def nonmembers(self) -> IntArray:
        """Outputs that are f of non-members."""
        return np.flatnonzero(~self.is_member)

    def windows_of(self, outputs: IntArray) -> IntArray:
        """Windows that any of these outputs is made of."""
        return np.flatnonzero(self.shares[outputs].any(axis=0))


def encoded_records(records: Sequence[Record], tokenizer: Any, spec: ContrastSpec) -> tuple[list[Encoded], IntArray]:
    """Records as the contrast trained on them, and the tokens of each that are predicted.

    Args:
        records: Of the contrast.
        tokenizer: Of its base.
        spec: Its request.
    """
    encoded = encode(records, tokenizer, span=spec.span, append_eos=spec.append_eos)
    return encoded, np.array([int(item.is_audited[1:].sum()) for item in encoded], dtype=np.int64)


def choose(is_usable: BoolArray, is_member: BoolArray, n: int, seed: int) -> IntArray:
    """Positions of up to n members, then of as many non-members, drawn among those that can be used.

    Raises:
        DataError: A side has too few.
    """
    rng = np.random.default_rng([seed, 30])
    sides = [np.flatnonzero(is_usable & side) for side in (is_member, ~is_member)]
    fewest = min(map(len, sides))
    if fewest < _FEWEST:
        raise DataError(
            f"{len(sides[0])} members and {len(sides[1])} non-members of the contrast have tokens and a score. "
            f"Expected at least {_FEWEST} of each. Run a contrast on more records."
        )
    return np.concatenate([np.sort(rng.permutation(side)[: min(n, fewest)]) for side in sides])


def make_probe(
    encoded: Sequence[Encoded],
    chosen: IntArray,
    is_member: BoolArray,
    *,
    window: int,
    suffixes: tuple[int, int] | None,
    has_suffix: BoolArray,
) -> Probe:
    """The windows of the chosen records, and of their suffixes.

    Args:
        encoded: [N] all records.
        chosen: [n] positions.
        is_member: [N].
        window: Longest window in tokens; longer records are cut as the audits cut them, each token after half a window
            or more, so that f is what was measured.
        suffixes: Audited tokens given and to follow; None for no suffixes.
        has_suffix: [N] whether the suffix of a record was measured.
    """
    rows: list[IntArray] = []
    masks: list[BoolArray] = []
    parts: list[tuple[int, int, int]] = []  # output, row, tokens
    n_tokens: list[int] = []

    def add(output: int, item: Encoded, counts: BoolArray) -> None:
        for cut in cut_windows(len(item.ids), max_length=window, stride=max(1, window // 2)):
            mask = counts[cut.start : cut.end].copy()
            mask[: cut.first_new - cut.start] = False
            if mask.any():
                parts.append((output, len(rows), int(mask.sum())))
                rows.append(np.asarray(item.ids[cut.start : cut.end], dtype=np.int64))
                masks.append(mask)

    for output, record in enumerate(chosen):
        item = encoded[int(record)]
        audited = item.is_audited.copy()
        audited[0] = False
        n_tokens.append(int(audited.sum()))
        add(output, item, audited)
    n = len(chosen)
    suffix_of = np.flatnonzero(has_suffix[chosen]) if suffixes else np.empty(0, dtype=np.int64)
    for place, record in enumerate(chosen[suffix_of]):
        item = encoded[int(record)]
        prefix, length = suffixes or (0, 0)
        audited = np.flatnonzero(item.is_audited & (np.arange(len(item.ids)) > 0))
        counts = np.zeros(len(item.ids), dtype=bool)
        counts[audited[prefix : prefix + length]] = True
        add(n + place, item, counts)
    shares = np.zeros((n + len(suffix_of), len(rows)))
    for output, row, tokens in parts:
        shares[output, row] = tokens
    shares /= shares.sum(axis=1, keepdims=True)
    return Probe(chosen, is_member[chosen], rows, masks, shares, np.array(n_tokens), suffix_of)
