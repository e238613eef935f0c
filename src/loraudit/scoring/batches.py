"""Which windows go through the model together. Fixed by the records alone, so that a resumed run repeats it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from loraudit.types import IntArray

BATCHES_PER_UNIT = 8


class Sequence(NamedTuple):
    """One window as the model sees it.

    Attributes:
        ids: [L] token ids.
        first_new: Position of the first token whose prediction is kept, at least 1.
    """

    ids: IntArray
    first_new: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows padded to the longest of them, on the right.

    Attributes:
        members: Positions of the windows in the list that was planned.
        ids: [B, L] int64; padding repeats the id 0 and is never looked at.
        lengths: [B].
        rows: [n] row of each kept prediction.
        columns: [n] position from which it is predicted.
        gold: [n] the id predicted.
    """

    members: list[int]
    ids: IntArray
    lengths: IntArray
    rows: IntArray
    columns: IntArray
    gold: IntArray


def plan_units(lengths: Seq[int], *, batch_tokens: int) -> list[list[int]]:
    """Cut records into units of about eight batches, longest records first.

    Args:
        lengths: Tokens that each record takes in the model, all its windows together.
        batch_tokens: Tokens of one batch.

    Returns:
        Positions of the records of each unit. The longest come first, so that a batch that does not
        fit into memory shows at once.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    units: list[list[int]] = []
    n_tokens = 0
    for position in order:
        if not units or n_tokens + lengths[position] > BATCHES_PER_UNIT * batch_tokens:
            units.append([])
            n_tokens = 0
        units[-1].append(int(position))
        n_tokens += lengths[position]
    return units


def plan_batches(sequences: Seq[Sequence], *, batch_tokens: int) -> list[Batch]:
    """Batches of similar length that hold at most `batch_tokens` tokens, padding included."""
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i].ids))
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        longest = len(sequences[order[start]].ids)
        size = max(1, batch_tokens // longest)
        batches.append(make_batch(sequences, order[start : start + size]))
        start += size
    return batches


def make_batch(sequences: Seq[Sequence], members: list[int]) -> Batch:
    """The windows `members` of `sequences` as one batch."""
    chosen = [sequences[i] for i in members]
    lengths = np.array([len(s.ids) for s in chosen], dtype=np.int64)
    ids = np.zeros((len(chosen), int(lengths.max())), dtype=np.int64)
    for row, sequence in enumerate(chosen):
        ids[row, : len(sequence.ids)] = sequence.ids
    kept = [np.arange(s.first_new, len(s.ids)) for s in chosen]
    rows = np.repeat(np.arange(len(chosen)), [len(positions) for positions in kept])
    predicted = np.concatenate(kept)
    return Batch(members, ids, lengths, rows, predicted - 1, ids[rows, predicted])
