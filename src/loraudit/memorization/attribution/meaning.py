"""The training text whose embedding is nearest: the relaxed measure of likeness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.errors import ConfigError
from loraudit.memorization.attribution.characters import blocks
from loraudit.types import FloatArray, IntArray

Embedder = Callable[[Sequence[str]], FloatArray]
"""From [N] texts to [N, d] vectors, of any length."""

_TEXTS_AT_ONCE = 1024
_CELLS_AT_ONCE = 1 << 22
_ROUNDING = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class MeaningIndex:
    """Embeddings of documents.

    Attributes:
        embed: What made them; makes those of other texts too, so that both come from one model.
        vectors: [N, d] of length 1, float32; NaN for a document whose vector is zero or not finite.
    """

    embed: Embedder
    vectors: FloatArray

    @classmethod
    def of(cls, documents: Sequence[str], embed: Embedder) -> MeaningIndex:
        """Embed documents, some at a time.

        Raises:
            ConfigError: The embedder does not return one vector per text, or vectors of several lengths.
        """
        return cls(embed, _embedded(documents, embed))

    @property
    def n_undefined(self) -> int:
        """Documents that no text can be compared with."""
        return int(np.isnan(self.vectors).any(axis=1).sum())

    def nearest(self, texts: Sequence[str]) -> tuple[IntArray, FloatArray]:
        """For each text the document of the highest cosine, and that cosine.

        Args:
            texts: [n].

        Returns:
            [n] document, of equals the one with the smaller number, and [n] cosine in [−1, 1]; −1 and NaN for a text
            whose own vector is zero or not finite, or where no document has one.

        Raises:
            ConfigError: The embedder does not return vectors like those of the documents.
        """
        vectors = _embedded(texts, self.embed)
        if len(self.vectors) and len(vectors) and vectors.shape[1] != self.vectors.shape[1]:
            raise ConfigError(
                f"Embeddings of {vectors.shape[1]} numbers cannot be compared with those of the training texts. "
                f"Expected {self.vectors.shape[1]}. Use one embedder for both."
            )
        best, cosines = np.full(len(texts), -1), np.full(len(texts), np.nan)
        known = np.flatnonzero(~np.isnan(self.vectors).any(axis=1))
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        if not len(known) or not len(rows):
            return best, cosines
        for row, close in zip(rows.tolist(), self._close(vectors[rows], known), strict=True):
            exact = np.array([_dot(self.vectors[document], vectors[row]) for document in close])
            winner = int(np.argmax(exact))
            best[row], cosines[row] = close[winner], np.clip(exact[winner], -1, 1)
        return best, cosines

    def _close(self, vectors: FloatArray, known: IntArray) -> list[IntArray]:
        """For each vector the documents near the top: the last digits of a matrix product depend on its shape."""
        top = np.full(len(vectors), -np.inf)
        rows: list[IntArray] = []
        documents: list[IntArray] = []
        found: list[FloatArray] = []
        for block in blocks(len(known), max(1, _CELLS_AT_ONCE // max(vectors.shape))):
            cosines = vectors @ self.vectors[known[block]].T
            top = np.maximum(top, cosines.max(axis=1))
            row, column = np.nonzero(cosines >= top[:, None] - _ROUNDING)
            rows.append(row)
            documents.append(known[block][column])
            found.append(cosines[row, column])
        row, document = np.concatenate(rows), np.concatenate(documents)
        is_close = np.concatenate(found) >= top[row] - _ROUNDING
        return [document[is_close & (row == i)] for i in range(len(vectors))]


def _dot(first: FloatArray, second: FloatArray) -> float:
    return float(np.sum(first.astype(np.float64) * second.astype(np.float64)))


def _embedded(texts: Sequence[str], embed: Embedder) -> FloatArray:
    parts: list[FloatArray] = []
    for block in blocks(len(texts), _TEXTS_AT_ONCE):
        some = list(texts[block])
        vectors = np.asarray(embed(some), dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != len(some) or (parts and vectors.shape[1] != parts[0].shape[1]):
            raise ConfigError(
                f"Embeddings of shape {list(vectors.shape)} do not fit {len(some)} texts. Expected one row of equally "
                "many numbers per text. Return an array [texts, d] from the embedder."
            )
        parts.append(_normalised(vectors))
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def _normalised(vectors: FloatArray) -> FloatArray:
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    is_usable = np.isfinite(largest) & (largest > 0)
    scaled = np.where(is_usable, vectors, np.nan) / np.where(is_usable, largest, 1)
    return (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
