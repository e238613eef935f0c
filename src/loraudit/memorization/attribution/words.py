"""The documents that share most, and the rarest, words with a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from loraudit.types import FloatArray


class Ranked(NamedTuple):
    """A document and its BM25 score, which is comparable for one text only."""

    document: int
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class WordIndex:
    """Documents for BM25 as the library `bm25s` defines it (Lucene's variant, k1 = 1.5, b = 0.75).

    Words are lower-cased runs of two or more letters, digits or underscores; nothing is stemmed. Stop words are kept:
    a text of stop words alone still has its nearest documents, and with 20 000 documents they cost a quarter of a
    millisecond per text. Scripts without spaces between words are one long word each, which BM25 cannot use.

    References:
        Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework". Lù 2024, arXiv:2407.03618.
    """

    tokenizer: Any
    retriever: Any

    @classmethod
    def of(cls, documents: Sequence[str]) -> WordIndex:
        """Index documents; without a single word among them no text has a nearest one."""
        library: Any = import_module("bm25s")  # has no types
        tokenizer = library.tokenization.Tokenizer(stopwords=None)
        numbers = tokenizer.tokenize(documents, update_vocab=True, show_progress=False, allow_empty=False)
        vocabulary = tokenizer.get_vocab_dict()
        if not vocabulary:
            return cls(tokenizer, None)
        retriever = library.BM25(backend="numpy")
        retriever.index((numbers, vocabulary), show_progress=False)
        return cls(tokenizer, retriever)

    @property
    def n_bytes(self) -> int:
        """Memory of the scores; the vocabulary is not counted."""
        if self.retriever is None:
            return 0
        return sum(self.retriever.scores[name].nbytes for name in ("data", "indices", "indptr"))

    def nearest(self, text: str, n: int) -> list[Ranked]:
        """At most `n` documents with a word of the text, the best first, of equals those with the smaller number."""
        if self.retriever is None or n < 1:
            return []
        numbers = self.tokenizer.tokenize([text], update_vocab=False, show_progress=False, allow_empty=False)[0]
        if not numbers:
            return []
        scores: FloatArray = self.retriever.get_scores_from_ids(numbers)
        least = np.partition(scores, -n)[-n] if n < len(scores) else 0.0
        candidates = np.flatnonzero((scores >= least) & (scores > 0))
        order = np.argsort(-scores[candidates], kind="stable")[:n]
        return [Ranked(int(document), float(scores[document])) for document in candidates[order]]
