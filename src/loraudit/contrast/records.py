"""The records of a contrast: split once, at random, and written down as files that any audit can read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.contrast.cutting import cut_records
from loraudit.data import load_records, planted_copies, split_records
from loraudit.errors import DataError
from loraudit.models import load_tokenizer, locate
from loraudit.spec import ContrastSpec, RecordFormat
from loraudit.store import open_private_folder, write_atomically
from loraudit.types import Record

_LARGEST_VALIDATION = 500
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Split:
    """Three sides that differ by chance alone.

    Attributes:
        members: Trained on.
        nonmembers: Never seen.
        validation: For the validation loss; in neither side.
        copies: How often each member is trained on in an epoch, by record id.
        files: Path, sha256 and rows of each file read.
        paths: File of each side, by its name.
        layout: How those files are written.
        notes: What became of records that were cut or left out, in words.
    """

    members: list[Record]
    nonmembers: list[Record]
    validation: list[Record]
    copies: dict[str, int]
    files: tuple[dict[str, Any], ...]
    paths: dict[str, str]
    layout: RecordFormat
    notes: tuple[str, ...] = ()


def split_data(spec: ContrastSpec, folder: Path) -> Split:
    """Read the records, split them and write the sides.

    Raises:
        DataError: They cannot be read, cannot be cut, or are too few.
        LorauditError: They are to be cut, and the base's tokenizer cannot be had.
    """
    pool = load_records(spec.data, spec)
    notes: tuple[str, ...] = ()
    if spec.record_tokens or spec.least_tokens:
        tokenizer = load_tokenizer(locate(spec.base, offline=spec.offline).folder)
        pool, notes = cut_records(pool, tokenizer, at_most=spec.record_tokens, at_least=spec.least_tokens)
    n_records = len(pool.records)
    n_validation = spec.validation_records or min(_LARGEST_VALIDATION, max(1, n_records // 10))
    n_side = (n_records - n_validation) // 2
    if spec.max_records:
        n_side = min(n_side, spec.max_records)
    if n_side < _FEWEST:
        raise DataError(
            f"{n_records:,} records leave {max(0, n_side)} members and as many non-members beside {n_validation} "
            f"validation records. Expected at least {_FEWEST} a side; give more records."
        )
    sides = split_records(pool.records, [n_validation, n_side, n_side], seed=spec.seed)
    if min(map(len, sides)) == 0:
        found = ", ".join(str(len(side)) for side in sides)
        raise DataError(
            f"The records belong to too few documents to be split into three sides ({found} records). Give more "
            "documents, or leave out --group-field."
        )
    validation, members, nonmembers = sides
    open_private_folder(folder)
    found = pool.copies if spec.keep_duplicates else {}
    copies = planted_copies(members, spec.repeats, found, seed=spec.seed)
    paths = {
        name: str(_write(folder / f"{name}.jsonl", side, copies if side is members else {}))
        for name, side in (("members", members), ("nonmembers", nonmembers), ("validation", validation))
    }
    everyone = [*members, *nonmembers, *validation]
    layout = RecordFormat(
        group_field="group" if any(record.group is not None for record in everyone) else None,
        subgroup_field="subgroup" if any(record.subgroup is not None for record in everyone) else None,
        id_field="id" if any(record.own_id is not None for record in everyone) else None,
    )
    # Read back: the files are what is trained on and audited, and name the lines that results point to.
    again = [list(load_records([paths[name]], layout).records) for name in ("members", "nonmembers", "validation")]
    return Split(again[0], again[1], again[2], copies, pool.files, paths, layout, notes)


def _write(path: Path, records: Sequence[Record], copies: Mapping[str, int]) -> Path:
    """One line per copy, so that the audit of a model sees how often each record was trained on."""
    lines = [
        (json.dumps(_row(record), ensure_ascii=False) + "\n") * max(1, copies.get(record.id, 1)) for record in records
    ]
    write_atomically(path, "".join(lines).encode())
    return path


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if record.text is not None:
        row["text"] = record.text
    elif record.messages is not None:
        row["messages"] = [{"role": turn.role, "content": turn.content} for turn in record.messages]
    else:
        row |= {"prompt": record.prompt, "completion": record.completion}
    named = {"group": record.group, "subgroup": record.subgroup, "id": record.own_id}
    return row | {name: value for name, value in named.items() if value is not None}
