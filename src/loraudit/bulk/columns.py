"""One row per record: what is always written of it, and its attacks' scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from loraudit.membership import AnyAttack, AttackScores, without_noise
from loraudit.spec import RecordFormat
from loraudit.types import FloatArray, Record, RecordFacts, TokenTable

NOT_RENDERED = "not_rendered"
"""Status of a chat that the model's template cannot render, where such records are to be skipped."""

STATISTICS = {
    "loss": "mean −log p of the audited tokens under the {view}, nats per token",
    "top1": "share of the audited tokens that are the {view}'s most likely ones",
    "entropy": "mean entropy of the {view}'s predictions of the audited tokens, nats",
}


def statistic_names(views: Sequence[str]) -> dict[str, str]:
    """Column → description of what is always written, by view."""
    return {f"{view}_{name}": words.format(view=view) for view in views for name, words in STATISTICS.items()}


def statistics_of(table: TokenTable) -> dict[str, FloatArray]:
    """[N] means over each record's tokens; NaN for a record without scores.

    Args:
        table: What one model said of the audited tokens.
    """
    per_token = {
        "loss": -table.columns["log_prob"].astype(np.float64),
        "top1": table.columns["is_top1"].astype(np.float64),
        "entropy": -table.columns["mean_log_prob"].astype(np.float64),
    }
    is_scored = (np.array(table.status) == "ok") & (table.n_tokens > 0)
    found: dict[str, FloatArray] = {}
    for name, values in per_token.items():
        means = np.full(len(table), np.nan)
        for row in np.flatnonzero(is_scored):  # each alone: a sum over neighbours would depend on what they are
            means[row] = values[table.offsets[row] : table.offsets[row + 1]].mean()
        found[name] = means
    return found


def statuses_of(tables: Mapping[str, TokenTable]) -> list[str]:
    """The first view that could not score a record says why."""
    by_view = [table.status for table in tables.values()]
    return [next((s for s in views if s != "ok"), "ok") for views in zip(*by_view, strict=True)]


def scored_rows(
    records: Sequence[Record],
    ids: Sequence[str],
    tables: Mapping[str, TokenTable],
    facts: RecordFacts,
    scores: Mapping[str, AttackScores],
    layout: RecordFormat,
    *,
    names_sources: bool,
) -> pa.Table:
    """The rows of records that the models have seen.

    Args:
        records: In their order.
        ids: Under which they are shown.
        tables: By view, the audited tokens.
        facts: Of the records.
        scores: By attack.
        layout: Which columns of the user's to pass on.
        names_sources: Whether to say where records stand.
    """
    first = next(iter(tables.values()))
    numbers: dict[str, Any] = {}
    for view, table in tables.items():
        numbers |= {f"{view}_{name}": values for name, values in statistics_of(table).items()}
    numbers |= {name: without_noise(found.scores) for name, found in scores.items()}
    return _rows(
        records,
        ids,
        layout,
        names_sources=names_sources,
        status=statuses_of(tables),
        n_tokens=first.n_tokens,
        n_windows=first.n_windows,
        facts=facts,
        numbers=numbers,
    )


def unscored_rows(
    records: Sequence[Record],
    ids: Sequence[str],
    views: Sequence[str],
    attacks: Sequence[AnyAttack],
    facts: RecordFacts,
    layout: RecordFormat,
    *,
    names_sources: bool,
) -> pa.Table:
    """The rows of records that no model could be shown; arguments as of `scored_rows`."""
    names = [*statistic_names(views), *(attack.name for attack in attacks)]
    nothing = np.zeros(len(records), dtype=np.int64)
    return _rows(
        records,
        ids,
        layout,
        names_sources=names_sources,
        status=[NOT_RENDERED] * len(records),
        n_tokens=nothing,
        n_windows=nothing,
        facts=facts,
        numbers={name: np.full(len(records), np.nan) for name in names},
    )


def _rows(
    records: Sequence[Record],
    ids: Sequence[str],
    layout: RecordFormat,
    *,
    names_sources: bool,
    status: Sequence[str],
    n_tokens: Any,
    n_windows: Any,
    facts: RecordFacts,
    numbers: Mapping[str, FloatArray],
) -> pa.Table:
    def named(values: list[Any]) -> list[Any]:
        return values if names_sources else [None] * len(values)

    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "source": pa.array(named([record.source for record in records]), pa.string()),
        "line": pa.array(named([record.line for record in records]), pa.int64()),
    }
    if layout.id_field is not None:
        columns["own_id"] = pa.array(named([record.own_id for record in records]), pa.string())
    if layout.group_field is not None:
        columns["group"] = pa.array([record.group for record in records], pa.string())
    if layout.subgroup_field is not None:
        columns["subgroup"] = pa.array([record.subgroup for record in records], pa.string())
    columns |= {
        "status": pa.array(status, pa.string()),
        "n_tokens": pa.array(n_tokens, pa.int32()),
        "n_windows": pa.array(n_windows, pa.int32()),
        "n_bytes": pa.array(facts.n_bytes, pa.int64()),
        "n_zlib_bytes": pa.array(facts.n_zlib_bytes, pa.int64()),
        **{name: pa.array(values, pa.float64()) for name, values in numbers.items()},
    }
    return pa.table(columns)
