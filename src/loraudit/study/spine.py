"""A study from top to bottom: grids → cells → any engine → findings of all cells → one result and report."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loraudit.engines import open_engine, positions_of_shard
from loraudit.errors import (
    EXIT_LIMIT_EXCEEDED,
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    EnvironmentFault,
    LorauditError,
    StoreError,
    counted,
)
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.spec import StudyResult, StudySpec
from loraudit.store import RunFolder, open_private_folder, user_secret
from loraudit.study.assembling import Facts, assemble, check_beside
from loraudit.study.carrying import CarryOut, CellOutcome, complete_result
from loraudit.study.cells import Cell, cell_path, expand
from loraudit.study.kinds import check
from loraudit.study.locking import locked
from loraudit.study.request import store_path, study_path
from loraudit.study.sharing import next_wave, shared_work


class StudyRun(NamedTuple):
    """A study that was carried out, or the part of it that was asked for.

    Attributes:
        path: Its folder.
        result: `result.json`; None while cells of other parts are missing.
        n_cells: Of the whole study.
        n_complete: Of them.
        failed: Cells of this call that failed, in words, with the reason.
    """

    path: Path
    result: StudyResult | None
    n_cells: int
    n_complete: int
    failed: list[str]


def run_study(
    spec: StudySpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> StudyRun:
    """Carry out every cell of a study and put together what they found.

    The same study again resumes: complete cells are left as they are, others go on where they stopped. A cell that
    fails is reported and leaves the others alone.

    Args:
        spec: The request.
        progress: Told which cell has finished, and what a cell in this process does.
        stop: Asked between batches, wherever they are.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request does not allow it: everything that is wrong with any cell is said at once.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    progress, stop = progress or Silent(), stop or StopRequest()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    cells = expand(spec)
    mine = [cells[i] for i in positions_of_shard(spec.shard, len(cells))]
    check_beside(spec, cells)
    folder = RunFolder(study_path(spec), spec)
    open_private_folder(folder.path / "cells")
    open_private_folder(store_path(spec))
    user_secret()
    with locked(folder.path, spec.shard):
        folder.write_spec()
        folder.log("started", command=command, shard=spec.shard)
        try:
            complete = {cell.id for cell in cells if is_complete(cell, folder.path)}
            waiting = [cell for cell in mine if cell.id not in complete]
            check_cells(waiting)
            if len(waiting) < len(mine):
                progress.say(f"{len(mine) - len(waiting)} of {len(mine)} cells are complete already")
            carried = _carry_out_all(spec, folder, waiting, mine, progress, stop)
            failed = _failed(cells, carried.outcomes)
            if spec.shard and not all(is_complete(cell, folder.path) for cell in cells):
                folder.log("finished", shard=spec.shard)
                return StudyRun(folder.path, None, len(cells), _n_complete(cells, folder.path), failed)
            progress.say("Putting the cells together")
            facts = Facts(
                command=command or f"loraudit study {shlex.quote(str(folder.path / 'spec.json'))}",
                started=started.isoformat(timespec="seconds"),
                began=began,
                carried_out=carried.facts,
                n_repeated=carried.n_repeated,
            )
            result = assemble(spec, folder, cells, carried.outcomes, facts)
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return StudyRun(folder.path, result, len(cells), sum(cell.status == "ok" for cell in result.cells), failed)


def exit_code(run: StudyRun) -> int:
    """7 where a cell failed or lacks a part, 1 where a limit of a cell does not hold, else 0."""
    codes = {cell.exit_code for cell in run.result.cells} if run.result else set()
    if run.failed or EXIT_PARTIAL in codes:
        return EXIT_PARTIAL
    return EXIT_LIMIT_EXCEEDED if EXIT_LIMIT_EXCEEDED in codes else EXIT_OK


def is_complete(cell: Cell, folder: Path) -> bool:
    """Whether the cell's result is there and whole."""
    return complete_result(cell, cell_path(folder, cell))[0] is not None


def _n_complete(cells: Sequence[Cell], folder: Path) -> int:
    return sum(is_complete(cell, folder) for cell in cells)


def _failed(cells: Sequence[Cell], outcomes: Sequence[CellOutcome]) -> list[str]:
    by_id = {cell.id: cell for cell in cells}
    return [f"{by_id[one.id].words}: {one.error}" for one in outcomes if one.status == "failed"]


def _and_more(n: int) -> str:
    return f" and {counted(n, 'more cell')}" if n else ""


def check_cells(cells: Sequence[Cell]) -> None:
    """Names, files and limits of all cells, before the first of them runs.

    Raises:
        ConfigError: Everything that is wrong with any of them, each said once.
    """
    wrong: dict[str, list[Cell]] = {}
    for cell in cells:
        try:
            check(cell.request)
        except LorauditError as error:
            for line in str(error).splitlines():
                wrong.setdefault(line, []).append(cell)
    if wrong:
        lines = [f"{having[0].words}{_and_more(len(having) - 1)}: {line}" for line, having in wrong.items()]
        raise ConfigError("\n".join(lines))


class _Carried(NamedTuple):
    """What an engine did."""

    outcomes: list[CellOutcome]
    facts: dict[str, Any]
    n_repeated: int


def _carry_out_all(
    spec: StudySpec,
    folder: RunFolder,
    waiting: list[Cell],
    mine: Sequence[Cell],
    progress: Progress,
    stop: StopRequest,
) -> _Carried:
    """Wave after wave, so that what cells share is made once.

    Raises:
        Interrupted: A stop was asked for; cells that finished before are logged.
    """
    if not waiting:
        return _Carried([], {}, 0)
    left = {cell.id: cell for cell in waiting}
    made = {name for cell in mine if cell.id not in left for name in shared_work(cell)}
    outcomes: list[CellOutcome] = []

    def on_done(_position: int, outcome: CellOutcome) -> None:
        outcomes.append(outcome)
        cell = left.pop(outcome.id)
        folder.log("cell", **outcome._asdict())
        if outcome.status == "ok":
            made.update(shared_work(cell))
        progress.say(_line(cell, outcome, len(mine) - len(left), len(mine)))

    work = CarryOut(folder.path, store_path(spec), Path.cwd(), progress)
    with open_engine(
        spec, shared=folder.path, stop=stop, progress=progress, on_done=on_done, instead=_given_up
    ) as engine:
        while left:
            rest = list(left.values())
            for _ in engine.map(work, rest if _is_serial(spec) else next_wave(rest, made)):
                pass  # told of by `on_done`, in whatever order they finish
        return _Carried(outcomes, engine.facts(), engine.n_repeated)


def _is_serial(spec: StudySpec) -> bool:
    """Whether one cell follows the other in any case; then as they are written."""
    return spec.engine == "local" and (spec.workers or 1) == 1


def _given_up(cell: Cell, error: EnvironmentFault) -> CellOutcome:
    """Of a cell that no worker survives: it fails, and the others go on."""
    return CellOutcome(cell.id, "failed", str(error))


def _line(cell: Cell, outcome: CellOutcome, n_done: int, n_cells: int) -> str:
    if outcome.status == "failed":
        how = f"failed: {(outcome.error or '').splitlines()[0]}"
    else:
        how = "done" if outcome.seconds is None else f"done in {outcome.seconds:,.1f} s"
    return f"[{n_done}/{n_cells}] {cell.kind}, {cell.words[0].lower()}{cell.words[1:]}: {how}"
