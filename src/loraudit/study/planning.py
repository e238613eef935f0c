"""What a study would take, before anything runs: its cells, what is complete, cost and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loraudit.errors import LorauditError
from loraudit.spec import AuditSpec, CellKind, ContrastSpec, ForecastSpec, Request, RobustnessSpec, StudySpec
from loraudit.store import RunFolder
from loraudit.study.carrying import complete_result
from loraudit.study.cells import Cell, cell_path, expand
from loraudit.study.kinds import placed
from loraudit.study.request import store_path, study_path
from loraudit.study.sharing import n_sharing


class Work(NamedTuple):
    """What one cell would take, by its command's own estimate.

    Attributes:
        n_runs: Training runs, shadow models among them, searches not.
        n_steps: Of all of them, about.
        n_tokens: To send through models in audits and forecasts.
        seconds: Of that, roughly; None where the command does not say.
        memory_bytes: Peak: weights, and activations, gradients and optimiser where the command counts them.
    """

    n_runs: int = 0
    n_steps: int = 0
    n_tokens: int = 0
    seconds: float | None = None
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CellCost:
    """One cell.

    Attributes:
        id: Of the cell.
        grid: The first grid that asks it.
        kind: The command.
        labels: Axis → label of its value.
        is_complete: Whether its result is there.
        work: What it would take; None where it is complete or cannot be carried out.
        error: Why it cannot.
    """

    id: str
    grid: str
    kind: CellKind
    labels: dict[str, str]
    is_complete: bool
    work: Work | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StudyCost:
    """What the cells that are not complete would take together.

    Attributes:
        path: Folder of the study.
        cells: Each of them.
        n_complete: Cells whose result is there.
        n_runs: Training runs.
        n_steps: Of them.
        n_tokens: To send through models in audits and forecasts.
        seconds: Of audits, roughly.
        memory_bytes: Of the cell that takes most; each worker takes that of its own cell.
        n_sharing: Cells that find some of their work done by an earlier one: so far the sums say too much.
    """

    path: str
    cells: list[CellCost]
    n_complete: int
    n_runs: int
    n_steps: int
    n_tokens: int
    seconds: float
    memory_bytes: int
    n_sharing: int

    @property
    def n_failing(self) -> int:
        """Cells that cannot be carried out."""
        return sum(cell.error is not None for cell in self.cells)


def estimate_study(spec: StudySpec) -> StudyCost:
    """Check everything that shows before the first cell runs, and add up what the cells would take.

    Raises:
        ConfigError: Anything is wrong with the study itself; what is wrong with a cell stands beside it.
    """
    cells = expand(spec)
    if study_path(spec).is_dir():
        RunFolder(study_path(spec), spec)
    costs = [_cost_of(cell, spec) for cell in cells]
    works = [cost.work for cost in costs if cost.work is not None]
    return StudyCost(
        path=str(study_path(spec)),
        cells=costs,
        n_complete=sum(cost.is_complete for cost in costs),
        n_runs=sum(work.n_runs for work in works),
        n_steps=sum(work.n_steps for work in works),
        n_tokens=sum(work.n_tokens for work in works),
        seconds=sum(work.seconds or 0.0 for work in works),
        memory_bytes=max((work.memory_bytes for work in works), default=0),
        n_sharing=n_sharing(_to_do(cells, costs)),
    )


def _to_do(cells: Sequence[Cell], costs: Sequence[CellCost]) -> list[Cell]:
    return [cell for cell, cost in zip(cells, costs, strict=True) if not cost.is_complete]


def _cost_of(cell: Cell, spec: StudySpec) -> CellCost:
    path = cell_path(study_path(spec), cell)
    work, error, is_complete = None, None, False
    try:
        is_complete = complete_result(cell, path)[0] is not None
        if not is_complete:
            work = work_of(placed(cell.request, path, store_path(spec)))
    except LorauditError as wrong:
        error = str(wrong)
    return CellCost(cell.id, cell.grid, cell.kind, cell.labels, is_complete, work, error)


def work_of(request: Request) -> Work:
    """What the command would take, as its own `--dry-run` says it.

    Raises:
        LorauditError: As the command, for everything that can be found out beforehand.
    """
    if isinstance(request, AuditSpec):
        from loraudit.auditing import estimate_audit

        audit = estimate_audit(request)
        return Work(n_tokens=audit.n_tokens, seconds=audit.seconds, memory_bytes=audit.memory_bytes)
    if isinstance(request, ContrastSpec):
        from loraudit.contrast import estimate_contrast

        contrast = estimate_contrast(request)
        return Work(
            contrast.n_runs + contrast.n_shadows,
            contrast.n_steps + contrast.n_shadow_steps,
            memory_bytes=max(arm.memory_bytes for arm in contrast.arms),
        )
    if isinstance(request, RobustnessSpec):
        from loraudit.robustness import estimate_robustness

        poisoned = estimate_robustness(request)
        memory = max(method.memory_bytes for method in poisoned.methods)
        return Work(poisoned.n_runs, poisoned.n_steps, memory_bytes=memory)
    if isinstance(request, ForecastSpec):
        from loraudit.forecast import estimate_forecast

        forecast = estimate_forecast(request)
        passes = forecast.kernels.n_passes * forecast.n_heads
        memory = forecast.kernels.held_bytes + forecast.kernels.kernel_bytes
        return Work(n_tokens=round(forecast.n_tokens * passes), memory_bytes=memory)
    raise TypeError(f"no cell is a {type(request).__name__}")
