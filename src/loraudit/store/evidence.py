"""Evidence that runs share: what one model, under one set of conditions, said about records.

A unit file holds some records' `TokenScores`, and its name is the sha256 of its bytes: a unit
is either there and right, or it is redone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors_numpy

from loraudit.store.files import open_private_folder, write_atomically
from loraudit.store.numbers import NumberFolder
from loraudit.store.substitutions import SubstitutionFolder
from loraudit.store.units import UnitFolder
from loraudit.types import TOKEN_FIELDS, Decoding, Status, TokenTable

EVIDENCE_SCHEMA = 1
_STATUSES: tuple[Status, ...] = get_args(Status)


class EvidenceStore:
    """A folder of evidence and of what was learned about models, shared by runs.

    Args:
        root: Made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = open_private_folder(root)

    def folder(self, conditions: Mapping[str, Any]) -> EvidenceFolder:
        """The evidence gathered under these conditions.

        Args:
            conditions: Everything that could change a score: fingerprint of the model, tokenizer,
                span, windowing, numerics. Written to `conditions.json`.
        """
        return EvidenceFolder(self._keyed("evidence", {"evidence_schema": EVIDENCE_SCHEMA, **conditions}))

    def numbers(self, kind: str, conditions: Mapping[str, Any]) -> NumberFolder:
        """One number per record, measured under these conditions.

        Args:
            kind: What is measured, such as "gradients"; the folder's name.
            conditions: As of `folder`, with all that defines the number.
        """
        return NumberFolder(self._keyed(kind, conditions))

    def _keyed(self, kind: str, conditions: Mapping[str, Any]) -> Path:
        content = json.dumps(dict(conditions), sort_keys=True, indent=2)
        name = hashlib.sha256(content.encode()).hexdigest()[:32]
        folder = open_private_folder(open_private_folder(self.root / kind) / name)
        if not (folder / "conditions.json").exists():
            write_atomically(folder / "conditions.json", content.encode())
        return folder

    def apart(self, name: str) -> EvidenceStore:
        """A store within this one, for evidence that most runs have no use for and should not read."""
        return EvidenceStore(self.root / name)

    def continuations(self, conditions: Mapping[str, Any]) -> Path:
        """Where what a model said to prompts is kept; `conditions` are of the model alone, not of what it was asked."""
        return self._keyed("continuations", conditions)

    def substitutions(self, question: Mapping[str, Any]) -> SubstitutionFolder:
        """What was replaced in copies of records; `question` is everything that could change it."""
        content = json.dumps(dict(question), sort_keys=True, indent=2)
        name = hashlib.sha256(content.encode()).hexdigest()[:32]
        folder = open_private_folder(open_private_folder(self.root / "neighbours") / name)
        if not (folder / "question.json").exists():
            write_atomically(folder / "question.json", content.encode())
        return SubstitutionFolder(folder)

    def recall(self, question: Mapping[str, Any]) -> Any | None:
        """What was remembered about this question, or None."""
        try:
            return json.loads(self._memory(question).read_text(encoding="utf-8"))["answer"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, question: Mapping[str, Any], answer: Any) -> None:
        """Keep a small answer that was costly to find, such as how two checkpoints differ."""
        content = json.dumps({"question": dict(question), "answer": answer}, indent=2)
        open_private_folder(self.root / "facts")
        write_atomically(self._memory(question), content.encode())

    def _memory(self, question: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(dict(question), sort_keys=True).encode()).hexdigest()[:32]
        return self.root / "facts" / f"{digest}.json"


