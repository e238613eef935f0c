"""Which records an attack may learn from that knows some non-members: never those it then scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loraudit.types import BoolArray, IntArray

N_FOLDS = 5
_PURPOSE = 40
"""Keeps the draw apart from others made with the same seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """Cross-fitting over the non-members.

    A record of fold k, member or not, is scored by a model that learned from the non-members of all other folds. Folds
    are drawn without a look at who is a member, so that a record's own label changes neither its fold nor anything its
    model learned from, and both sides are scored by models of equally many records.

    Attributes:
        of_record: [N] fold of each record; a document is in one fold, whichever side its records are on.
        is_known: [N] the non-members.
    """

    of_record: IntArray
    is_known: BoolArray

    @classmethod
    def draw(cls, is_member: BoolArray, groups: IntArray | None, *, seed: int, n_folds: int = N_FOLDS) -> Folds:
        """Folds of equally many documents, at random.

        Args:
            is_member: [N].
            groups: [N] document of each record, or None.
            seed: Of the audit.
            n_folds: Fewer where there are not so many documents.
        """
        documents = np.arange(len(is_member)) if groups is None else np.unique(groups, return_inverse=True)[1]
        n_documents = int(documents.max()) + 1 if len(documents) else 0
        of_document = np.arange(n_documents) % max(1, min(n_folds, n_documents))
        np.random.default_rng([seed, _PURPOSE]).shuffle(of_document)
        return cls(of_document[documents], ~np.asarray(is_member, dtype=bool))

    def __iter__(self) -> Iterator[tuple[BoolArray, BoolArray]]:
        """Per fold, [N] the records to learn from and [N] those to score."""
        for fold in np.unique(self.of_record):
            is_scored = self.of_record == fold
            yield self.is_known & ~is_scored, is_scored
