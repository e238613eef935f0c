"""Files to rows. Every row that cannot be read is a problem with its line and reason."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from loraudit.data.places import local_path
from loraudit.data.streaming import KINDS, Problem, Row, RowStream, kind_of
from loraudit.errors import DataError
from loraudit.types import Record


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
    with RowStream(path, text_unit=text_unit) as stream:
        content = FileRows(path, file_sha256(path))
        for found in stream.rows():
            content.problems.extend(found.problems)
            if found.row is not None:
                content.rows.append((found.line, found.row))
        content.is_cut_short = stream.is_cut_short
    return content


def file_sha256(path: str) -> str:
    """Hex sha256 of a file's bytes, as they are on disk.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with local_path(path).open("rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"File '{path}' cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from None


def unpacked_bytes(path: str) -> tuple[str, bytes]:
    """The ending that says what a file holds, and its bytes, unpacked; for files that `read_rows` has read."""
    kind, unpack = kind_of(path)
    with local_path(path).open("rb") as raw:
        return kind, (unpack(raw) if unpack else raw).read()


def names_file(text: str) -> bool:
    """Whether a text has the ending of a file of records.

    >>> names_file("train.jsonl.gz"), names_file("We met at noon.")
    (True, False)
    """
    return kind_of(text)[0] in KINDS
