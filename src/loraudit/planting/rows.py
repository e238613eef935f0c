"""Records as the rows of their files hold them, before and after they were changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loraudit.data import RecordSet, load_records, read_rows, record_of
from loraudit.errors import DataError
from loraudit.planting.rewriting import Pieces, read_pieces
from loraudit.spec import RecordFormat
from loraudit.types import Message, Record


class Rows(NamedTuple):
    """Files of records, row by row, repeats included.

    Attributes:
        records: [N] in reading order; rows that cannot be read are none.
        rows: [N] as their files hold them.
        where: [N] the piece of the files each is.
        pieces: Of the files.
        files: Name, sha256 and number of rows of each.
        n_bad: Rows that cannot be read, which stay as they are.
        layout: Where the content stands.
        label_field: Column of the label.
    """

    records: list[Record]
    rows: list[Mapping[str, Any]]
    where: list[int]
    pieces: Pieces
    files: tuple[dict[str, Any], ...]
    n_bad: int
    layout: RecordFormat
    label_field: str | None

    def as_row(self, position: int, record: Record) -> dict[str, Any]:
        """The row of a record with the content that it has now."""
        old, row, layout = self.records[position], dict(self.rows[position]), self.layout
        if record.messages != old.messages:
            row[layout.messages_field] = _turns(row[layout.messages_field], record.messages or ())
        for name, column in (
            ("text", layout.text_field),
            ("prompt", layout.prompt_field),
            ("completion", layout.completion_field),
        ):
            if getattr(record, name) != getattr(old, name):
                row[column] = getattr(record, name)
        if record.label != old.label and self.label_field is not None and record.label is not None:
            row[self.label_field] = self._label_as_written(record.label)
        return row

    def _label_as_written(self, label: str) -> Any:
        """A label as the files write it: 1 stays a number, "1" a text."""
        rows = (row for row, record in zip(self.rows, self.records, strict=True) if record.label == label)
        return next(rows)[str(self.label_field)]


def read_records(
    paths: Sequence[str], layout: RecordFormat, label_field: str | None, rewritten_field: str | None = None
) -> Rows:
    """Files of records, row by row.

    Raises:
        DataError: As `load_records`; or rows of the files cannot be changed.
    """
    loaded = load_records(paths, layout, label_field=label_field, rewritten_field=rewritten_field)
    refuse_joined(loaded, paths, layout)
    pieces = read_pieces(paths)
    records: list[Record] = []
    rows: list[Mapping[str, Any]] = []
    where: list[int] = []
    for path in paths:
        for line, row in read_rows(path, text_unit=layout.text_unit).rows:
            record = record_of(row, path, line, layout, label_field, rewritten_field)
            if isinstance(record, Record) and isinstance(row, Mapping):
                records.append(record)
                rows.append(row)
                where.append(pieces.places[path, line])
    return Rows(records, rows, where, pieces, loaded.files, loaded.n_bad, layout, label_field)


def refuse_joined(loaded: RecordSet, paths: Sequence[str], layout: RecordFormat) -> None:
    """Refuse texts of several columns: a change to one belongs to no single column.

    Raises:
        DataError: They are such.
    """
    if "+" in layout.text_field and layout.text_field not in first_row(paths[0], layout):
        joined = [record for record in loaded.records if record.text is not None]
        if joined:
            raise DataError(
                f"Text '{layout.text_field}' is put together from several columns, and rows are changed in one. "
                "Expected one column; name it with --text-field."
            )


def first_row(path: str, layout: RecordFormat) -> Mapping[str, Any]:
    """Columns and cells of the first row of a file; nothing for plain text or an empty file.

    Raises:
        DataError: The file cannot be read.
    """
    found = read_rows(path, text_unit=layout.text_unit).rows
    return found[0][1] if found and isinstance(found[0][1], Mapping) else {}


def _turns(written: object, messages: Sequence[Message]) -> object:
    """Turns as their file writes them, with other content; whatever else a turn holds stays."""
    turns = json.loads(written) if isinstance(written, str) else written
    if not isinstance(turns, list):
        return written
    made = [{**turn, "content": message.content} for turn, message in zip(turns, messages, strict=True)]
    return json.dumps(made, ensure_ascii=False) if isinstance(written, str) else made
