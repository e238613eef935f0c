"""Personal information in the records against other values of its kind: what the model would guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from loraudit.auditing.memorizing.measures import FIELD, VIEWS, column
from loraudit.auditing.request import Sides
from loraudit.data import audited_text, record_id
from loraudit.memorization import FieldRanks, PersonalField, PersonalFinder, all_candidates, rank_candidates
from loraudit.scoring import Evidence
from loraudit.types import FloatArray, Record, TokenTable

TOP1, FIELD_BITS, CANDIDATES = "top1", "bits", "candidates"
_DRAW = 62
Gather = Callable[[Sequence[Record]], Evidence]


@dataclass(frozen=True, slots=True)
class PlacedField:
    """One piece of personal information, the record it stands in, and what it is compared with.

    Attributes:
        row: Of the record.
        field: The information.
        candidates: Values of its kind, its own first.
    """

    row: int
    field: PersonalField
    candidates: tuple[str, ...]


class PlacedFields(NamedTuple):
    """What can be compared, and what cannot.

    Attributes:
        fields: Those behind some text.
        n_without_context: Those that nothing stands before: no value of them can be scored.
    """

    fields: list[PlacedField]
    n_without_context: int


def placed_fields(sides: Sides, span: str, n_others: int, seed: int, find: PersonalFinder) -> PlacedFields:
    """All fields in the audited texts that have another value of their kind to be compared with.

    Chats are left out: what stands before a field there depends on the chat template.
    """
    records = sides.records
    found: list[tuple[int, PersonalField]] = [
        (row, field)
        for row, record in enumerate(records)
        if record.messages is None and record.tokens is None
        for field in find(audited_text(record, span))
    ]
    fields = [field for _, field in found]
    rng = np.random.default_rng([seed, _DRAW])
    drawn = all_candidates(fields, n_candidates=n_others + 1, rng=rng)
    placed = [
        PlacedField(row, field, (field.value, *others))
        for (row, field), others in zip(found, drawn, strict=True)
        if others
    ]
    behind_text = [item for item in placed if _before(records[item.row], item.field, span)]
    return PlacedFields(behind_text, len(placed) - len(behind_text))


def candidate_records(placed: Sequence[PlacedField], sides: Sides, span: str) -> list[Record]:
    """Each value of each field as the completion of what stands before the field, those of a field together."""
    records = sides.records
    return [_candidate(records[item.row], item, value, span) for item in placed for value in item.candidates]


def field_measures(placed: Sequence[PlacedField], sides: Sides, span: str, gather: Gather) -> dict[str, FloatArray]:
    """[N] columns: per kind of information the mean over a record's fields, NaN for records without one."""
    if not placed:
        return {}
    n_records = len(sides.records)
    evidence = gather(candidate_records(placed, sides, span))
    offsets = np.concatenate([[0], np.cumsum([len(item.candidates) for item in placed])])
    kinds = np.array([item.field.kind for item in placed])
    rows = np.array([item.row for item in placed])
    counts = np.diff(offsets).astype(np.float64)
    found: dict[str, FloatArray] = {}
    for view in (view for view in VIEWS if view in evidence.tables):
        ranks = rank_candidates(_totals(evidence.tables[view]), offsets, np.zeros(len(placed), dtype=np.int64))
        for kind in np.unique(kinds):
            where = kinds == kind
            for part, values in ((TOP1, _is_first(ranks)), (FIELD_BITS, ranks.bits)):
                found[column(FIELD, kind, part, view)] = _mean_by_row(values[where], rows[where], n_records)
            found[column(FIELD, kind, CANDIDATES)] = _mean_by_row(counts[where], rows[where], n_records)
    return found


def _candidate(record: Record, item: PlacedField, value: str, span: str) -> Record:
    """The record up to the field, as a prompt, and a value, as what is scored behind it."""
    prompt = _before(record, item.field, span)
    return Record(
        record_id(prompt=prompt, completion=value), record.source, record.line, prompt=prompt, completion=value
    )


def _before(record: Record, field: PersonalField, span: str) -> str:
    """All that stands before a field, the prompt of its record too."""
    prompt = "" if record.text is not None or span == "all" else record.prompt or ""
    return prompt + audited_text(record, span)[: field.span[0]]


def _totals(table: TokenTable) -> FloatArray:
    """[N] log-probability of each record's audited tokens together; NaN where the record could not be scored."""
    audited = table.audited()
    sums = np.add.reduceat(
        np.append(audited.columns["log_prob"].astype(np.float64), 0.0),
        np.minimum(audited.offsets[:-1], audited.offsets[-1]),
    )
    is_known = (np.asarray(audited.status, dtype=np.str_) == "ok") & (audited.n_tokens > 0)
    return np.where(is_known, sums, np.nan)


def _is_first(ranks: FieldRanks) -> FloatArray:
    return np.where(np.isnan(ranks.last_ranks), np.nan, ranks.last_ranks == 1)


def _mean_by_row(values: FloatArray, rows: np.ndarray, n_records: int) -> FloatArray:
    known = ~np.isnan(values)
    total = np.bincount(rows[known], weights=values[known], minlength=n_records)
    count = np.bincount(rows[known], minlength=n_records)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
