"""Scored windows to one row per record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loraudit.scoring.scorer import Arrays
from loraudit.types import TOKEN_FIELDS, Decoding, Status, TokenTable


def token_table(
    parts: Sequence[Arrays | None], masks: Sequence[Any], n_windows: Sequence[int], decodings: Sequence[Decoding]
) -> TokenTable:
    """One row per record, joined from its windows.

    Args:
        parts: Columns of every window, record by record; None where one could not be scored.
        masks: Of each record: which tokens are audited.
        n_windows: Of each record.
        decodings: Whose log-sum-exps the windows hold.

    Returns:
        A record that could not be scored keeps its length, filled with NaN.
    """
    names = [*TOKEN_FIELDS, *(f"log_sum_exp.{position}" for position in range(len(decodings)))]
    rows: list[Arrays] = []
    statuses: list[Status] = []
    ends = np.cumsum(n_windows)
    for end, count, mask in zip(ends, n_windows, masks, strict=True):
        own = parts[end - count : end]
        if any(part is None for part in own):
            rows.append({name: _blank(name, len(mask)) for name in names})
            statuses.append("out_of_memory")
            continue
        joined = {
            name: np.concatenate([part[name] for part in own if part is not None]) if own else _blank(name, 0)
            for name in names
        }
        rows.append(joined)
        audited = {name: joined[name][mask] for name in ("log_prob", "mean_log_prob", "var_log_prob")}
        if not mask.any():
            statuses.append("no_tokens")
        elif all(np.isfinite(values).all() for values in audited.values()):
            statuses.append("ok")
        else:
            statuses.append("nonfinite")
    columns = {name: np.concatenate([row[name] for row in rows]) for name in names}
    return TokenTable(
        columns={name: columns[name].astype(kind) for name, kind in TOKEN_FIELDS.items()},
        log_sum_exps={d: columns[f"log_sum_exp.{position}"] for position, d in enumerate(decodings)},
        offsets=np.cumsum([0, *(len(mask) for mask in masks)]).astype(np.int64),
        is_audited=np.concatenate(masks),
        n_windows=np.array(n_windows, dtype=np.int32),
        status=statuses,
    )


def _blank(name: str, length: int) -> Any:
    kind = TOKEN_FIELDS.get(name, np.float32)
    return np.full(length, np.nan if issubclass(kind, np.floating) else 0, dtype=kind)
