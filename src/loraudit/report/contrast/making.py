"""The training runs of a comparison as a table."""

from __future__ import annotations

from loraudit.report.cells import Cell, cell_of
from loraudit.report.contrast.curves import lowest_validation
from loraudit.report.sheets import Sheet, SheetRow, number_cell
from loraudit.spec import ArmRun, ContrastResult


def runs_sheet(result: ContrastResult) -> Sheet:
    """Every training run with where it was best and where it ended."""
    has_epsilon = any(run.epsilon is not None for arm in result.arms for run in arm.runs)
    columns = ["seed", "steps", "lowest validation loss", "at epoch", "final validation loss", "final member loss"]
    columns += ["final AUC", *(["ε"] if has_epsilon else []), "ended", "folder"]
    rows = [
        SheetRow(arm.name, _run_cells(run, has_epsilon=has_epsilon), arm=position)
        for position, arm in enumerate(result.arms)
        for run in arm.runs
    ]
    return Sheet("Training runs", "method", columns, rows, frozenset({len(columns) - 2, len(columns) - 1}))


def _run_cells(run: ArmRun, *, has_epsilon: bool) -> list[Cell]:
    best = lowest_validation(run)
    last = run.points[-1] if run.points else None
    ends = [Cell("")] * 3
    if last is not None:
        area = cell_of("auc", last.findings.get("auc"))
        ends = [number_cell(last.validation_loss, 3), number_cell(last.member_loss, 3), area]
    epsilon = [Cell("none") if run.epsilon is None else number_cell(run.epsilon, 2)] if has_epsilon else []
    return [
        Cell(str(run.seed)),
        Cell(f"{run.n_steps:,}"),
        number_cell(None if best is None else best.validation_loss, 3),
        number_cell(None if best is None else best.epoch, 2),
        *ends,
        *epsilon,
        Cell(run.stopped_because or "as planned"),
        Cell(run.model),
    ]
