"""A bulk run from top to bottom: models known → records found → units scored by any engine → parts put together."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from loraudit.auditing.preparation import requested_tokenizer
from loraudit.bulk.blocks import Index, Unit
from loraudit.bulk.index import make_index, read_index, write_index
from loraudit.bulk.parts import MARKS, SCORES, read_mark, remove_parts_from
from loraudit.bulk.request import (
    asked_of_index,
    asked_of_parts,
    audit_request,
    check_request,
    chosen_attacks,
    models_and_options,
    score_path,
    store_path,
)
from loraudit.bulk.summary import Totals, score_result
from loraudit.bulk.unit import ScoreUnit
from loraudit.engines import open_engine, positions_of_shard
from loraudit.errors import DataError, LorauditError, StoreError
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.membership import AnyAttack
from loraudit.models import ModelPlan
from loraudit.scoring import ScoringOptions
from loraudit.spec import ScoreResult, ScoreSpec
from loraudit.store import EvidenceStore, Lock, RunFolder, open_private_folder, run_key, user_secret
from loraudit.store.files import is_private
from loraudit.types import Record

ROWS_BETWEEN_WORDS = 100_000


class ScoreRun(NamedTuple):
    """What a call has brought about.

    Attributes:
        path: The run folder.
        result: `result.json`; None where units of other shards are still missing.
        n_done: Parts that are there.
        n_units: Parts that there are to be.
    """

    path: Path
    result: ScoreResult | None
    n_done: int
    n_units: int


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What is known before the first unit.

    Attributes:
        plan: The models.
        options: How to score.
        attacks: What to compute.
        index: Where the records are.
        slices: Blocks of each unit.
        asked: As of `Mark`.
        work: For the engine.
    """

    plan: ModelPlan
    options: ScoringOptions
    attacks: list[AnyAttack]
    index: Index
    slices: list[slice]
    asked: str
    work: ScoreUnit

    def units(self, positions: range | list[int]) -> Iterator[Unit]:
        """Made one by one: the places of all would not be small."""
        return (self.index.unit(number, self.slices[number]) for number in positions)


