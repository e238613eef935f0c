"""How alike the units of two texts are: weights of words, cosines and Dice coefficients of all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from loraudit.memorization.plagiarism.units import Units
from loraudit.memorization.plagiarism.vectors import Vectors, cosines, products
from loraudit.types import BoolArray, FloatArray, IntArray

ROUNDING = 1e-9
"""A cosine must be over its threshold by more than rounding can do."""

_BLOCK = 2**19


class WordWeights(NamedTuple):
    """What the words of two texts weigh.

    Attributes:
        weight: [V] in the cosine, not below 0.
        is_counted: [V] whether the Dice coefficient looks at the word.
    """

    weight: FloatArray
    is_counted: BoolArray


Weigh = Callable[[FloatArray, int, Sequence[str]], WordWeights]
"""From [V] units that hold each word, the number of units of both texts, and the V stems, to their weights."""


def plain_idf(n_holding: FloatArray, n_units: int, words: Sequence[str]) -> WordWeights:
    """ln(N / df): 0 for a word that every unit holds, as for each word that two texts of one sentence share."""
    return WordWeights(np.log(n_units / n_holding), np.ones(len(words), dtype=bool))


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Two texts as weighted vectors of their units, and which of them are alike.

    Attributes:
        here: Units of the text under suspicion.
        source: Units of the source.
        here_vectors: [n, V] weights of words.
        source_vectors: [m, V].
        seeds: [S, 2] pairs (unit here, unit of the source) that are alike, in order.
        likeness: [S, 2] cosine and Dice coefficient of each.
    """

    here: Units
    source: Units
    here_vectors: Vectors
    source_vectors: Vectors
    seeds: IntArray
    likeness: FloatArray
    _fragments: dict[tuple[int, ...], float] = field(default_factory=dict[tuple[int, ...], float])

    def cosines(self, here: range, source: range) -> FloatArray:
        """[len(here), len(source)] of these units."""
        return cosines(self.here_vectors.rows(np.array(here)), self.source_vectors.rows(np.array(source)))

    def fragment_cosines(self, cases: IntArray) -> FloatArray:
        """[C] of the summed vectors of both sides.

        Args:
            cases: [C, 4] first and last unit here, first and last unit of the source.
        """
        return np.array([self._fragment_cosine(tuple(case)) for case in cases.tolist()], dtype=np.float64)

    def _fragment_cosine(self, case: tuple[int, ...]) -> float:
        found = self._fragments.get(case)
        if found is None:
            a, b = self.here_vectors.summed(case[0], case[1]), self.source_vectors.summed(case[2], case[3])
            norms = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
            found = self._fragments[case] = float((a * b).sum()) / norms if norms else 0.0
        return found


def compare(
    here: Units, source: Units, weigh: Weigh, *, cosine: float, dice: float, fewest_shared: int = 1
) -> Compared:
    """All pairs of units whose cosine and Dice coefficient are over these thresholds.

    Cosines are computed only where the other two conditions hold.

    Args:
        here: Of the text under suspicion.
        source: Of the source.
        weigh: Weight of a word.
        cosine: Of the weighted counts.
        dice: 2 |A ∩ B| / (|A| + |B|) of the sets of counted words.
        fewest_shared: Counted words that both units hold, at least.
    """
    words, columns = _joint_words(here, source)
    n_holding = np.zeros((2, len(words)))
    n_holding[0, : len(here.numbers)] = here.n_holding
    n_holding[1, columns] = source.n_holding
    weight, is_counted = weigh(n_holding.sum(axis=0), len(here) + len(source), words)
    a, b = Vectors.of(here, np.arange(len(here.numbers)), weight), Vectors.of(source, columns, weight)
    is_shared: BoolArray = is_counted & (n_holding > 0).all(axis=0)
    if is_shared.sum() < fewest_shared:
        return Compared(here, source, a, b, np.empty((0, 2), dtype=np.int64), np.empty((0, 2)))
    candidates = _candidates(a, b, is_counted, is_shared, dice, fewest_shared)
    return Compared(here, source, a, b, *_alike(a, b, *candidates, cosine))


def _joint_words(here: Units, source: Units) -> tuple[list[str], IntArray]:
    """[V] stems of both, first those of `here`, and where the stems of `source` stand among them."""
    words = list(here.numbers)
    columns = np.array([here.numbers.get(word, -1) for word in source.numbers], dtype=np.int64)
    words += [word for word, column in zip(source.numbers, columns.tolist(), strict=True) if column < 0]
    is_new = columns < 0
    columns[is_new] = np.arange(len(here.numbers), len(words))
    return words, columns


def _candidates(
    a: Vectors, b: Vectors, is_counted: BoolArray, is_shared: BoolArray, dice: float, fewest_shared: int
) -> tuple[IntArray, FloatArray]:
    """[P, 2] pairs that share enough words, in order, and [P] Dice coefficients."""
    sizes = a.n_present(is_counted), b.n_present(is_counted)
    sets = a.present(is_shared), b.present(is_shared)
    pairs: list[IntArray] = [np.empty((0, 2), dtype=np.int64)]
    dices: list[FloatArray] = [np.empty(0)]
    for rows in _blocks(np.arange(len(sizes[0])), b):
        n_shared = products(sets[0].rows(rows), sets[1])
        found = 2 * n_shared / np.maximum(1, np.add.outer(sizes[0][rows], sizes[1]))
        is_candidate: BoolArray = (found > dice) & (n_shared >= fewest_shared)
        pairs.append(np.argwhere(is_candidate) + np.array([rows[0], 0]))
        dices.append(found[is_candidate])
    return np.concatenate(pairs), np.concatenate(dices)


def _alike(a: Vectors, b: Vectors, pairs: IntArray, dices: FloatArray, cosine: float) -> tuple[IntArray, FloatArray]:
    """[S, 2] those of the pairs whose cosine is over the threshold, and [S, 2] cosine and Dice coefficient of each."""
    here, row = np.unique(pairs[:, 0], return_inverse=True)
    source, column = np.unique(pairs[:, 1], return_inverse=True)
    others = b.rows(source)
    found: list[FloatArray] = [np.empty(0)]
    for rows in _blocks(np.arange(len(here)), others):
        chosen = slice(*np.searchsorted(row, [rows[0], rows[-1] + 1]))
        found.append(cosines(a.rows(here[rows]), others)[row[chosen] - rows[0], column[chosen]])
    likeness = np.stack([np.concatenate(found), dices], axis=1)
    is_alike: BoolArray = likeness[:, 0] > cosine + ROUNDING
    return pairs[is_alike], likeness[is_alike]


def _blocks(rows: IntArray, others: Vectors) -> Iterator[IntArray]:
    """So many rows at once that their products with `others` take 2¹⁹ numbers."""
    n_rows = max(1, _BLOCK // max(1, len(others.columns), others.n_columns))
    return (rows[first : first + n_rows] for first in range(0, len(rows), n_rows))
