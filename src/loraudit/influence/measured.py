"""What a finished contrast measured of every record: its fit at matched loss, its scores, and its suffix at the end."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loraudit.data import load_records
from loraudit.errors import StoreError
from loraudit.spec import N_TOKENS, SUMMED_LOSS, ArmResult, ArmRun, ContrastResult, Match, RecordFormat, from_usual
from loraudit.statistics import crossing
from loraudit.store import read_measures, read_run, shown_ids
from loraudit.store.identity import run_key
from loraudit.types import BoolArray, FloatArray, IntArray, Record

ERROR_ZONE = "error_zone"
_BASE = "base"


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """The records of a contrast, members first.

    Attributes:
        records: [N].
        is_member: [N].
        n_copies: [N] how often each stands in one epoch; 1 for non-members.
        base: [N] f under the base: mean log p of the audited tokens, nats; NaN where it was not scored.
    """

    records: Sequence[Record]
    is_member: BoolArray
    n_copies: IntArray
    base: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredArm:
    """One method, at the matched validation loss, as a mean over its training runs.

    Attributes:
        arm: Of the contrast.
        epoch: Mean over runs.
        values: [N] f, nats per token.
        scores: [N] by attack.
    """

    arm: ArmResult
    epoch: float
    values: FloatArray
    scores: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSuffixes:
    """What the audits of the contrast say of suffixes, of each method's first training run.

    Attributes:
        prefix: Tokens given.
        suffix: Tokens to follow.
        base: [N] log p under the base, nats; NaN where the record is too short.
        tuned: [N] by method.
    """

    prefix: int
    suffix: int
    base: FloatArray
    tuned: Mapping[str, FloatArray]


class ContrastScores:
    """`scores.parquet` of a contrast, and the records it is about.

    Args:
        folder: Of the contrast.
        result: Its result.

    Raises:
        StoreError: Something is missing, damaged, changed, or made under another account's secret.
    """

    def __init__(self, folder: Path, result: ContrastResult) -> None:
        self.folder, self.result = folder, result
        self.table = self._read()
        records, is_member = self._records()
        self._places = self._matched(shown_ids(records, run_key(result.spec_hash)), self._column("id"))
        n = len(records)
        arms, seeds, steps = (self._column(name)[::n] for name in ("arm", "seed", "step"))
        self._starts = {
            (arm, None if arm == _BASE else seed, step): place * n
            for place, (arm, seed, step) in enumerate(zip(arms, seeds, steps, strict=True))
        }
        base = self._rows(_BASE, None, 0)
        self.sides = Sides(records, is_member, np.maximum(base("n_copies"), 1).astype(np.int64), _f(base))
        self.base = base

    def at(self, match: Match, arm: ArmResult) -> MeasuredArm | None:
        """A method where its runs first get to the matched loss, between checkpoints on a straight line.

        Args:
            match: At equal validation loss.
            arm: The method.

        Returns:
            None where a run does not get there.
        """
        known = dict.fromkeys([self.result.spec.headline, ERROR_ZONE])
        names = [name for name in known if name in self.table.schema.names]
        values = np.zeros(len(self.sides.records))
        scores = dict.fromkeys(names, values)
        epochs: list[float] = []
        for run in arm.runs:
            validation = np.array([point.validation_loss for point in run.points])
            weights = None if match.level is None else crossing(validation, match.level)
            if weights is None:
                return None
            epochs.append(float(weights @ np.array([point.epoch for point in run.points])))
            for place in np.flatnonzero(weights):
                rows = self.base if place == 0 else self._rows(arm.name, run.seed, run.points[int(place)].step)
                share = weights[place] / len(arm.runs)
                values = values + share * _f(rows)
                scores = {name: total + share * rows(name) for name, total in scores.items()}
        return MeasuredArm(arm, float(np.mean(epochs)), values, scores)

    def suffixes(self) -> MeasuredSuffixes | None:
        """Suffixes at the end of training; None where the contrast measured no memorization."""
        spec = self.result.spec
        tuned: dict[str, FloatArray] = {}
        base: FloatArray | None = None
        prefix = 0
        for arm in self.result.arms:
            if arm.memorization is None or arm.audit is None:
                continue
            folder = self.folder / arm.audit
            audited = read_run(folder).result
            measures = read_measures(folder)
            ids = shown_ids(self.sides.records, run_key(audited.spec_hash))
            places = self._matched(ids, measures.column("id").to_pylist())
            known = [
                length
                for length in spec.prefix_tokens
                if _log_prob("target", length) in measures.schema.names
                and not np.isnan(_numbers(measures, _log_prob("target", length))[places][self.sides.is_member]).all()
            ]
            if not known:
                continue
            prefix = min(known, key=from_usual)
            tuned[arm.name] = _numbers(measures, _log_prob("target", prefix))[places]
            base = _numbers(measures, _log_prob("reference", prefix))[places]
        return None if base is None else MeasuredSuffixes(prefix, spec.suffix_tokens, base, tuned)

    def _read(self) -> pa.Table:
        path = self.folder / "scores.parquet"
        try:
            content = path.read_bytes()
            table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise StoreError(
                f"Scores '{path}' cannot be read: {error}. Expected those of a finished contrast. Run it again; it "
                "resumes."
            ) from None
        if SUMMED_LOSS not in table.schema.names:
            raise StoreError(
                f"Scores '{path}' have no column {SUMMED_LOSS}. Expected those of this version of loraudit. Run the "
                "contrast again, into another folder."
            )
        if hashlib.sha256(content).hexdigest() != self.result.scores:
            raise StoreError(
                f"Scores '{path}' have another sha256 than the contrast recorded: they were changed after the run. "
                "Expected them as written. Run the contrast again; it resumes."
            )
        return table

    def _records(self) -> tuple[list[Record], BoolArray]:
        sides = [_side(self.folder / "records" / f"{name}.jsonl") for name in ("members", "nonmembers")]
        return [*sides[0], *sides[1]], np.repeat([True, False], [len(side) for side in sides])

    def _matched(self, wanted: Sequence[str], ids: Sequence[str]) -> IntArray:
        """[N] row of each record, in the order of the records, within a block of all of them."""
        rows = {name: place for place, name in reversed(list(enumerate(ids)))}
        missing = sum(name not in rows for name in wanted)
        if missing:
            raise StoreError(
                f"{missing} of {len(wanted)} records of contrast '{self.folder}' are not among its scores. Expected "
                "all of them, under ids that the secret of this account makes. Use the account that ran the contrast, "
                "or run it again."
            )
        return np.array([rows[name] for name in wanted], dtype=np.int64)

    def _rows(self, arm: str, seed: int | None, step: int) -> _Block:
        start = self._starts.get((arm, seed, step))
        if start is None:
            raise StoreError(
                f"Scores of {arm} after step {step} are missing in contrast '{self.folder}'. Expected every measured "
                "checkpoint. Run the contrast again; it resumes."
            )
        return _Block(self.table.slice(start, len(self._places)), self._places)

    def _column(self, name: str) -> list[Any]:
        return self.table.column(name).to_pylist()


class _Block:
    """The rows of one checkpoint, in the order of the records."""

    def __init__(self, table: pa.Table, places: IntArray) -> None:
        self._table, self._places = table, places

    def __call__(self, name: str) -> FloatArray:
        return _numbers(self._table, name)[self._places]


def _f(rows: _Block) -> FloatArray:
    """[N] mean log p of the audited tokens."""
    return -rows(SUMMED_LOSS) / np.maximum(rows(N_TOKENS), 1)


def final_point(arm: ArmResult, run: ArmRun) -> int:
    """Which measured point of a run its kept model is from."""
    validation = [point.validation_loss for point in run.points]
    best = 1 + int(np.argmin(validation[1:]))
    return best if arm.recipe.get("select") == "best" else len(validation) - 1


def _numbers(table: pa.Table, name: str) -> FloatArray:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _log_prob(view: str, prefix: int) -> str:
    """The column of `memorization.parquet` that holds log p of the suffix, all tokens at T = 1."""
    return f"log_prob:{view}:{prefix}:0:1"


def _side(path: Path) -> list[Record]:
    """The records of one side, each once, as the contrast wrote them.

    Raises:
        StoreError: They are not there.
    """
    keys: set[str] = set()
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                keys |= json.loads(line).keys()
    except (OSError, ValueError) as error:
        raise StoreError(
            f"Records '{path}' cannot be read: {error}. Expected the split that the contrast wrote. Run it again; it "
            "resumes."
        ) from None
    layout = RecordFormat(
        group_field="group" if "group" in keys else None,
        subgroup_field="subgroup" if "subgroup" in keys else None,
        id_field="id" if "id" in keys else None,
    )
    return list(load_records([str(path)], layout).records)
