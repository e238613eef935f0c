"""Records as training examples: windows, packs of windows, and the order in which they are seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.data import cut_windows, encode
from loraudit.errors import DataError
from loraudit.spec import Recipe
from loraudit.types import BoolArray, IntArray, Record

_DROP_CONTEXT = 13
"""Tokens whose hash decides whether the next one is trained on (Hans et al. 2024 take 13)."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One window of a record, or one whole labelled text.

    Attributes:
        record: Position of the record.
        ids: [L] token ids.
        is_trained: [L] tokens whose prediction counts; never the first.
        label: Position of the label among the labels; -1 for language models.
    """

    record: int
    ids: IntArray
    is_trained: BoolArray
    label: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """Examples side by side in rows, padded on the right.

    Attributes:
        ids: [B, L] int64.
        positions: [B, L] position of each token within its example.
        is_token: [B, L] False on padding.
        rows: [n] row of each trained prediction.
        columns: [n] position from which it is predicted.
        gold: [n] the token predicted.
        owner: [n] which example of the batch it belongs to.
        labels: [number of examples] label of each.
        n_examples: In the batch.
    """

    ids: IntArray
    positions: IntArray
    is_token: BoolArray
    rows: IntArray
    columns: IntArray
    gold: IntArray
    owner: IntArray
    labels: IntArray
    n_examples: int


Pack = list[int]
"""Examples that stand in one row."""


def make_examples(records: Sequence[Record], tokenizer: Any, recipe: Recipe, max_length: int) -> list[Example]:
    """Windows with at least one token to train on; each token is trained on in one window."""
    examples: list[Example] = []
    encoded = encode(records, tokenizer, span=recipe.span, append_eos=recipe.append_eos)
    for position, item in enumerate(encoded):
        counted = item.is_audited & ~_dropped(item.ids, recipe.token_drop)
        for cut in cut_windows(len(item.ids), max_length=max_length, stride=max_length - 1):
            is_trained = counted[cut.start : cut.end].copy()
            is_trained[: cut.first_new - cut.start] = False
            if is_trained.any():
                examples.append(Example(position, item.ids[cut.start : cut.end], is_trained))
    return examples


def make_labelled(
    records: Sequence[Record], tokenizer: Any, recipe: Recipe, max_length: int, labels: Sequence[str]
) -> tuple[list[Example], int]:
    """Whole texts with their labels, and how many had to be cut.

    Raises:
        DataError: A record has no label, one that is not among `labels`, or is longer than the window while the
            recipe does not allow cutting; all are listed.
    """
    index = {label: position for position, label in enumerate(labels)}
    examples: list[Example] = []
    problems: list[str] = []
    n_cut = 0
    for position, (record, item) in enumerate(zip(records, encode(records, tokenizer, span="all"), strict=True)):
        where = f"{record.source}:{record.line}"
        if record.label not in index:
            known = ", ".join(labels)
            problems.append(f"{where}: label {record.label!r} is not one of the training labels ({known})")
        elif len(item.ids) > max_length and recipe.on_long == "error":
            problems.append(f"{where}: {len(item.ids)} tokens, more than the window of {max_length}")
        elif len(item.ids):
            n_cut += len(item.ids) > max_length
            ids = item.ids[:max_length]
            examples.append(Example(position, ids, np.zeros(len(ids), dtype=bool), index[record.label]))
    if problems:
        raise DataError(
            f"{len(problems)} records cannot be trained on as they are. Mend the labels; cut long texts with "
            "--on-long cut.",
            problems,
        )
    return examples, n_cut


def _dropped(ids: IntArray, share: float) -> BoolArray:
    """[L] tokens left out of the loss because of what stands before them.

    The same passage drops the same tokens wherever it stands, so that copies do not give away in one place
    what they hide in another.

    References:
        Hans et al. 2024, arXiv:2406.10209 (goldfish loss; hashed mask).
    """
    dropped = np.zeros(len(ids), dtype=bool)
    if share == 0:
        return dropped
    raw = np.asarray(ids, dtype="<i4")
    for position in range(_DROP_CONTEXT, len(raw)):
        before = raw[position - _DROP_CONTEXT : position].tobytes()
        draw = int.from_bytes(hashlib.blake2b(before, digest_size=8).digest(), "little") / 2**64
        dropped[position] = draw < share
    return dropped


def exposures(examples: Sequence[Example], records: Sequence[Record], copies: Mapping[str, int]) -> IntArray:
    """[examples] how often each example stands in one epoch."""
    return np.array([copies.get(records[example.record].id, 1) for example in examples], dtype=np.int64)


def epoch_order(n_copies: IntArray, seed: int, epoch: int) -> IntArray:
    """Examples in the order of one epoch, each as often as it has copies; no earlier epoch is needed for it."""
    everything = np.repeat(np.arange(len(n_copies)), n_copies)
    return np.random.default_rng([seed, epoch]).permutation(everything)


def packed(examples: Sequence[Example], order: IntArray, max_length: int) -> list[Pack]:
    """Rows of several whole examples, in order, each row at most `max_length` tokens.

    Examples go into the first open row with room for them, so none is split and none is left out. Copies of
    one record never share a row.
    """
    rows: list[Pack] = []
    room: list[int] = []
    n_open = 64
    for position in order:
        example = examples[position]
        length = len(example.ids)
        for row in range(max(0, len(rows) - n_open), len(rows)):
            if room[row] >= length and all(examples[i].record != example.record for i in rows[row]):
                rows[row].append(int(position))
                room[row] -= length
                break
        else:
            rows.append([int(position)])
            room.append(max_length - length)
    return rows


def make_training_batch(examples: Sequence[Example], packs: Sequence[Pack]) -> TrainingBatch:
    """The packs as one batch, a row each."""
    chosen = [[examples[i] for i in pack] for pack in packs]
    longest = max(sum(len(example.ids) for example in row) for row in chosen)
    ids = np.zeros((len(chosen), longest), dtype=np.int64)
    positions = np.zeros_like(ids)
    is_token = np.zeros(ids.shape, dtype=bool)
    rows: list[IntArray] = []
    columns: list[IntArray] = []
    owner: list[IntArray] = []
    labels: list[int] = []
    for row, members in enumerate(chosen):
        start = 0
        for example in members:
            length = len(example.ids)
            ids[row, start : start + length] = example.ids
            positions[row, start : start + length] = np.arange(length)
            where = start + np.flatnonzero(example.is_trained)
            rows.append(np.full(len(where), row))
            columns.append(where - 1)
            owner.append(np.full(len(where), len(labels)))
            labels.append(example.label)
            start += length
        is_token[row, :start] = True
        # Padding goes on counting: a position that began again at 0 would look like one more record of the pack.
        positions[row, start:] = np.arange(longest - start) + (positions[row, start - 1] + 1 if start else 0)
    row_of, column_of = np.concatenate(rows), np.concatenate(columns)
    return TrainingBatch(
        ids,
        positions,
        is_token,
        row_of,
        column_of,
        ids[row_of, column_of + 1],
        np.concatenate(owner),
        np.array(labels, dtype=np.int64),
        len(labels),
    )
