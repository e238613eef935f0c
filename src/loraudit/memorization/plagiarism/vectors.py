"""Units of a text as sparse vectors over words: arrays of their entries alone, cheap also for two or three units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from loraudit.memorization.plagiarism.units import Units
from loraudit.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """[n, V] numbers, most of them 0.

    Attributes:
        offsets: [n + 1] row i owns entries offsets[i] to offsets[i + 1].
        columns: [E] where each entry stands in its row.
        values: [E].
        n_columns: V.
    """

    offsets: IntArray
    columns: IntArray
    values: FloatArray
    n_columns: int

    @classmethod
    def of(cls, units: Units, columns: IntArray, weight: FloatArray) -> Self:
        """Counts times weights.

        Args:
            units: n of them, of v stems.
            columns: [v] where each stem stands among all words.
            weight: [V] of all words.
        """
        where = columns[units.columns]
        return cls(units.offsets, where, units.counts * weight[where], len(weight))

    def present(self, is_word: BoolArray) -> Self:
        """1 for each of these words [V] that a row holds, and 0 for others."""
        is_kept = is_word[self.columns]
        offsets = np.concatenate([[0], np.cumsum(is_kept)])[self.offsets]
        columns = self.columns[is_kept]
        return type(self)(offsets, columns, np.ones(len(columns)), self.n_columns)

    def n_present(self, is_word: BoolArray) -> IntArray:
        """[n] how many of these words [V] each row holds."""
        return np.diff(np.concatenate([[0], np.cumsum(is_word[self.columns])])[self.offsets])

    def norms(self) -> FloatArray:
        """[n] Euclidean lengths."""
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return np.sqrt(np.bincount(rows, weights=self.values**2, minlength=len(self.offsets) - 1))

    def summed(self, first: int, last: int) -> FloatArray:
        """[V] the sum of rows first to last."""
        entries = slice(int(self.offsets[first]), int(self.offsets[last + 1]))
        total = np.bincount(self.columns[entries], weights=self.values[entries], minlength=self.n_columns)
        return total.astype(np.float64, copy=False)

    def rows(self, chosen: IntArray) -> Self:
        """These rows alone."""
        starts, lengths = self.offsets[chosen], self.offsets[chosen + 1] - self.offsets[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        entries: IntArray = np.arange(int(offsets[-1])) + np.repeat(starts - offsets[:-1], lengths)
        return type(self)(offsets, self.columns[entries], self.values[entries], self.n_columns)


def products(a: Vectors, b: Vectors) -> FloatArray:
    """[n, m] products of all rows of two; takes memory for n rows of V, and of as many as `b` has entries."""
    n, m = len(a.offsets) - 1, len(b.offsets) - 1
    dense = np.zeros((a.n_columns, n))
    dense[a.columns, np.repeat(np.arange(n), np.diff(a.offsets))] = a.values
    found = np.zeros((m, n))
    is_filled = np.diff(b.offsets) > 0
    if is_filled.any():
        terms = dense[b.columns]
        terms *= b.values[:, None]
        found[is_filled] = np.add.reduceat(terms, b.offsets[:-1][is_filled], axis=0)
    return found.T


def cosines(a: Vectors, b: Vectors) -> FloatArray:
    """[n, m] of all rows of two; 0 where one has no weight at all. Memory as for `products`."""
    norms = np.multiply.outer(a.norms(), b.norms())
    found = products(a, b)
    return np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)
