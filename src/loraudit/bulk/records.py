"""Records of blocks, read from where the index says that they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from loraudit.bulk.blocks import DIGEST_BYTES, Block, Segment
from loraudit.data import Found, Place, RowStream, record_of
from loraudit.errors import DataError
from loraudit.spec import RecordFormat
from loraudit.types import Record


def open_stream(path: str, layout: RecordFormat) -> RowStream:
    """The rows of a file; of Parquet only the columns that records are made of, where it has them."""

    def needed(names: Sequence[str]) -> Sequence[str]:
        content = (layout.text_field, layout.messages_field, layout.prompt_field, layout.completion_field)
        pair = {layout.prompt_field, layout.completion_field}
        if not ({layout.text_field, layout.messages_field} & set(names) or pair <= set(names)):
            return names  # the message says which there are
        wanted = {*content, layout.group_field, layout.id_field, layout.subgroup_field}
        return [name for name in names if name in wanted]

    return RowStream(path, text_unit=layout.text_unit, columns=needed)


class RecordReader:
    """Records of blocks; consecutive blocks are read on without looking for their place again. A context manager.

    Args:
        paths: The files, as they were indexed.
        layout: As for the index.
    """

    def __init__(self, paths: Sequence[str], layout: RecordFormat) -> None:
        self._paths, self._layout = tuple(paths), layout
        self._stream: RowStream | None = None
        self._rows: Any = iter(())
        self._at: tuple[str, Place] | None = None

    def records(self, block: Block) -> list[Record]:
        """The readable records of a block.

        Raises:
            DataError: A file cannot be read, or does not hold what it held when it was indexed.
        """
        found: list[Record] = []
        digest = hashlib.sha256()
        for segment in block.segments:
            path = self._paths[segment.file]
            for row in self._segment(path, segment):
                record = record_in(row, path, self._layout)
                if not isinstance(record, str):
                    found.append(record)
                    digest.update(bytes.fromhex(record.id))
        if digest.digest()[:DIGEST_BYTES] != block.digest:
            names = ", ".join(f"'{self._paths[segment.file]}'" for segment in block.segments)
            raise DataError(
                f"File {names} changed while it was being scored. Expected what it held when the run began. Run the "
                "same command again: it looks at the files anew and keeps the parts that still hold."
            )
        return found

    def _segment(self, path: str, segment: Segment) -> Iterable[Found]:
        place = Place(segment.offset, segment.line)
        if self._stream is None or self._stream.path != path:
            self.close()
            self._stream = open_stream(path, self._layout)
        if self._at != (path, place):
            self._rows = self._stream.rows(place)
        for _ in range(segment.n_rows):
            found = next(self._rows, None)
            if found is None:
                self._at = None
                return
            self._at = path, found.next
            yield found

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._at = None, None


def record_in(found: Found, path: str, layout: RecordFormat) -> Record | str:
    """The record in a row, or what is wrong with it."""
    if found.row is None:
        return found.problems[0][1]
    return record_of(found.row, path, found.line, layout, None)


def size_of(record: Record) -> int:
    """Characters of its content."""
    turns = record.messages or ()
    own = record.text, record.prompt, record.completion
    return sum(len(text) for text in own if text) + sum(len(turn.role) + len(turn.content) for turn in turns)
