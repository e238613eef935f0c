"""Rows of a file one after another, so that files of any length are read in little memory; and from any row again."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple

from loraudit.data.places import file_name, local_path
from loraudit.errors import DataError

MAX_ROW_BYTES = 16 * 2**20
_PIECE_BYTES = 2**20
_ROWS_AT_ONCE = 1024
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_UNPACK: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
KINDS = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet"})
_PARQUET = ".parquet"

Row = dict[str, Any] | str
Problem = tuple[int, str]
"""Line and reason."""
ChooseColumns = Callable[[Sequence[str]], Sequence[str]]


class Place(NamedTuple):
    """Where in a file a row begins.

    Attributes:
        offset: Bytes before it in the unpacked file; in Parquet, rows.
        line: Its line, counted from 1; in Parquet, its row.
    """

    offset: int
    line: int


class Found(NamedTuple):
    """What stands at one place: a row, or what is wrong there.

    Attributes:
        line: Of the row.
        row: A mapping of columns, or the text itself for plain text; None where it cannot be read.
        problems: Why not; a paragraph can have several.
        next: Where what comes after it begins.
    """

    line: int
    row: Row | None
    problems: tuple[Problem, ...]
    next: Place


class RowStream:
    """A .jsonl, .json, .csv, .tsv, .parquet or .txt file; all but Parquet may be .gz, .bz2 or .xz. A context manager.

    Args:
        path: File to read.
        text_unit: For plain text, what one record is: `line`, `paragraph` (cut at blank lines) or `file`.
        columns: Of Parquet, gives those to read from all that there are (default: all).

    Raises:
        DataError: The file as a whole cannot be read.

    Attributes:
        path: As given.
        is_cut_short: Whether a problem made it impossible to tell the rows behind it apart.
    """

    def __init__(self, path: str, *, text_unit: str = "line", columns: ChooseColumns | None = None) -> None:
        self.path, self.is_cut_short = path, False
        self._text_unit, self._columns = text_unit, columns
        self._kind, unpack = kind_of(path)
        if self._kind not in KINDS:
            raise DataError(
                f"File '{path}' is of an unknown kind '{self._kind or 'none'}'. "
                "Expected .jsonl, .csv, .tsv, .parquet or .txt, all but Parquet also as .gz, .bz2 or .xz."
            )
        self._open = contextlib.ExitStack()
        try:
            with _readable(path):
                raw = self._open.enter_context(local_path(path).open("rb"))
                self._stream: BinaryIO = self._open.enter_context(unpack(raw)) if unpack else raw
                self._start = self._behind_mark(is_packed=unpack is not None)
        except BaseException:
            self._open.close()
            raise

    def _behind_mark(self, *, is_packed: bool) -> int:
        if self._kind == _PARQUET:
            return 0
        head = self._stream.read(4)
        if head.startswith(_UTF16_MARKS) or b"\0" in (head[:1], head[1:2]):
            name = shlex.quote("utf8-" + file_name(self.path))
            raise DataError(
                f"File '{self.path}' is UTF-16. Expected UTF-8. "
                + ("Unpack it and run: " if is_packed else "Run: ")
                + f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(local_path(self.path)))} > {name}"
            )
        return len(_UTF8_MARK) if head.startswith(_UTF8_MARK) else 0

    def __enter__(self) -> RowStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def start(self) -> Place:
        """Where the first row begins, or what stands before it."""
        return Place(self._start, 1)

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def rows(self, start: Place | None = None) -> Iterator[Found]:
        """What stands from `start` on, a place that was the `next` of something found (default: the beginning).

        Raises:
            DataError: The file as a whole cannot be read.
        """
        readers: dict[str, Callable[[Place], Iterator[Found]]] = {
            ".csv": lambda place: self._table(place, ","),
            ".tsv": lambda place: self._table(place, "\t"),
            ".txt": self._text,
            ".md": self._text,
            _PARQUET: self._parquet,
        }
        with _readable(self.path):
            yield from readers.get(self._kind, self._json_lines)(start or self.start)

    def _lines(self, at: Place) -> Iterator[tuple[int, str | None, str, Place]]:
        """(line, text, problem, where the next begins); the text is None where there is a problem."""
        self._stream.seek(at.offset)
        offset = at.offset
        for number in itertools.count(at.line):
            raw = self._stream.readline(MAX_ROW_BYTES + 1)
            n_bytes = len(raw)
            if n_bytes > MAX_ROW_BYTES:
                while raw and not raw.endswith(b"\n"):  # never held as a whole
                    raw = self._stream.readline(_PIECE_BYTES)
                    n_bytes += len(raw)
            if not n_bytes:
                return
            offset += n_bytes
            text, problem = None, ""
            if n_bytes > MAX_ROW_BYTES:
                problem = f"is {n_bytes / 2**20:.0f} MiB long; at most 16 MiB are read"
            else:
                try:
                    text = raw.rstrip(b"\r\n").decode("utf-8")
                except UnicodeDecodeError as error:
                    problem = f"is not UTF-8 at byte {error.start} (0x{raw[error.start]:02x})"
            yield number, text, problem, Place(offset, number + 1)

    def _json_lines(self, start: Place) -> Iterator[Found]:
        for number, line, unread, after in self._lines(start):
            if line is None:
                yield Found(number, None, ((number, unread),), after)
            elif line.strip():
                row, problem = _json_row(number, line)
                yield Found(number, row, ((number, problem),) if problem else (), after)

    def _text(self, start: Place) -> Iterator[Found]:
        if self._text_unit == "line":
            for number, line, problem, after in self._lines(start):
                if line is None:
                    yield Found(number, None, ((number, problem),), after)
                elif line.strip():
                    yield Found(number, line, (), after)
            return
        first, held, problems, after = 0, list[str](), list[Problem](), start
        for number, line, problem, behind in self._lines(start):
            is_end = self._text_unit == "paragraph" and line is not None and not line.strip()
            if is_end and (held or problems):
                yield _paragraph(first, held, problems, behind)
                first, held, problems = 0, [], []
            elif not is_end:
                first = first or number
                held.extend([] if line is None else [line])
                problems.extend([] if line is not None else [(number, problem)])
            after = behind
        if held or problems:
            yield _paragraph(first, held, problems, after)

    def _table(self, start: Place, delimiter: str) -> Iterator[Found]:
        csv.field_size_limit(MAX_ROW_BYTES)
        offset = self._start
        is_from_start = start.offset <= self._start
        # Bytes that are not UTF-8 become lone surrogates, which the record check reports by line.
        decoding: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}

        def lines(text: io.TextIOWrapper) -> Iterator[str]:
            nonlocal offset
            for line in text:
                offset += len(line.encode("utf-8", "surrogateescape"))
                yield line

        self._stream.seek(self._start)
        text = io.TextIOWrapper(self._stream, **decoding)
        try:
            reader = csv.reader(lines(text), delimiter=delimiter, strict=True)
            n_before, names = 0, list[str]()
            try:
                names = next(reader, [])
                if not is_from_start:
                    text.detach()
                    self._stream.seek(start.offset)
                    text, offset, n_before = io.TextIOWrapper(self._stream, **decoding), start.offset, start.line - 1
                    reader = csv.reader(lines(text), delimiter=delimiter, strict=True)
                for cells in reader:
                    if not cells:
                        continue
                    number = n_before + reader.line_num
                    problem = ""
                    if len(cells) != len(names):
                        more = "more" if len(cells) > len(names) else "fewer"
                        problem = f"has {more} cells than the {len(names)} columns"
                    row = None if problem else dict(zip(names, cells, strict=True))
                    yield Found(number, row, ((number, problem),) if problem else (), Place(offset, number + 1))
            except csv.Error as error:
                number = n_before + reader.line_num
                self.is_cut_short = True
                problem = f"is not valid CSV: {error}; the rows after it cannot be read"
                yield Found(number, None, ((number, problem),), Place(offset, number + 1))
        finally:
            with contextlib.suppress(ValueError):  # the file was closed before its rows were through
                text.detach()

    def _parquet(self, start: Place) -> Iterator[Found]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._stream.seek(0)
            file = pq.ParquetFile(self._stream)
            names = file.schema_arrow.names
            chosen = list(self._columns(names)) if self._columns else names
            first, groups = 0, list[int]()
            for group in range(file.metadata.num_row_groups):
                n_rows = file.metadata.row_group(group).num_rows
                if not groups and first + n_rows <= start.offset:
                    first += n_rows
                else:
                    groups.append(group)
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=chosen):
                if first + len(batch) > start.offset:
                    columns = dict(zip(batch.schema.names, map(_plain, batch.columns), strict=True))
                    for position in range(max(0, start.offset - first), len(batch)):
                        row = {name: column[position] for name, column in columns.items()}
                        number = first + position + 1
                        yield Found(number, row, (), Place(number, number + 1))
                first += len(batch)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            reason = str(error).rstrip(".")
            raise DataError(f"File '{self.path}' is not a whole Parquet file: {reason}. Write it again.") from None


def kind_of(path: str) -> tuple[str, Callable[[BinaryIO], Any] | None]:
    """The ending that says what a file holds, and what unpacks it."""
    suffixes = [suffix.lower() for suffix in PurePath(file_name(path)).suffixes]
    unpack = _UNPACK.get(suffixes[-1]) if suffixes else None
    return ((suffixes[:-1] if unpack else suffixes)[-1:] or [""])[0], unpack


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"File '{path}' cannot be read: {reason}. Check the path and its permissions.") from None


def _json_row(number: int, line: str) -> tuple[Row | None, str]:
    """The object on a line; or None, and what is wrong with it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        hint = " (one JSON object per line is expected)" if number == 1 and line.strip() in ("[", "{") else ""
        return None, f"is not valid JSON: {reason}{hint}"
    return (row, "") if isinstance(row, dict) else (None, f"holds a JSON {type(row).__name__}, not an object")


def _paragraph(first: int, lines: list[str], problems: list[Problem], after: Place) -> Found:
    """A record of several lines; one with a line missing is no record."""
    return Found(first, None if problems else "\n".join(lines), tuple(problems), after)


def _plain(column: Any) -> list[Any]:
    """A column as Python values; types that have none (nanosecond times) as their text."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise
    except ValueError:
        return column.cast(pa.string()).to_pylist()
