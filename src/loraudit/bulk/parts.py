"""Parts: whole files of scored records, each with a mark that says what it is and what its bytes are."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from loraudit.bulk.blocks import Unit
from loraudit.spec.form import Strict
from loraudit.store import write_atomically

SCORES = "scores"
MARKS = "marks"


class Mark(Strict):
    """What is known of a part that is whole; beside the parts, so that their folder holds nothing else.

    Attributes:
        asked: Hash of the models, settings and columns.
        records: Digest of the contents of its records.
        sha256: Of its file.
        n_bytes: Of its file.
        n_records: Rows.
        status: Records by status.
        n_tokens: Audited tokens.
        n_model_tokens: Tokens through a model, every view counted.
        n_windowed: Records longer than one window.
        undefined: Records without a number, by column.
        errors: Why an attack failed here, by attack.
        n_backoffs: Batches halved because memory ran out.
        device: Kind of device it was made on.
        modes: How the models were run.
        seconds: It took.
    """

    asked: str
    records: str
    sha256: str
    n_bytes: int
    n_records: int
    status: dict[str, int]
    n_tokens: int
    n_model_tokens: int
    n_windowed: int
    undefined: dict[str, int]
    errors: dict[str, str] = Field(default_factory=dict)
    n_backoffs: int = 0
    device: str = ""
    modes: list[str] = Field(default_factory=list)
    seconds: float = 0.0


def part_name(number: int) -> str:
    """File of a part; sorted by name they are in the order of the records."""
    return f"part-{number:05d}.parquet"


def part_path(folder: Path, number: int) -> Path:
    """Where a part stands in a run folder."""
    return folder / SCORES / part_name(number)


def mark_path(folder: Path, number: int) -> Path:
    """Where the mark of a part stands."""
    return folder / MARKS / f"part-{number:05d}.json"


def read_mark(folder: Path, unit: Unit, asked: str) -> tuple[Mark | None, bool]:
    """The mark of a part that is whole and what is asked for, else None; and whether the part is damaged."""
    try:
        mark = Mark.model_validate_json(mark_path(folder, unit.number).read_bytes())
    except OSError:
        return None, False
    except ValidationError:
        return None, True
    if (mark.asked, mark.records) != (asked, unit.digest):
        return None, False
    try:
        with part_path(folder, unit.number).open("rb") as file:
            is_whole = hashlib.file_digest(file, "sha256").hexdigest() == mark.sha256
    except OSError:
        return None, True
    return (mark, False) if is_whole else (None, True)


def write_part(folder: Path, unit: Unit, rows: pa.Table, asked: str, **facts: object) -> Mark:
    """A part and then its mark: one that is killed in between is made again.

    Args:
        folder: Of the run.
        unit: Which.
        rows: Its records.
        asked: As of `Mark`.
        facts: The other fields of the mark that the rows do not tell.

    Raises:
        StoreError: It cannot be written.
    """
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd", write_page_checksum=True)
    content = buffer.getvalue()
    numbers = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    mark = Mark.model_validate(
        {
            "asked": asked,
            "records": unit.digest,
            "sha256": hashlib.sha256(content).hexdigest(),
            "n_bytes": len(content),
            "n_records": rows.num_rows,
            "status": dict(Counter(rows.column("status").to_pylist())),
            "undefined": {name: int(np.isnan(rows.column(name).to_numpy()).sum()) for name in numbers},
            **facts,
        }
    )
    write_atomically(part_path(folder, unit.number), content)
    write_atomically(mark_path(folder, unit.number), (mark.model_dump_json() + "\n").encode())
    return mark


def remove_parts_from(folder: Path, number: int) -> None:
    """Take away parts that are none of this run: its files were longer once."""
    for kind in (SCORES, MARKS):
        for path in (folder / kind).glob("part-*.*"):
            digits = path.stem.removeprefix("part-")
            if digits.isdigit() and int(digits) >= number:
                path.unlink(missing_ok=True)
