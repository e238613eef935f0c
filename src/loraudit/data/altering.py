"""Altered copies of tokenised records: some tokens replaced, or other records put before them.

What is replaced, and by what, is drawn from the predictions of a model that is passed in as arrays: any model of the
same tokenizer can propose, a masked one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loraudit.data.encoding import Encoded
from loraudit.types import BoolArray, FloatArray, IntArray


class Proposals(NamedTuple):
    """What a model finds likely at each place of a record of L tokens.

    Attributes:
        ids: [L − 1, k] its k likeliest tokens for places 1 to L − 1, likeliest first.
        log_prob: [L − 1, k] their log-probabilities, nats.
    """

    ids: IntArray
    log_prob: FloatArray


def draw_substitutions(
    item: Encoded,
    proposals: Proposals,
    *,
    n_copies: int,
    share: float,
    n_likeliest: int,
    kept_ids: Sequence[int],
    rng: np.random.Generator,
) -> IntArray:
    """What to replace in each of several copies of a record.

    Places are drawn evenly among the audited ones; the token there by its probability among the `n_likeliest`
    proposed that are neither the record's own nor in `kept_ids`. Fewer copies are the first of more.

    Args:
        item: The record.
        proposals: For it.
        n_copies: K.
        share: Of the places that can be replaced; at least one is, where there is one.
        n_likeliest: Proposals to draw among.
        kept_ids: Special tokens, which are neither replaced nor put in.
        rng: Source of the draws.

    Returns:
        [K, m, 2] places, ascending, and the tokens that take them; m = 0 where nothing can be replaced.
    """
    gold, kept = item.ids[1:], np.asarray(kept_ids, dtype=np.int64)
    is_allowed = (proposals.ids != gold[:, None]) & ~np.isin(proposals.ids, kept) & np.isfinite(proposals.log_prob)
    is_allowed &= is_allowed.cumsum(axis=1) <= n_likeliest
    places = np.flatnonzero(item.is_audited[1:] & ~np.isin(gold, kept) & is_allowed.any(axis=1))
    n_replaced = max(1, round(share * len(places))) if len(places) else 0
    drawn = np.empty((n_copies, n_replaced, 2), dtype=np.int32)
    for copy in drawn:
        where = np.sort(rng.choice(places, n_replaced, replace=False))
        # The largest of log p + Gumbel noise is a draw by p (Gumbel 1954), for all places at once.
        noisy = proposals.log_prob[where] + rng.gumbel(size=proposals.log_prob[where].shape)
        chosen = np.where(is_allowed[where], noisy, -np.inf).argmax(axis=1)
        copy[:, 0] = where + 1
        copy[:, 1] = proposals.ids[where, chosen]
    return drawn


def with_substitutions(item: Encoded, substitutions: IntArray) -> Encoded:
    """One copy; `substitutions` are its [m, 2] places and tokens."""
    ids = item.ids.copy()
    ids[substitutions[:, 0]] = substitutions[:, 1]
    return Encoded(ids, item.is_audited)


class Prefix(NamedTuple):
    """Tokens that stand before every record.

    Attributes:
        ids: [P].
        n_records: Records that they are of.
        is_cut: Whether the first of these lacks its beginning.
    """

    ids: IntArray
    n_records: int
    is_cut: bool


def joined_prefix(items: Sequence[Encoded], between: Sequence[int], *, bos_id: int | None, room: int) -> Prefix:
    """Records one behind the other, each followed by `between`; as many of the last tokens as there is room for.

    A beginning-of-text token stands at the very beginning alone.

    Args:
        items: The records.
        between: Tokens such as those of a line break.
        bos_id: The tokenizer's beginning-of-text token.
        room: Tokens that the prefix may have.
    """
    parts = [np.concatenate([_after(item.ids, bos_id), np.asarray(between, dtype=np.int32)]) for item in items]
    begins = bool(len(items) and len(items[0].ids) and items[0].ids[0] == bos_id)
    head = items[0].ids[:1] if begins else np.empty(0, dtype=np.int32)
    whole = np.concatenate([np.empty(0, dtype=np.int32), *parts])
    left = max(0, room - len(head))
    kept = whole[max(0, len(whole) - left) :]
    reaches_back = np.cumsum([len(part) for part in parts][::-1])
    n_records = min(len(parts), int(np.searchsorted(reaches_back, len(kept))) + 1) if len(kept) else 0
    is_cut = n_records > 0 and len(kept) < int(reaches_back[n_records - 1])
    return Prefix(np.concatenate([head, kept]).astype(np.int32), n_records, is_cut)


def behind_prefix(item: Encoded, prefix: Prefix, *, bos_id: int | None) -> Encoded:
    """The record behind the prefix; the tokens that are audited without it are audited, and no others."""
    is_audited: BoolArray = item.is_audited.copy()
    is_audited[:1] = False  # without a prefix nothing predicts it
    n_dropped = len(item.ids) - len(_after(item.ids, bos_id))
    mask = np.concatenate([np.zeros(len(prefix.ids), dtype=bool), is_audited[n_dropped:]])
    return Encoded(np.concatenate([prefix.ids, item.ids[n_dropped:]]).astype(np.int32), mask)


def _after(ids: IntArray, bos_id: int | None) -> IntArray:
    return ids[1:] if bos_id is not None and len(ids) and ids[0] == bos_id else ids
