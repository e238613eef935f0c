"""A training set in which the sources of a text can be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.errors import DataError
from loraudit.memorization.attribution.characters import flattened
from loraudit.memorization.attribution.meaning import Embedder, MeaningIndex
from loraudit.memorization.attribution.spans import SpanIndex
from loraudit.memorization.attribution.words import WordIndex
from loraudit.types import IntArray

MIN_CHARACTERS = 30


@dataclass(frozen=True, slots=True)
class Sources:
    """Training texts that something goes back to.

    Attributes:
        rows: Their places in the training set, rising; the first of them where there are more than were asked for.
        ids: Their ids.
        n: How many there are, copies included.
    """

    rows: tuple[int, ...]
    ids: tuple[str, ...]
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class TrainingIndex:
    """A whole training set, each different text of it once.

    Different texts ("documents") are kept in the order of their characters and every tie goes to the first, so that
    the order of the training set changes nothing but rows and ids, and copies of one text take one place among the
    nearest.

    Attributes:
        documents: [D] different texts, sorted.
        rows: [N] rows of the training set, by document, rising within one.
        offsets: [D + 1] document i is the text of rows[offsets[i]] to rows[offsets[i + 1]].
        ids: [N] of the training set's rows.
        spans: Finds copied passages.
        words: Finds documents with the same words.
        meaning: Finds the document of the nearest embedding; None where no embedder was given.
    """

    documents: tuple[str, ...]
    rows: IntArray
    offsets: IntArray
    ids: tuple[str, ...]
    spans: SpanIndex
    words: WordIndex
    meaning: MeaningIndex | None

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        *,
        ids: Sequence[str] | None = None,
        min_characters: int = MIN_CHARACTERS,
        embed: Embedder | None = None,
    ) -> TrainingIndex:
        """Index a training set; no text is left out, however short.

        Args:
            texts: [N], also empty ones and copies.
            ids: [N] what the texts are called in answers; nothing is read into them. Row numbers by default.
            min_characters: Shortest copied passage to be found.
            embed: Makes sentence embeddings; without it nearness of meaning is undefined.

        Raises:
            DataError: There are not as many ids as texts.
            ConfigError: `min_characters` is below 1, or the embedder does not return one vector per text.
        """
        names = tuple(str(row) for row in range(len(texts))) if ids is None else tuple(ids)
        if len(names) != len(texts):
            raise DataError(
                f"{len(names)} ids do not name {len(texts)} training texts. Expected one each. "
                "Give as many ids as texts."
            )
        rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            rows_of.setdefault(text, []).append(row)
        documents = tuple(sorted(rows_of))
        rows = [rows_of[document] for document in documents]
        return cls(
            documents=documents,
            rows=flattened(rows),
            offsets=np.concatenate([[0], np.cumsum([len(some) for some in rows], dtype=np.int64)]).astype(np.int64),
            ids=names,
            spans=SpanIndex.of(documents, min_characters=min_characters),
            words=WordIndex.of(documents),
            meaning=None if embed is None else MeaningIndex.of(documents, embed),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays, without the texts themselves, ids and vocabulary."""
        arrays = self.rows.nbytes + self.offsets.nbytes + self.spans.n_bytes + self.words.n_bytes
        return arrays + (0 if self.meaning is None else self.meaning.vectors.nbytes)

    def sources(self, documents: IntArray, starts: IntArray, most: int) -> tuple[Sources, tuple[int, ...]]:
        """The training texts that are these documents.

        Args:
            documents: [n] different ones.
            starts: [n] where a passage begins in each.
            most: How many rows to name; all are counted.

        Returns:
            The sources, and for each that is named where the passage begins in it.
        """
        n_copies = self.offsets[documents + 1] - self.offsets[documents]
        ordinal = np.arange(int(n_copies.sum())) - np.repeat(np.cumsum(n_copies) - n_copies, n_copies)
        rows = self.rows[np.repeat(self.offsets[documents], n_copies) + ordinal]
        begins = np.repeat(starts, n_copies)
        first = np.argsort(rows, kind="stable")[:most]
        named = tuple(int(row) for row in rows[first])
        return Sources(named, tuple(self.ids[row] for row in named), len(rows)), tuple(int(s) for s in begins[first])

    def sources_of(self, document: int, most: int) -> Sources:
        """The training texts that are this document."""
        return self.sources(np.array([document]), np.zeros(1, dtype=np.int64), most)[0]
