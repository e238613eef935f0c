"""One cell, carried out by whichever worker of whichever engine."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from loraudit.engines import stop_of_worker
from loraudit.errors import InUse, LorauditError, NewerVersion, StoreError, scrubbed
from loraudit.execution import Progress, Silent
from loraudit.spec import spec_hash
from loraudit.study.cells import Cell, cell_path
from loraudit.study.kinds import AnyResult, carry_out, placed, read_cell

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_UNTIL_TRIED_AGAIN = 15.0
"""A process that died leaves its lock, which the next try takes over."""
PATIENCE_SECONDS = 3600.0
"""How long a worker waits for what another process is making before the cell counts as failed."""


class CellOutcome(NamedTuple):
    """How a cell ended. Small: its result stays in its folder.

    Attributes:
        id: Of the cell.
        status: Whether it has a result now.
        error: Why not.
        seconds: It took; None where it was complete before.
        warnings: Of carrying it out, beside those of its result.
    """

    id: str
    status: Literal["ok", "failed"]
    error: str | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class CarryOut:
    """Carries out cells; a cell whose result is complete is left as it is.

    An error that a person can mend is the cell's failure, never the study's. But a disk that is full or cannot be
    written stops every cell, and so the study. A bug keeps its traceback and ends it too.

    Attributes:
        folder: Of the study.
        store: Evidence store of all cells.
        current_folder: Paths of requests are relative to it.
        progress: Told what happens, in the process that waits.
        patience: Seconds to wait for what another process is making.
    """

    folder: Path
    store: Path
    current_folder: Path
    progress: Progress
    patience: float = PATIENCE_SECONDS

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "progress": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.progress = Silent()

    def __call__(self, cell: Cell) -> CellOutcome:
        """Carry out one cell.

        Raises:
            Interrupted: A stop was asked for; what is finished is kept.
            StoreError: The disk takes no more.
        """
        if Path.cwd() != self.current_folder:  # a worker on another machine starts elsewhere
            os.chdir(self.current_folder)
        path = cell_path(self.folder, cell)
        began, warnings = time.perf_counter(), []
        try:
            complete, damage = complete_result(cell, path)
            if complete is not None:
                return CellOutcome(cell.id, "ok")
            warnings = [damage] if damage else []
            self._run(cell, path)
        except LorauditError as error:
            if _is_of_the_disk(error):
                raise
            return CellOutcome(cell.id, "failed", scrubbed(str(error)), _since(began), tuple(warnings))
        return CellOutcome(cell.id, "ok", None, _since(began), tuple(warnings))

    def _run(self, cell: Cell, path: Path) -> None:
        """As the command; what another process is making in the store is waited for."""
        request = placed(cell.request, path, self.store)
        began = time.monotonic()
        while True:
            try:
                carry_out(request, self.progress, stop_of_worker())
            except InUse as held:
                self._wait_for(held, began)
                if complete_result(cell, path)[0] is not None:
                    return
            else:
                return

    def _wait_for(self, held: InUse, began: float) -> None:
        if time.monotonic() - began > self.patience:
            raise held
        self.progress.say(f"Waiting for '{held.folder}', where another process is at work")
        lock = Path(held.folder) / "lock.json"
        deadline = time.monotonic() + _SECONDS_UNTIL_TRIED_AGAIN
        while lock.exists() and time.monotonic() < deadline:
            stop_of_worker().check()
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def complete_result(cell: Cell, path: Path) -> tuple[AnyResult | None, str | None]:
    """The result of a cell that is complete, or None with a warning where there is one that cannot be used.

    Raises:
        NewerVersion: A newer version wrote it.
    """
    try:
        result = read_cell(cell.kind, path)
    except NewerVersion:
        raise
    except StoreError as error:
        return None, f"{cell.words}: its result was damaged and is made again ({scrubbed(str(error)).splitlines()[0]})."
    if result is None:
        return None, None
    if result.spec_hash != spec_hash(cell.request):
        return None, f"{cell.words}: its folder held the result of another request, and is made again."
    return result, None


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


def _is_of_the_disk(error: BaseException | None) -> bool:
    """Whether it says that the disk takes no more, which the next cell would meet too."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            return True
        error = error.__cause__
    return False


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 2)
