"""Beginnings of records that a model is given, and the tokens that it would have to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.data import Encoded
from loraudit.types import BoolArray, IntArray, TokenTable


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first tokens of one record and what follows.

    Attributes:
        row: Of the record.
        prefix: Audited tokens given; what stands before the first of them (a prompt, a beginning-of-text token) is
            given too.
        given: Token ids.
        suffix: Token ids that follow.
    """

    row: int
    prefix: int
    given: IntArray
    suffix: IntArray


def is_long_enough(table: TokenTable, prefix: int, suffix: int, max_length: int) -> BoolArray:
    """[N] records whose suffix can be asked for.

    They could be scored, and have `prefix` audited tokens and right behind them `suffix` more, all within the first
    window: only there is what the model said of a token said with all tokens before it in sight, as it is when the
    model goes on from a prompt.

    Args:
        table: With all tokens, audited or not.
        prefix: At least 1.
        suffix: At least 1.
        max_length: Of a window.
    """
    audited = np.flatnonzero(table.is_audited)
    first = np.searchsorted(audited, table.offsets[:-1])
    n_audited = np.searchsorted(audited, table.offsets[1:]) - first
    found = (n_audited >= prefix + suffix) & (np.asarray(table.status, dtype=np.str_) == "ok")
    rows = np.flatnonzero(found)
    start, end = audited[first[rows] + prefix], audited[first[rows] + prefix + suffix - 1]
    # Place i of a record's evidence is the prediction of its token i + 1.
    is_whole = (end - start == suffix - 1) & (end - table.offsets[rows] + 1 < max_length)
    found[rows] = is_whole
    return found


def beginnings(encoded: Sequence[Encoded], rows: Sequence[int], prefix: int, suffix: int) -> list[Beginning]:
    """Of the records in `rows`, each of which is long enough."""
    found: list[Beginning] = []
    for row in rows:
        item = encoded[row]
        audited = np.flatnonzero(item.is_audited[1:]) + 1  # the first token is never predicted
        start = int(audited[prefix])
        found.append(Beginning(int(row), prefix, item.ids[:start], item.ids[start : start + suffix]))
    return found