@dataclass
class EvidenceFolder(UnitFolder):
    """The units gathered under one set of conditions."""

    _where: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    _tables: list[TokenTable] = field(default_factory=list[TokenTable])
    _unlucky: set[str] = field(default_factory=set[str])

    def refresh(self) -> None:
        """Read units that have appeared; damaged ones are removed and counted."""
        for content in self._unread():
            ids, table = _unpack(content)
            self._remember(ids, table)
            self._unlucky.update(i for i in ids if self._status(i) == "out_of_memory")

    def _remember(self, ids: Sequence[str], table: TokenTable) -> None:
        self._tables.append(table)
        for row, record_id in enumerate(ids):
            if table.status[row] != "out_of_memory" or record_id not in self._where:
                self._where[record_id] = (len(self._tables) - 1, row)

    def _status(self, record_id: str) -> Status:
        unit, row = self._where[record_id]
        return self._tables[unit].status[row]

    def lacks(self, record_id: str) -> bool:
        """Whether the record is to be scored: it is not there, or an earlier run had no memory for it."""
        return record_id not in self._where or record_id in self._unlucky

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._where

    def __len__(self) -> int:
        return len(self._where)

    def add(self, ids: Sequence[str], table: TokenTable) -> None:
        """Write one unit.

        Raises:
            StoreError: It cannot be written.
        """
        content = _pack(ids, table)
        self._write(content)
        self._remember(ids, table)
        self._unlucky.difference_update(ids)

    def table(self, ids: Sequence[str]) -> TokenTable:
        """The evidence on these records, in this order.

        Raises:
            KeyError: A record is not there.
        """
        starts = np.cumsum([0, *(len(table) for table in self._tables)])
        rows = np.array([starts[unit] + row for unit, row in (self._where[i] for i in ids)], dtype=np.int64)
        return _take(_join(self._tables), rows)


def _pack(ids: Sequence[str], table: TokenTable) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(table.columns[name], dtype=kind) for name, kind in TOKEN_FIELDS.items()
    }
    for position, column in enumerate(table.log_sum_exps.values()):
        arrays[f"log_sum_exp.{position}"] = np.ascontiguousarray(column, dtype=np.float32)
    arrays["offsets"] = np.asarray(table.offsets, dtype=np.int64)
    arrays["is_audited"] = np.asarray(table.is_audited, dtype=np.bool_)
    arrays["n_windows"] = np.asarray(table.n_windows, dtype=np.int32)
    arrays["status"] = np.array([_STATUSES.index(status) for status in table.status], dtype=np.uint8)
    arrays["ids"] = np.frombuffer(bytes.fromhex("".join(ids)), dtype=np.uint8).reshape(len(ids), 32).copy()
    return safetensors_numpy.save(arrays, {"decodings": json.dumps(list(table.log_sum_exps))})


def _unpack(content: bytes) -> tuple[list[str], TokenTable]:
    arrays = safetensors_numpy.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    decodings: list[Decoding] = [
        (int(k), float(temperature)) for k, temperature in json.loads(header["__metadata__"]["decodings"])
    ]
    table = TokenTable(
        columns={name: arrays[name] for name in TOKEN_FIELDS},
        log_sum_exps={d: arrays[f"log_sum_exp.{position}"] for position, d in enumerate(decodings)},
        offsets=arrays["offsets"],
        is_audited=arrays["is_audited"],
        n_windows=arrays["n_windows"],
        status=[_STATUSES[code] for code in arrays["status"]],
    )
    return [bytes(row).hex() for row in arrays["ids"]], table


def _join(tables: Sequence[TokenTable]) -> TokenTable:
    if len(tables) == 1:
        return tables[0]
    ends = np.cumsum([0, *(int(table.offsets[-1]) for table in tables)])
    return TokenTable(
        columns={name: np.concatenate([t.columns[name] for t in tables]) for name in TOKEN_FIELDS},
        log_sum_exps={d: np.concatenate([t.log_sum_exps[d] for t in tables]) for d in tables[0].log_sum_exps},
        offsets=np.concatenate([[0], *(t.offsets[1:] + end for t, end in zip(tables, ends[:-1], strict=True))]).astype(
            np.int64
        ),
        is_audited=np.concatenate([t.is_audited for t in tables]),
        n_windows=np.concatenate([t.n_windows for t in tables]),
        status=[status for t in tables for status in t.status],
    )


def _take(table: TokenTable, rows: NDArray[np.int64]) -> TokenTable:
    n_tokens = table.n_tokens[rows]
    offsets = np.concatenate([[0], np.cumsum(n_tokens)]).astype(np.int64)
    where = np.arange(offsets[-1]) + np.repeat(table.offsets[rows] - offsets[:-1], n_tokens)
    return TokenTable(
        columns={name: column[where] for name, column in table.columns.items()},
        log_sum_exps={decoding: column[where] for decoding, column in table.log_sum_exps.items()},
        offsets=offsets,
        is_audited=table.is_audited[where],
        n_windows=table.n_windows[rows],
        status=[table.status[row] for row in rows],
    )
