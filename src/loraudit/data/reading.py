"""Files to rows. Every row that cannot be read is a problem with its line and reason."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, BinaryIO

from loraudit.data.places import file_name, local_path
from loraudit.errors import DataError
from loraudit.types import Record

MAX_ROW_BYTES = 16 * 2**20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_UNPACK: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}

Row = dict[str, Any] | str
Problem = tuple[int, str]


@dataclass(slots=True)
class FileRows:
    """What one file holds.

    Attributes:
        path: As the user named it.
        sha256: Of the file's bytes.
        rows: (line, row) pairs; a row is a mapping of columns, the text itself for plain text, or a record that
            was at hand.
        problems: (line, reason) of each row that could not be read.
        is_cut_short: Whether a problem made it impossible to tell the rows behind it apart.
    """

    path: str
    sha256: str
    rows: list[tuple[int, Row | Record]] = field(default_factory=list[tuple[int, Row | Record]])
    problems: list[Problem] = field(default_factory=list[Problem])
    is_cut_short: bool = False


def read_rows(path: str, *, text_unit: str = "line") -> FileRows:
    """Read a .jsonl, .json, .csv, .tsv, .parquet or .txt file; all but Parquet may be .gz, .bz2 or .xz.

    Args:
        path: File to read, or one of the hub that was fetched before.
        text_unit: For plain text, what one record is: `line`, `paragraph` (cut at blank lines) or `file`.

    Raises:
        DataError: The file as a whole cannot be read.
        EnvironmentFault: It is one of the hub, and no copy of it is here.
    """
    kind, unpack = _kind(path)
    readers: dict[str, Callable[[BinaryIO, FileRows], None]] = {
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".json": _read_json_lines,
        ".csv": lambda stream, into: _read_table(stream, into, ","),
        ".tsv": lambda stream, into: _read_table(stream, into, "\t"),
        ".txt": lambda stream, into: _read_text(stream, into, text_unit),
        ".md": lambda stream, into: _read_text(stream, into, text_unit),
        ".parquet": _read_parquet,
    }
    reader = readers.get(kind)
    if reader is None:
        raise DataError(
            f"File '{path}' is of an unknown kind '{kind or 'none'}'. "
            "Expected .jsonl, .csv, .tsv, .parquet or .txt, all but Parquet also as .gz, .bz2 or .xz."
        )
    file = local_path(path)
    try:
        with file.open("rb") as raw:
            sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            raw.seek(0)
            content = FileRows(path, sha256)
            stream = unpack(raw) if unpack else raw
            head = stream.read(4)
            is_text = kind != ".parquet"
            if is_text and (head.startswith(_UTF16_MARKS) or b"\0" in (head[:1], head[1:2])):
                raise DataError(
                    f"File '{path}' is UTF-16. Expected UTF-8. "
                    + ("Unpack it and run: " if unpack else "Run: ")
                    + f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(file))} > {shlex.quote('utf8-' + file_name(path))}"
                )
            stream.seek(len(_UTF8_MARK) if is_text and head.startswith(_UTF8_MARK) else 0)
            reader(stream, content)  # type: ignore[arg-type]  # GzipFile reads like a BinaryIO
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"File '{path}' cannot be read: {reason}. Check the path and its permissions.") from None
    return content


def unpacked_bytes(path: str) -> tuple[str, bytes]:
    """The ending that says what a file holds, and its bytes, unpacked; for files that `read_rows` has read."""
    kind, unpack = _kind(path)
    with local_path(path).open("rb") as raw:
        return kind, (unpack(raw) if unpack else raw).read()


def names_file(text: str) -> bool:
    """Whether a text has the ending of a file of records.

    >>> names_file("train.jsonl.gz"), names_file("We met at noon.")
    (True, False)
    """
    return _kind(text)[0] in _KINDS


_KINDS = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet"})


def _kind(path: str) -> tuple[str, Callable[[BinaryIO], Any] | None]:
    """The ending that says what a file holds, and what unpacks it."""
    suffixes = [suffix.lower() for suffix in PurePath(file_name(path)).suffixes]
    unpack = _UNPACK.get(suffixes[-1]) if suffixes else None
    return ((suffixes[:-1] if unpack else suffixes)[-1:] or [""])[0], unpack


def _decoded_lines(stream: BinaryIO, into: FileRows) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(stream, start=1):
        if len(raw) > MAX_ROW_BYTES:
            into.problems.append((number, f"is {len(raw) / 2**20:.0f} MiB long; at most 16 MiB are read"))
            continue
        try:
            yield number, raw.rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError as error:
            into.problems.append((number, f"is not UTF-8 at byte {error.start} (0x{raw[error.start]:02x})"))


def _read_json_lines(stream: BinaryIO, into: FileRows) -> None:
    for number, line in _decoded_lines(stream, into):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            hint = " (one JSON object per line is expected)" if number == 1 and line.strip() in ("[", "{") else ""
            into.problems.append((number, f"is not valid JSON: {reason}{hint}"))
            continue
        if isinstance(row, dict):
            into.rows.append((number, row))
        else:
            into.problems.append((number, f"holds a JSON {type(row).__name__}, not an object"))


def _read_table(stream: BinaryIO, into: FileRows, delimiter: str) -> None:
    # Bytes that are not UTF-8 become lone surrogates, which the record check reports by line.
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row:
                into.problems.append(
                    (reader.line_num, f"has more cells than the {len(reader.fieldnames or ())} columns")
                )
            elif None in row.values():
                into.problems.append(
                    (reader.line_num, f"has fewer cells than the {len(reader.fieldnames or ())} columns")
                )
            else:
                into.rows.append((reader.line_num, dict(row)))
    except csv.Error as error:
        # DictReader's own count still stands at the row before.
        into.problems.append((reader.reader.line_num, f"is not valid CSV: {error}; the rows after it cannot be read"))
        into.is_cut_short = True
    text.detach()


def _read_text(stream: BinaryIO, into: FileRows, text_unit: str) -> None:
    lines = list(_decoded_lines(stream, into))
    if text_unit == "line":
        into.rows.extend((number, line) for number, line in lines if line.strip())
        return
    unreadable = {number for number, _ in into.problems}
    by_number: dict[int, str] = {**dict.fromkeys(unreadable, "?"), **dict(lines)}
    record: list[int] = []
    for number in [*sorted(by_number), 0]:
        ends_record = number == 0 or (text_unit == "paragraph" and not by_number[number].strip())
        if not ends_record:
            record.append(number)
        elif record:
            if unreadable.isdisjoint(record):  # a record with a line missing is no record
                into.rows.append((record[0], "\n".join(by_number[n] for n in record)))
            record = []


def _read_parquet(stream: BinaryIO, into: FileRows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(stream)
        columns = {name: _plain(table.column(name)) for name in table.column_names}
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"File '{into.path}' is not a whole Parquet file: {error}. Write it again.") from None
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    into.rows.extend(enumerate(rows, start=1))


def _plain(column: Any) -> list[Any]:
    """A column as Python values; types that have none (nanosecond times) as their text."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise
    except ValueError:
        return column.cast(pa.string()).to_pylist()