def run_score(
    spec: ScoreSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> ScoreRun:
    """Score every record of the files; the same request again makes what is missing or damaged.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between batches in this process, and between units elsewhere.
        command: How it was started.

    Raises:
        LorauditError: The request, the records, the models or the machine do not allow it.
        Interrupted: A stop was asked for; parts that are finished are kept.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    check_request(spec)
    folder = RunFolder(score_path(spec), spec)
    store = EvidenceStore(store_path(spec))
    user_secret()  # an account that cannot keep one is found out now, not after hours of scoring
    with _lock(folder, spec):
        folder.write_spec()
        folder.log("started", command=command, shard=spec.shard)
        try:
            prepared = _prepare(spec, folder, store, progress, stop)
            totals, carried_out = _carry_out(spec, folder, prepared, progress, stop)
            result = None
            if totals.n_parts == len(prepared.slices):
                _refuse_unscored(totals)
                result = score_result(
                    spec,
                    folder,
                    prepared.plan,
                    prepared.options,
                    prepared.attacks,
                    prepared.index,
                    totals,
                    carried_out=carried_out,
                    command=command or f"loraudit score --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                    started=started.isoformat(timespec="seconds"),
                    seconds=time.perf_counter() - began,
                )
                folder.write_result(result)
            folder.log("finished", parts=totals.n_parts, of=len(prepared.slices), made=totals.n_made)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return ScoreRun(folder.path, result, totals.n_parts, len(prepared.slices))


def _lock(folder: RunFolder, spec: ScoreSpec) -> Lock:
    """Of the folder; jobs of an array share it and lock their own share."""
    if spec.shard is None:
        return folder.lock()
    own = open_private_folder(open_private_folder(folder.path / "shards") / spec.shard.replace("/", "-of-"))
    return Lock(own)


def _prepare(
    spec: ScoreSpec, folder: RunFolder, store: EvidenceStore, progress: Progress, stop: StopRequest | None
) -> Prepared:
    plan, options = models_and_options(spec, store, is_worker=False)
    attacks = chosen_attacks(spec, plan)
    requested_tokenizer(audit_request(spec), plan)
    index = read_index(folder.path, asked_of_index(spec))
    if index is None:
        index = found_records(spec, progress, stop)
        write_index(folder.path, index, asked_of_index(spec))
    slices = index.blocks_per_unit(spec.records_per_unit)
    names_sources = is_private(folder.path)
    content = asked_of_parts(spec, plan, options, attacks, names_sources=names_sources)
    asked = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    for name in (SCORES, MARKS):
        open_private_folder(folder.path / name)
    work = ScoreUnit(
        spec,
        folder.path.absolute(),
        store.root.absolute(),
        tuple(attack.name for attack in attacks),
        run_key(folder.hash),
        asked,
        plan.fingerprints,
        names_sources,
    )
    return Prepared(plan, options, attacks, index, slices, asked, work)


def found_records(
    spec: ScoreSpec, progress: Progress, stop: StopRequest | None, look: Callable[[Record], None] | None = None
) -> Index:
    """The index, made anew.

    Raises:
        DataError: Records cannot be used.
        Interrupted: A stop was asked for.
    """
    n_rows = 0

    def advance(n: int) -> None:
        nonlocal n_rows
        n_rows += n
        if stop and not n_rows % 1000:
            stop.check()
        if not n_rows % ROWS_BETWEEN_WORDS:
            progress.say(f"{n_rows:,} rows checked")

    progress.say(f"Checking the records of {len(spec.records):,} files")
    return make_index(spec.records, spec, records_per_unit=spec.records_per_unit, look=look, advance=advance)


def _carry_out(
    spec: ScoreSpec, folder: RunFolder, prepared: Prepared, progress: Progress, stop: StopRequest | None
) -> tuple[Totals, dict[str, Any]]:
    """Every part that is there or is made now, in order."""
    slices = prepared.slices
    totals = Totals(len(slices))
    own = set(positions_of_shard(spec.shard, len(slices)))
    missing: list[int] = []
    n_records = 0
    for unit in prepared.units(range(len(slices))):
        if stop:
            stop.check()
        mark, is_damaged = read_mark(folder.path, unit, prepared.asked)
        if mark is not None:
            totals.add(unit.number, mark, is_new=False)
        elif unit.number in own:
            missing.append(unit.number)
            n_records += unit.n_records
            totals.n_damaged += is_damaged
    if missing:
        (folder.path / "result.json").unlink(missing_ok=True)  # it is no longer of all that is here
    if spec.shard is None:
        remove_parts_from(folder.path, len(slices))
    if not missing:
        return totals, {}
    if totals.n_damaged:
        progress.say(f"{totals.n_damaged:,} parts do not match their checksum and are made again")
    progress.stage("Scoring", n_records, "records")
    with (
        contextlib.closing(prepared.work),
        open_engine(
            spec,
            shared=folder.path,
            stop=stop,
            progress=progress,
            on_done=lambda _, outcome: progress.advance(outcome.mark.n_records),
        ) as engine,
    ):
        for outcome in engine.map(prepared.work, prepared.units(missing)):
            totals.add(outcome.number, outcome.mark, is_new=not outcome.was_there)
        facts = engine.facts()
        totals.n_repeated = engine.n_repeated
    return totals, facts


def _refuse_unscored(totals: Totals) -> None:
    """Not a single score is an error, never a result."""
    if not totals.n_scored:
        raise DataError(
            f"None of the {sum(totals.records):,} records could be scored: {totals.status_words}. Expected texts of at "
            "least two tokens and a model that gives finite numbers for them. Check the column (--text-field) and the "
            "model."
        )
