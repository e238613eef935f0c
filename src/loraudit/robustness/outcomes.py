"""What every model said about every test record: the rows that all figures of a robustness run follow from."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loraudit.spec import Persistence
from loraudit.store import RunFolder, write_atomically
from loraudit.types import FloatArray, IntArray

CLEAN = "clean"
"""Test records as they are: the predicted class (language models: NaN), and the loss of the right answer."""
VALIDATION = "validation"
DETECTED = "detected"
_KINDS: tuple[Persistence, ...] = get_args(Persistence)
PERSISTENCE: Mapping[str, Persistence] = {kind: kind for kind in _KINDS}
"""Name among `RunOutcomes.after` of what detectors said: the score, and as right class whether it is poisoned."""
_KEY = b"measured"
_RUN_COLUMNS = ("method", "attack", "dose", "n_poisoned", "is_control", "seed", "after")


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What one model said about one set of records.

    Attributes:
        values: [N] as the name of the set says; NaN = undefined.
        losses: [N] mean over the record's predictions, nats.
        n_predictions: [N] of them.
        gold: [N] the right class; −1 for language models.
    """

    values: FloatArray
    losses: FloatArray
    n_predictions: IntArray
    gold: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model at one moment of its training, or after something was done to it.

    Attributes:
        step: Of the training.
        epoch: Passes done.
        validation_loss: On clean records, nats; NaN where it was not taken.
        sets: By name of the set.
    """

    step: int
    epoch: float
    validation_loss: float
    sets: Mapping[str, Said]


def nothing_said(start: Checkpoint, step: int, epoch: float) -> Checkpoint:
    """What a model whose weights are no numbers says about the records of `start`: nothing."""
    sets = {
        name: replace(said, values=np.full(len(said.values), np.nan), losses=np.full(len(said.losses), np.nan))
        for name, said in start.sets.items()
    }
    return Checkpoint(step, epoch, math.nan, sets)


@dataclass(frozen=True, slots=True, eq=False)
class RunOutcomes:
    """One training run.

    Attributes:
        method: Name of the tuning method.
        attack: Name of the attack; None for a clean run.
        dose: As asked for; 0 for a clean run.
        n_poisoned: Records poisoned.
        is_control: Whether it is the positive control.
        seed: Of the run.
        checkpoints: In order of training; the first is the untouched base.
        after: The finished model after something was done to it, by what was.
        ids: Shown ids of the records of each set.
    """

    method: str
    attack: str | None
    dose: float
    n_poisoned: int
    is_control: bool
    seed: int
    checkpoints: Sequence[Checkpoint]
    after: Mapping[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    @property
    def epochs(self) -> FloatArray:
        """[K] passes done at each checkpoint."""
        return np.array([checkpoint.epoch for checkpoint in self.checkpoints])

    @property
    def validation(self) -> FloatArray:
        """[K] validation loss at each checkpoint."""
        return np.array([checkpoint.validation_loss for checkpoint in self.checkpoints])

    @property
    def last(self) -> Checkpoint:
        """The end of training."""
        return self.checkpoints[-1]


# --- one checkpoint on disk ---------------------------------------------------------------------------


def write_checkpoint(path: Path, checkpoint: Checkpoint, key: str) -> None:
    """One checkpoint of one run, whole or not at all.

    Args:
        path: Of the file.
        checkpoint: What was said.
        key: What it rests on; read under another one, it is not there.

    Raises:
        StoreError: It cannot be written.
    """
    buffer = io.BytesIO()
    table = pa.concat_tables([_rows_of(name, said, None) for name, said in _with_validation(checkpoint)])
    facts = {_KEY: key, b"step": str(checkpoint.step), b"epoch": repr(checkpoint.epoch)}
    pq.write_table(table.replace_schema_metadata(facts), buffer, compression="zstd", write_page_checksum=True)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """A checkpoint written under this key; None where there is none, or a damaged one."""
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()), page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return None
    facts = table.schema.metadata or {}
    if facts.get(_KEY) != key.encode():
        return None
    return _checkpoint(int(facts[b"step"]), float(facts[b"epoch"]), table)


# --- all of them --------------------------------------------------------------------------------------


def write_outcomes(folder: RunFolder, runs: Iterable[RunOutcomes]) -> str:
    """`outcomes.parquet`: a row per run, checkpoint, set and record; its sha256."""
    parts = [
        _with_columns(_rows_of(name, said, run.ids.get(name)), run, checkpoint, after)
        for run in runs
        for after, checkpoint in _all_checkpoints(run)
        for name, said in _with_validation(checkpoint)
    ]
    folder.write_table("outcomes.parquet", pa.concat_tables(parts).unify_dictionaries())
    return hashlib.sha256((folder.path / "outcomes.parquet").read_bytes()).hexdigest()


def read_outcomes(path: Path) -> list[RunOutcomes]:
    """The runs of an `outcomes.parquet`, in its order."""
    table = pq.read_table(io.BytesIO(path.read_bytes()), page_checksum_verification=True)
    keys = list(zip(*(table.column(name).to_pylist() for name in (*_RUN_COLUMNS, "step")), strict=True))
    ends = [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]]
    found: dict[tuple[Any, ...], tuple[list[Checkpoint], dict[str, Checkpoint], dict[str, Sequence[str]]]] = {}
    for start, end in zip([0, *ends], [*ends, len(keys)], strict=True):
        *run, after, step = keys[start]
        rows = table.slice(start, end - start)
        checkpoint = _checkpoint(int(step), float(rows.column("epoch")[0].as_py()), rows)
        taken, changed, ids = found.setdefault(tuple(run), ([], {}, {}))
        if after is None:
            taken.append(checkpoint)
        else:
            changed[after] = checkpoint
        for name, part in _by_set(rows):
            ids[name] = part.column("record").to_pylist()
    names = _RUN_COLUMNS[:-1]
    return [
        RunOutcomes(**dict(zip(names, run, strict=True)), checkpoints=taken, after=changed, ids=ids)
        for run, (taken, changed, ids) in found.items()
    ]


def _all_checkpoints(run: RunOutcomes) -> list[tuple[str | None, Checkpoint]]:
    return [*((None, checkpoint) for checkpoint in run.checkpoints), *run.after.items()]


def _with_validation(checkpoint: Checkpoint) -> list[tuple[str, Said]]:
    loss = np.array([checkpoint.validation_loss])
    nothing = Said(np.array([np.nan]), loss, np.ones(1, dtype=np.int64), np.array([-1]))
    return [(VALIDATION, nothing), *checkpoint.sets.items()]


def _rows_of(name: str, said: Said, ids: Sequence[str] | None) -> pa.Table:
    n = len(said.values)
    return pa.table(
        {
            "set": pa.array([name] * n).dictionary_encode(),
            "record": pa.array(ids or [None] * n, pa.string()).dictionary_encode(),
            "gold": pa.array(said.gold, pa.int32()),
            "n_predictions": pa.array(said.n_predictions, pa.int32()),
            "value": pa.array(said.values, pa.float64()),
            "loss": pa.array(said.losses, pa.float64()),
        }
    )


def _with_columns(rows: pa.Table, run: RunOutcomes, checkpoint: Checkpoint, after: str | None) -> pa.Table:
    n = len(rows)
    columns = {
        "method": pa.array([run.method] * n).dictionary_encode(),
        "attack": pa.array([run.attack] * n, pa.string()).dictionary_encode(),
        "dose": pa.array(np.full(n, run.dose)),
        "n_poisoned": pa.array(np.full(n, run.n_poisoned), pa.int32()),
        "is_control": pa.array(np.full(n, run.is_control)),
        "seed": pa.array(np.full(n, run.seed), pa.int32()),
        "after": pa.array([after] * n, pa.string()).dictionary_encode(),
        "step": pa.array(np.full(n, checkpoint.step), pa.int32()),
        "epoch": pa.array(np.full(n, checkpoint.epoch)),
    }
    return pa.table(columns | {name: rows.column(name) for name in rows.column_names})


def _by_set(table: pa.Table) -> list[tuple[str, pa.Table]]:
    names = table.column("set").to_pylist()
    ends = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    return [
        (names[start], table.slice(start, end - start))
        for start, end in zip([0, *ends], [*ends, len(names)], strict=True)
    ]


def _checkpoint(step: int, epoch: float, table: pa.Table) -> Checkpoint:
    sets = {
        name: Said(
            np.asarray(part.column("value").to_numpy(), dtype=np.float64),
            np.asarray(part.column("loss").to_numpy(), dtype=np.float64),
            np.asarray(part.column("n_predictions").to_numpy(), dtype=np.int64),
            np.asarray(part.column("gold").to_numpy(), dtype=np.int64),
        )
        for name, part in _by_set(table)
    }
    loss = float(sets.pop(VALIDATION).losses[0])
    return Checkpoint(step, epoch, loss, sets)
