"""`text.parquet`: what every token of every record gives away. Written only where text was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from loraudit.auditing.request import Sides
from loraudit.data import encode, token_texts
from loraudit.scoring import Evidence
from loraudit.spec import AuditSpec
from loraudit.store import RunFolder
from loraudit.types import TokenTable


def write_text(
    folder: RunFolder, sides: Sides, evidence: Evidence, scores: pa.Table, tokenizer: Any, spec: AuditSpec
) -> pa.Table:
    """One row per record, in the order of `scores.parquet`, readable by its owner only.

    Columns: `id`, `is_member`, and one entry per token in `token` (its text), `is_audited`, `is_error` (the target's
    most likely token was another: the error zone) and `delta` (log-probability of the target minus that of the
    reference, nats; NaN for the first token and without a reference).
    """
    records = sides.records
    encoded = encode(records, tokenizer, span=spec.span, append_eos=spec.append_eos)
    texts = token_texts(tokenizer, np.unique(np.concatenate([item.ids for item in encoded])).tolist())
    target, reference = evidence.tables["target"], evidence.tables.get("reference")
    tokens: list[list[str]] = []
    audited: list[list[bool]] = []
    errors: list[list[bool]] = []
    deltas: list[list[float]] = []
    for row, item in enumerate(encoded):
        where = slice(int(target.offsets[row]), int(target.offsets[row + 1]))
        is_top1 = target.columns["is_top1"][where]
        delta = _delta(target, reference, where)
        tokens.append([texts[int(i)] for i in item.ids])
        first = [False] * min(1, len(item.ids))
        audited.append([*first, *target.is_audited[where].tolist()])
        errors.append([*first, *(~is_top1 & target.is_audited[where]).tolist()])
        deltas.append([*([float("nan")] * len(first)), *delta.tolist()])
    table = pa.table(
        {
            "id": scores.column("id"),
            "is_member": sides.is_member,
            "token": pa.array(tokens, pa.list_(pa.string())),
            "is_audited": pa.array(audited, pa.list_(pa.bool_())),
            "is_error": pa.array(errors, pa.list_(pa.bool_())),
            "delta": pa.array(deltas, pa.list_(pa.float32())),
        }
    )
    folder.write_table("text.parquet", table)
    return table


def _delta(target: TokenTable, reference: TokenTable | None, where: slice) -> np.ndarray:
    said = target.columns["log_prob"][where].astype(np.float64)
    return np.full(len(said), np.nan) if reference is None else said - reference.columns["log_prob"][where]
