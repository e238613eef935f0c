"""Edits between the beginnings of a text and another, moved on token by token for many beginnings at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from loraudit.types import BoolArray, IntArray


class Distance(Protocol):
    """Edits between beginnings y[:t] and the suffix z, kept as a state [B, S] that a token moves on."""

    def start(self) -> IntArray:
        """[1, S] of the empty beginning."""
        ...

    def after(self, states: IntArray, is_equal: BoolArray, t: int) -> IntArray:
        """[B, U, S] states after token number t, by kinds of token: is_equal [U, L] says which z[j] it is."""
        ...

    def least(self, states: IntArray, t: int) -> IntArray:
        """[…] no continuation of a beginning of t tokens is nearer than that."""
        ...

    def final(self, states: IntArray, t: int) -> IntArray:
        """[…] distance of a beginning of t tokens that ends there."""
        ...


@dataclass(frozen=True, slots=True)
class Hamming:
    """Places at which two texts differ; what the shorter one lacks counts."""

    length: int

    def start(self) -> IntArray:
        """[1, 1]."""
        return np.zeros((1, 1), dtype=np.int64)

    def after(self, states: IntArray, is_equal: BoolArray, t: int) -> IntArray:
        """[B, U, 1]."""
        return states[:, None] + ~is_equal[None, :, t, None]

    def least(self, states: IntArray, t: int) -> IntArray:
        """Differences only grow."""
        del t
        return states[..., 0]

    def final(self, states: IntArray, t: int) -> IntArray:
        """Differences and missing tokens."""
        return states[..., 0] + self.length - t


@dataclass(frozen=True, slots=True)
class Levenshtein:
    """Tokens to insert, delete or replace (Levenshtein 1966); a state is the row of distances to every z[:j].

    Attributes:
        length: Of the suffix.
        may_end: Whether a continuation may be shorter than the suffix.
    """

    length: int
    may_end: bool

    def start(self) -> IntArray:
        """[1, L + 1]."""
        return np.arange(self.length + 1)[None]

    def after(self, states: IntArray, is_equal: BoolArray, t: int) -> IntArray:
        """[B, U, L + 1] by the recurrence of Wagner and Fischer 1974."""
        del t
        kept_or_replaced = states[:, None, :-1] + ~is_equal[None]
        rows = np.repeat(states[:, None] + 1, len(is_equal), axis=1)
        np.minimum(rows[..., 1:], kept_or_replaced, out=rows[..., 1:])
        # Leaving out tokens of z: row[j] = min over i ≤ j of row[i] + j − i, as a running minimum.
        places = np.arange(self.length + 1)
        return np.minimum.accumulate(rows - places, axis=-1) + places

    def least(self, states: IntArray, t: int) -> IntArray:
        """From y[:t] ~ z[:j] on, texts that have unequally many tokens left need an edit for each."""
        ahead = np.arange(self.length + 1) - t
        unequal = np.maximum(-ahead, 0) if self.may_end else np.abs(ahead)
        return (states + unequal).min(-1)

    def final(self, states: IntArray, t: int) -> IntArray:
        """Distance to the whole suffix."""
        del t
        return states[..., -1]
