"""Rows to records: checked, hashed, de-duplicated, each side apart from the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from loraudit.data.content import record_of
from loraudit.data.reading import FileRows, read_rows
from loraudit.data.streaming import Row
from loraudit.errors import DataError
from loraudit.spec import RecordFormat
from loraudit.types import Record


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The usable records of one side, and what became of the others.

    Attributes:
        records: Distinct by content, in reading order.
        files: Name, sha256 and number of rows of each file read.
        n_read: Rows seen, bad ones included.
        n_bad: Bad rows that were skipped because the format asks for it.
        n_duplicates: Repeats of an earlier record, left out.
        n_overlap: Records left out because they stand on the other side too.
        n_left_out: Records left out by a limit on their number.
        n_set_aside: Records put to another use, and therefore left out.
        copies: How often each record of the files stands there, by id.
        named: The first record under each id of the user's, where a column names them.
    """

    records: tuple[Record, ...]
    files: tuple[dict[str, Any], ...]
    n_read: int
    n_bad: int
    n_duplicates: int
    n_overlap: int = 0
    n_left_out: int = 0
    n_set_aside: int = 0
    copies: Mapping[str, int] = field(default_factory=dict[str, int])
    named: Mapping[str, Record] = field(default_factory=dict[str, Record])


@dataclass(frozen=True, slots=True)
class InMemory:
    """Rows that are at hand instead of in a file.

    Attributes:
        name: What messages call them; stands where a file's name would.
        rows: Texts, rows of columns as a file would hold them, or records.
    """

    name: str
    rows: Iterable[Row | Record]


def load_records(
    sources: Sequence[str | InMemory],
    layout: RecordFormat,
    *,
    label_field: str | None = None,
    rewritten_field: str | None = None,
) -> RecordSet:
    """Read one side.

    A row is a text if it has the text column, a chat if it has the messages column, otherwise
    prompt and completion.

    Args:
        sources: Files, and rows at hand.
        layout: Where the content stands.
        label_field: Column of the label, for classification; part of the content.
        rewritten_field: Column of the same text in another style, which rows may lack.

    Raises:
        DataError: A file cannot be read; bad rows and `on_bad_record` is "error" (all are listed);
            or no record is left.
    """
    records: dict[str, Record] = {}
    named: dict[str, Record] = {}
    copies: Counter[str] = Counter()
    files: list[dict[str, Any]] = []
    problems: list[str] = []
    unreadable: list[str] = []
    conflicts: list[str] = []
    n_read = n_duplicates = 0
    is_cut_short = False
    for source in sources:
        try:
            content = _read(source, layout)
        except DataError as error:
            unreadable.append(str(error))
            continue
        is_cut_short |= content.is_cut_short
        bad = list(content.problems)
        for line, row in content.rows:
            record = record_of(row, content.path, line, layout, label_field, rewritten_field)
            if isinstance(record, str):
                bad.append((line, record))
                continue
            conflict = _id_conflict(record, named)
            if conflict:
                conflicts.append(conflict)
            copies[record.id] += 1
            if record.id in records:
                n_duplicates += 1
            else:
                records[record.id] = record
        n_rows = len(content.rows) + len(content.problems)
        n_read += n_rows
        if not isinstance(source, InMemory):
            files.append({"path": source, "sha256": content.sha256, "rows": n_rows})
        problems.extend(f"{content.path}:{line}: {reason}" for line, reason in sorted(bad))
    if problems and (layout.on_bad_record == "error" or is_cut_short):
        unreadable.append(
            f"{len(problems)} of {n_read} rows cannot be used. "
            "Mend them, or leave them out and have them counted with --on-bad-record skip."
        )
    if conflicts:
        unreadable.append(_CONFLICTING.format(len(conflicts)))
    if unreadable:
        raise DataError("\n".join(unreadable), [*problems, *conflicts])
    if not records:
        names = [source.name if isinstance(source, InMemory) else source for source in sources]
        raise DataError(f"No record found in {', '.join(names)}. Expected at least one.", problems)
    return RecordSet(
        tuple(records.values()), tuple(files), n_read, len(problems), n_duplicates, copies=copies, named=named
    )


def _read(source: str | InMemory, layout: RecordFormat) -> FileRows:
    if isinstance(source, InMemory):
        return FileRows(source.name, sha256="", rows=list(enumerate(source.rows, start=1)))
    return read_rows(source, text_unit=layout.text_unit)


_CONFLICTING = (
    "{} ids stand for two contents. Expected one content per id. Mend the ids, or leave out --id-field "
    "to go by content."
)


def _id_conflict(record: Record, named: dict[str, Record]) -> str | None:
    """Where an id the user gave stood before with other content; remembers the id."""
    if record.own_id is None:
        return None
    first = named.setdefault(record.own_id, record)
    if first.id == record.id:
        return None
    return f"{record.source}:{record.line} has the id of {first.source}:{first.line} and another content"


def load_sides(
    members: Sequence[str | InMemory],
    nonmembers: Sequence[str | InMemory],
    layout: RecordFormat,
    *,
    on_overlap: str = "error",
    max_records: int | None = None,
    seed: int = 0,
) -> tuple[RecordSet, RecordSet]:
    """Read both sides and keep them apart.

    Args:
        members: Files of records the model was tuned on, or rows at hand.
        nonmembers: The same of records it was not.
        layout: Where the text stands.
        on_overlap: "error", or "drop" to leave records of both sides out of both.
        max_records: Per side, drawn at random when there are more.
        seed: Of that draw.

    Raises:
        DataError: As `load_records`, for both sides together; or the same record is on both sides.
    """
    loaded: list[RecordSet] = []
    summaries: list[str] = []
    problems: list[str] = []
    for sources in (members, nonmembers):
        try:
            loaded.append(load_records(sources, layout))
        except DataError as error:
            summaries.append(str(error).split("\n", 1)[0])
            problems.extend(error.problems)
    if summaries:
        raise DataError("\n".join(summaries), problems)
    by_id: dict[str, Record] = {}
    conflicts = [_id_conflict(record, by_id) for side in loaded for record in side.named.values()]
    conflicts = [conflict for conflict in conflicts if conflict]
    if conflicts:
        raise DataError(_CONFLICTING.format(len(conflicts)), conflicts)
    both = {record.id: record for record in loaded[0].records}
    shared = {record.id: record for record in loaded[1].records if record.id in both}
    if shared and on_overlap == "error":
        raise DataError(
            f"{len(shared)} of {len(loaded[1].records)} non-members are members too. Expected records the model "
            "never saw. Take them out of one file, or out of both with --on-overlap drop.",
            [f"{r.source}:{r.line} is {both[r.id].source}:{both[r.id].line}" for r in shared.values()],
        )
    rng = np.random.default_rng(seed)
    sides = [_limited(_without(side, set(shared)), max_records, rng) for side in loaded]
    for name, side in zip(("members", "non-members"), sides, strict=True):
        if not side.records:
            raise DataError(f"No {name} are left after dropping the records on both sides. Give other files.")
    return sides[0], sides[1]


def _without(side: RecordSet, ids: set[str]) -> RecordSet:
    kept = tuple(record for record in side.records if record.id not in ids)
    return replace(side, records=kept, n_overlap=len(side.records) - len(kept))


def _limited(side: RecordSet, max_records: int | None, rng: np.random.Generator) -> RecordSet:
    if max_records is None or len(side.records) <= max_records:
        return side
    chosen = np.sort(rng.choice(len(side.records), max_records, replace=False))
    kept = tuple(side.records[i] for i in chosen)
    return replace(side, records=kept, n_left_out=len(side.records) - max_records)
