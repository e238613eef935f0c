"""Where in the input files each block of records begins: found in one pass that keeps no record."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from loraudit.bulk.blocks import BLOCK_BYTES, BLOCK_RECORDS, DIGEST_BYTES, Index, Segment
from loraudit.bulk.records import open_stream, record_in, size_of
from loraudit.data import Found, Place, file_sha256
from loraudit.errors import DataError
from loraudit.spec import RecordFormat
from loraudit.store import write_atomically
from loraudit.types import Record

INDEX_NAME = "index.safetensors"
_PROBLEMS_KEPT = 10_000
_ARRAYS = ("segments", "starts", "n_records", "digests")


@dataclass
class _Builder:
    """Blocks as they are found."""

    block_records: int
    segments: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q", [0]))
    n_records: array[int] = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)
    _open: list[Segment] = field(default_factory=list[Segment])
    _n_records: int = 0
    _n_bytes: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def begin_file(self, file: int, at: Place) -> None:
        """Rows of another file follow."""
        self._open.append(Segment(file, at.offset, at.line, 0))

    def add(self, found: Found, record: Record | None) -> None:
        """One more row, and the record in it."""
        file, offset, line, n_rows = self._open[-1]
        self._open[-1] = Segment(file, offset, line, n_rows + 1)
        if record is None:
            return
        self._n_records += 1
        self._n_bytes += size_of(record)
        self._hash.update(bytes.fromhex(record.id))
        if self._n_records >= self.block_records or self._n_bytes >= BLOCK_BYTES:
            self.close()
            self.begin_file(file, found.next)

    def close(self) -> None:
        """End the block, if it holds a record."""
        if self._n_records:
            for segment in self._open:
                self.segments.extend(segment if segment.n_rows else ())
            self.starts.append(len(self.segments) // len(Segment._fields))
            self.n_records.append(self._n_records)
            self.digests += self._hash.digest()[:DIGEST_BYTES]
        self._open, self._n_records, self._n_bytes, self._hash = [], 0, 0, hashlib.sha256()


def make_index(
    paths: Sequence[str],
    layout: RecordFormat,
    *,
    records_per_unit: int | None,
    look: Callable[[Record], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Index:
    """Go over all files once, check every row, and remember where blocks begin.

    Args:
        paths: Files, in the order of the parts.
        layout: Where the content stands, and what becomes of bad rows.
        records_per_unit: As asked for; blocks are never larger.
        look: Shown every record.
        advance: Told how many more rows were read.

    Raises:
        DataError: A file cannot be read; bad rows and `on_bad_record` is "error" (all files are read first); or no
            record is left.
    """
    builder = _Builder(min(BLOCK_RECORDS, records_per_unit or BLOCK_RECORDS))
    files: list[dict[str, Any]] = []
    problems: list[str] = []
    unreadable: list[str] = []
    n_read = n_bad = 0
    is_cut_short = False
    for path in paths:
        n_rows = 0
        try:
            sha256 = file_sha256(path)  # a second reading, which costs less than the first
            with open_stream(path, layout) as stream:
                builder.begin_file(len(files), stream.start)
                for found in stream.rows():
                    record = record_in(found, path, layout)
                    bad = list(found.problems) if isinstance(record, str) and found.row is None else []
                    if isinstance(record, str) and not bad:
                        bad = [(found.line, record)]
                    builder.add(found, None if isinstance(record, str) else record)
                    n_rows += len(bad) or 1
                    n_bad += len(bad)
                    room = _PROBLEMS_KEPT - len(problems)
                    problems.extend(f"{path}:{line}: {reason}" for line, reason in bad[: max(0, room)])
                    if look and not isinstance(record, str):
                        look(record)
                    if advance:
                        advance(1)
                is_cut_short |= stream.is_cut_short
        except DataError as error:
            unreadable.append(str(error))
            continue
        files.append({"path": path, "sha256": sha256, "rows": n_rows})
        n_read += n_rows
    builder.close()
    if n_bad and (layout.on_bad_record == "error" or is_cut_short):
        unreadable.append(
            f"{n_bad} of {n_read} rows cannot be used. "
            "Mend them, or leave them out and have them counted with --on-bad-record skip."
        )
    if unreadable:
        raise DataError("\n".join(unreadable), problems)
    if not builder.n_records:
        raise DataError(f"No record found in {', '.join(paths)}. Expected at least one.", problems)
    return Index(
        tuple(files),
        np.array(builder.segments, dtype=np.int64).reshape(-1, len(Segment._fields)),
        np.array(builder.starts, dtype=np.int64),
        np.array(builder.n_records, dtype=np.int64),
        np.frombuffer(bytes(builder.digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES),
        n_read,
        n_bad,
    )


def write_index(folder: Path, index: Index, question: dict[str, Any]) -> None:
    """Keep an index for the next call; it names the files, so it is for its owner alone.

    Raises:
        StoreError: It cannot be written.
    """
    arrays = {name: np.ascontiguousarray(getattr(index, name)) for name in _ARRAYS}
    facts = {
        "files": list(index.files),
        "n_read": index.n_read,
        "n_bad": index.n_bad,
        "question": question,
        "sha256": _checksum(arrays),
    }
    write_atomically(folder / INDEX_NAME, safetensors_numpy.save(arrays, {"index": json.dumps(facts)}))


def read_index(folder: Path, question: dict[str, Any]) -> Index | None:
    """The index kept there, if it answers this question, is whole and every file still is what it was; else None."""
    try:
        content = (folder / INDEX_NAME).read_bytes()
        arrays = safetensors_numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"]["index"])
        if facts["question"] != question or facts["sha256"] != _checksum(arrays):
            return None
        if any(file_sha256(one["path"]) != one["sha256"] for one in facts["files"]):
            return None
        return Index(
            files=tuple(facts["files"]),
            n_read=int(facts["n_read"]),
            n_bad=int(facts["n_bad"]),
            **{name: arrays[name] for name in _ARRAYS},
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, DataError):
        return None


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(arrays[name].tobytes()).digest() for name in _ARRAYS)).hexdigest()
