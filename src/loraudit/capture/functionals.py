"""What a kernel is the kernel of: one number per record, read from a batch of outputs with its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from loraudit.errors import DataError, ModelError
from loraudit.scoring.classifying import PaddedBatch
from loraudit.types import BoolArray, IntArray

Functional = Callable[[PaddedBatch], torch.Tensor]
"""From a batch to [B], f of each record in logits, with its graph."""


def class_margin() -> Functional:
    """z₁ − z₀ of a classifier of two classes.

    Raises (when called):
        ModelError: The classifier has another number of classes.
    """

    def margin(batch: PaddedBatch) -> torch.Tensor:
        logits = batch.output.logits.float()
        if logits.shape[-1] != 2:
            raise ModelError(
                f"The classifier has {logits.shape[-1]} classes. Expected 2 for a margin. Ask for the margin of one "
                "class against the rest."
            )
        return logits[:, 1] - logits[:, 0]

    return margin


def class_against_rest(target: int | IntArray) -> Functional:
    """z_target − log Σ exp z over the other classes: the log-odds of the target.

    Args:
        target: One class for all records, or [m] one for each of all the rows.

    Raises (when called):
        DataError: The classifier has no such class.
    """

    def against_rest(batch: PaddedBatch) -> torch.Tensor:
        logits = batch.output.logits.float()
        wanted = np.broadcast_to(target, len(batch.members)) if np.ndim(target) == 0 else _of(target, batch)
        _refuse_outside(wanted, logits.shape[-1], "class", "classes")
        chosen = torch.from_numpy(wanted.astype(np.int64)).to(logits.device)[:, None]
        others = logits.scatter(1, chosen, -torch.inf)
        return logits.gather(1, chosen)[:, 0] - torch.logsumexp(others, dim=1)

    return against_rest


def token_margin(chosen: IntArray, other: IntArray, positions: IntArray | None = None) -> Functional:
    """z_chosen − z_other of a causal language model at one position of each record.

    Args:
        chosen: [m] token ids of all the rows.
        other: [m] token ids.
        positions: [m] from which the token is predicted; None takes the last token of each record.

    Raises (when called):
        DataError: A token is not in the vocabulary, or a position is not in its record.
    """

    def margin(batch: PaddedBatch) -> torch.Tensor:
        logits = batch.output.logits
        ids = np.stack([_of(chosen, batch), _of(other, batch)])
        _refuse_outside(ids, logits.shape[-1], "token", "tokens")
        places = batch.lengths - 1 if positions is None else _of(positions, batch)
        wrong = np.flatnonzero((places < 0) | (places >= batch.lengths))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"Position {places[row]} is outside record {batch.members[row]} of {batch.lengths[row]} tokens. "
                "Expected one of its positions, counted from 0. Give another position."
            )
        where = [torch.from_numpy(one.astype(np.int64)).to(logits.device) for one in (places, *ids)]
        rows = torch.arange(len(batch.members), device=logits.device)
        return (logits[rows, where[0], where[1]] - logits[rows, where[0], where[2]]).float()

    return margin


def mean_log_prob(rows: Sequence[IntArray], counted: Sequence[BoolArray]) -> Functional:
    """Mean log-probability, in nats, of the tokens of each record that count, under a causal language model.

    Args:
        rows: [m] of [L] token ids, as they go through the model.
        counted: [m] of [L] tokens whose prediction counts; never the first, which has none.

    Raises:
        DataError: A record has no token that counts, or its first one does; or, when called, a token is not in the
            vocabulary.
    """
    wrong = [
        place
        for place, (ids, mask) in enumerate(zip(rows, counted, strict=True))
        if len(mask) != len(ids) or not mask.any() or mask[0]
    ]
    if wrong:
        raise DataError(
            f"Records {', '.join(map(str, wrong))} have no token to be predicted, or their first is to be. Expected a "
            "mask of each record's tokens with at least one that is not the first. Leave them out."
        )

    def log_prob(batch: PaddedBatch) -> torch.Tensor:
        logits = batch.output.logits
        # One softmax per counted token, so that padding and prompts take neither memory nor part in the gradient.
        places = [np.flatnonzero(counted[record]) for record in batch.members]
        gold = np.concatenate([rows[record][own] for record, own in zip(batch.members, places, strict=True)])
        _refuse_outside(gold, logits.shape[-1], "token", "tokens")
        owners = torch.from_numpy(np.repeat(np.arange(len(places)), [len(own) for own in places])).to(logits.device)
        before = torch.from_numpy(np.concatenate(places) - 1).to(logits.device)
        chosen = torch.from_numpy(gold.astype(np.int64)).to(logits.device)
        said = logits[owners, before].float()
        found = said.gather(1, chosen[:, None])[:, 0] - torch.logsumexp(said, dim=1)
        counts = torch.bincount(owners, minlength=len(places))
        return torch.zeros(len(places), device=found.device).index_add(0, owners, found) / counts

    return log_prob


def _of(values: Any, batch: PaddedBatch) -> IntArray:
    """The values of the records in a batch."""
    return np.asarray(values)[batch.members]


def _refuse_outside(ids: IntArray, n_known: int, one: str, many: str) -> None:
    wrong = ids[(ids < 0) | (ids >= n_known)]
    if wrong.size:
        raise DataError(
            f"There is no {one} {int(wrong.flat[0])}: the model has {n_known} {many}. Expected 0 to {n_known - 1}. "
            f"Give another {one}."
        )
