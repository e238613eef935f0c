"""Files of records written again with some rows changed; every other row keeps its bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from loraudit.data import local_path, unpacked_bytes
from loraudit.errors import DataError

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_UTF8_MARK = b"\xef\xbb\xbf"


class Written(NamedTuple):
    """A file as it is to be.

    Attributes:
        content: Its bytes.
        lines: [items] where each item stands: the line on which it ends, or the row of a Parquet file.
    """

    content: bytes
    lines: list[int]


class Item(NamedTuple):
    """One row of a file that is to be.

    Attributes:
        piece: Of the files as they were.
        row: What stands there instead; None to leave it as it is.
    """

    piece: int
    row: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Pieces:
    """Files of one kind, cut into rows; what is between them and cannot be read as a row is a piece too.

    Attributes:
        kind: ".jsonl", ".csv", ".tsv" or ".parquet".
        head: What stands before the first row: a byte-order mark, and the header of a table.
        columns: Of a table; empty for JSON lines.
        pieces: Bytes of each, with its line end; empty for Parquet.
        places: (file, line as records know it) → piece.
        paths: The files.
    """

    kind: str
    head: bytes
    columns: tuple[str, ...]
    pieces: tuple[bytes, ...]
    places: Mapping[tuple[str, int], int]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.places) if self.kind == ".parquet" else len(self.pieces)

    def written(self, items: Sequence[Item], *, column: str | None = None) -> Written:
        """A file of these items, with a further column if one is named, which every row then has.

        Raises:
            DataError: A Parquet column cannot hold what is to stand in it.
        """
        if self.kind == ".parquet":
            return _written_parquet(self.paths, items, column)
        end = b"\r\n" if (self.head or b"".join(self.pieces[:1])).endswith(b"\r\n") else b"\n"
        columns = (*self.columns, column) if column else self.columns
        head = self.head
        if column and self.columns:
            mark = _UTF8_MARK if head.startswith(_UTF8_MARK) else b""
            head = mark + _cells(columns, self.kind, end)
        parts = [head]
        lines: list[int] = []
        n_lines = _n_lines(head) if self.columns else 0
        for piece, row in items:
            if parts[-1] != _UTF8_MARK:
                parts[-1] = _ended(parts[-1], self.kind, end)
            parts.append(self.pieces[piece] if row is None else self._row_bytes(row, columns, end))
            n_lines += 1 if not self.columns else _n_lines(parts[-1])
            lines.append(n_lines)
        return Written(b"".join(parts), lines)

    def _row_bytes(self, row: Mapping[str, Any], columns: Sequence[str], end: bytes) -> bytes:
        if self.columns:
            return _cells([row[name] for name in columns], self.kind, end)
        try:
            return json.dumps(row, ensure_ascii=False).encode() + end
        except UnicodeEncodeError:  # half of a surrogate pair in a column of the user's, which JSON can only escape
            return json.dumps(row).encode() + end


def read_pieces(paths: Sequence[str]) -> Pieces:
    """Files that `read_rows` has read, cut into rows.

    Raises:
        DataError: They are of a kind that rows cannot be changed in, of several kinds, or have other columns each.
    """
    read = [_read(path) for path in paths]
    for path, one in zip(paths, read, strict=True):
        if one.kind != read[0].kind or sorted(one.columns) != sorted(read[0].columns):
            what = f"{one.kind} with {list(one.columns)}" if one.columns else one.kind
            raise DataError(
                f"File '{path}' is of another kind ({what}) than '{paths[0]}'. Expected one kind and the same columns, "
                "so that they can become one file. Poison them one by one."
            )
        if one.columns != read[0].columns:
            raise DataError(
                f"File '{path}' has its columns in another order than '{paths[0]}'. Expected the same order. Poison "
                "them one by one."
            )
    places: dict[tuple[str, int], int] = {}
    pieces: list[bytes] = []
    n_before = 0
    for one in read:
        places |= {place: n_before + piece for place, piece in one.places.items()}
        if pieces and one.pieces:
            pieces[-1] = _ended(pieces[-1], one.kind, b"\n")
        pieces += one.pieces
        n_before += len(one)
    return Pieces(read[0].kind, read[0].head, read[0].columns, tuple(pieces), places, tuple(paths))


def _read(path: str) -> Pieces:
    kind, content = unpacked_bytes(path)
    mark = _UTF8_MARK if content.startswith(_UTF8_MARK) else b""
    content = content[len(mark) :]
    if kind in _JSON_LINES:
        pieces = tuple(io.BytesIO(content).readlines())
        places = {(path, number): number - 1 for number in range(1, len(pieces) + 1)}
        return Pieces(".jsonl", mark, (), pieces, places, (path,))
    if kind in _DELIMITERS:
        return _read_table(path, kind, mark, content)
    if kind == ".parquet":
        return _read_parquet(path)
    raise DataError(
        f"File '{path}' is of a kind ('{kind or 'no ending'}') whose rows cannot be changed one by one. Expected "
        ".jsonl, .csv, .tsv or .parquet. Save it as .jsonl."
    )


def _read_table(path: str, kind: str, mark: bytes, content: bytes) -> Pieces:
    # The same lines, and the same stand-ins for bytes that are not UTF-8, as when the rows were read.
    lines = list(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    reader = csv.reader(lines, delimiter=_DELIMITERS[kind], strict=True)
    columns: list[str] = []
    ends = [0]
    for cells in reader:
        if cells and not columns:
            columns, ends = cells, [reader.line_num]
        elif columns:
            ends.append(reader.line_num)
    if len(set(columns)) < len(columns):
        raise DataError(
            f"File '{path}' has two columns of one name: {', '.join(columns)}. Expected names that tell them apart. "
            "Rename one."
        )
    pieces = tuple("".join(lines[one:two]).encode("utf-8", "surrogateescape") for one, two in pairwise(ends))
    head = mark + "".join(lines[: ends[0]]).encode("utf-8", "surrogateescape")
    places = {(path, end): number for number, end in enumerate(ends[1:])}
    return Pieces(kind, head, tuple(columns), pieces, places, (path,))


def _read_parquet(path: str) -> Pieces:
    import pyarrow.parquet as pq

    found = pq.ParquetFile(local_path(path))
    places = {(path, number): number - 1 for number in range(1, found.metadata.num_rows + 1)}
    return Pieces(".parquet", b"", tuple(found.schema_arrow.names), (), places, (path,))


def _written_parquet(paths: Sequence[str], items: Sequence[Item], column: str | None) -> Written:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.read_table(local_path(path)) for path in paths]
        table = pa.concat_tables(tables).take([item.piece for item in items])
        if column:
            values = [None if item.row is None else item.row[column] for item in items]
            table = table.append_column(column, pa.array(values, type=pa.string()))
        for name in table.column_names:
            values = table.column(name).to_pylist()
            changed = {
                number: item.row[name]
                for number, item in enumerate(items)
                if item.row is not None and item.row[name] != values[number]
            }
            if changed:
                values = [changed.get(number, value) for number, value in enumerate(values)]
                field = table.schema.field(name)
                place = table.schema.get_field_index(name)
                table = table.set_column(place, field, pa.array(values, type=field.type))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(
            f"Files {', '.join(paths)} cannot be written as Parquet with changed rows: {error}. Expected columns that "
            "can hold them. Save them as .jsonl."
        ) from None
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return Written(buffer.getvalue(), list(range(1, len(items) + 1)))


def _cells(values: Sequence[Any], kind: str, end: bytes) -> bytes:
    made = io.StringIO(newline="")
    csv.writer(made, delimiter=_DELIMITERS[kind], lineterminator=end.decode()).writerow(values)
    return made.getvalue().encode("utf-8", "surrogateescape")


def _ended(piece: bytes, kind: str, end: bytes) -> bytes:
    """The piece with a line end, if it is not empty and has none; in a table a carriage return alone is one too."""
    is_ended = piece.endswith((b"\n", b"\r") if kind in _DELIMITERS else b"\n")
    return piece if is_ended or not piece else piece + end


def _n_lines(content: bytes) -> int:
    """Lines as the reader of tables counts them."""
    return len(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="").readlines())
