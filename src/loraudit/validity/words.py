"""Texts as numbers: words once, and any sequence of neighbours as a hash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loraudit.types import IntArray

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_WITH_DIGIT = re.compile(r"\S*\d\S*")
_DIGIT = re.compile(r"\d")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Sequences(NamedTuple):
    """Hashes of what stands in each of N texts.

    Attributes:
        hashes: [total] 64-bit.
        offsets: [N + 1] text i owns hashes offsets[i] to offsets[i + 1].
    """

    hashes: NDArray[np.uint64]
    offsets: IntArray

    def of(self, row: int) -> NDArray[np.uint64]:
        """Those of one text."""
        return self.hashes[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: IntArray) -> Sequences:
        """Those of some of the texts."""
        n = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(n)])
        where = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], n)
        return Sequences(self.hashes[where], offsets)


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Words, numbers and punctuation marks of N texts, in lower case.

    Attributes:
        numbers: [total] a number per distinct word.
        offsets: [N + 1].
        shapes: Likewise for what holds a digit, with every digit as 0, such as `0000-00-00`.
    """

    numbers: IntArray
    offsets: IntArray
    shapes: Sequences

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        """Cut texts into words."""
        numbers, offsets = _numbered([_WORD.findall(text.lower()) for text in texts])
        shapes, ends = _numbered([[_DIGIT.sub("0", w) for w in _WITH_DIGIT.findall(text)] for text in texts])
        return cls(numbers, offsets, Sequences(_mixed(shapes.astype(np.uint64) + np.uint64(1 << 40)), ends))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def ngrams(self, n: int) -> Sequences:
        """Every sequence of `n` neighbouring words; texts of fewer words have none."""
        n_words = np.diff(self.offsets)
        n_sequences = np.maximum(0, n_words - n + 1)
        offsets = np.concatenate([[0], np.cumsum(n_sequences)])
        starts = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1] - offsets[:-1], n_sequences)
        hashes = np.full(len(starts), n, dtype=np.uint64)
        words = self.numbers.astype(np.uint64)
        for position in range(n):
            hashes = _mixed(hashes ^ words[starts + position])
        return Sequences(hashes, offsets)


def _numbered(rows: Sequence[Sequence[str]]) -> tuple[IntArray, IntArray]:
    seen: dict[str, int] = {}
    numbers = np.array([seen.setdefault(word, len(seen)) for row in rows for word in row], dtype=np.int64)
    return numbers, np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A multiplicative hash; uint64 products wrap around, as they are meant to."""
    values = (values + _MIX) * _MIX
    return (values ^ (values >> _HALF)) * _MIX


def count_matrix(sequences: Sequence[Sequences], n_columns: int) -> Any:
    """[N, n_columns] sparse: how often each hashed sequence stands in each text."""
    from scipy.sparse import csr_matrix

    n_rows = len(sequences[0].offsets) - 1
    rows = np.concatenate([np.repeat(np.arange(n_rows), np.diff(s.offsets)) for s in sequences])
    columns = np.concatenate([(s.hashes % np.uint64(n_columns)).astype(np.int64) for s in sequences])
    matrix = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n_rows, n_columns))
    matrix.sum_duplicates()
    return matrix
