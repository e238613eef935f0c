"""How the models of a comparison were made: learning rates, recipes and runs as tables."""

from __future__ import annotations

from loraudit.report.cells import Cell, cell_of
from loraudit.report.contrast.curves import lowest_validation
from loraudit.report.sheets import Sheet, SheetRow, number_cell
from loraudit.report.templating import words_of
from loraudit.spec import ArmRun, ContrastResult


def search_sheet(result: ContrastResult) -> Sheet | None:
    """Learning rates that were tried; None where all were given."""
    if not any(arm.search for arm in result.arms):
        return None
    rates = sorted({tried.learning_rate for arm in result.arms for tried in arm.search})
    rows: list[SheetRow] = []
    for position, arm in enumerate(result.arms):
        tried = {one.learning_rate: one.validation_loss for one in arm.search}
        cells = [
            Cell("")
            if rate not in tried
            else Cell("diverged")
            if tried[rate] is None
            else Cell(f"{tried[rate]:.3f}", remark="chosen" if rate == arm.learning_rate else "")
            for rate in rates
        ]
        rows.append(SheetRow(arm.name, [Cell(_power(arm.learning_rate)), *cells], arm=position))
    return Sheet("Search for the learning rate", "method", ["chosen rate", *map(_power, rates)], rows)


def edge_words(result: ContrastResult) -> str | None:
    """Which methods took a rate at an end of those tried, beyond which a better one may lie."""
    found: list[str] = []
    for arm in result.arms:
        rates = sorted(tried.learning_rate for tried in arm.search)
        if len(rates) > 1 and arm.learning_rate in {rates[0], rates[-1]}:
            found.append(f"{arm.name} took the {'lowest' if arm.learning_rate == rates[0] else 'highest'}")
    if not found:
        return None
    return f"{'; '.join(found)} of the rates tried: a better one may lie beyond, so its fit may be understated."


def recipe_sheet(result: ContrastResult) -> tuple[Sheet | None, list[tuple[str, str]]]:
    """Settings in which the methods differ as a table, and those that all share with their value."""
    settings = list(dict.fromkeys(name for arm in result.arms for name in arm.recipe if name != "seed"))
    by_arm = [{name: words_of(value) for name, value in arm.recipe.items() if value is not None} for arm in result.arms]
    shared: list[tuple[str, str]] = []
    differing: list[str] = []
    for name in settings:
        values = {of_arm.get(name) for of_arm in by_arm}
        if len(values) > 1:
            differing.append(name)
        elif None not in values:
            shared.append((name.replace("_", " "), by_arm[0][name]))
    if not differing:
        return None, shared
    columns = ["kind of tuning" if name == "method" else name.replace("_", " ") for name in differing]
    rows = [
        SheetRow(arm.name, [Cell(values.get(name, "")) for name in differing], arm=position)
        for position, (arm, values) in enumerate(zip(result.arms, by_arm, strict=True))
    ]
    return Sheet("Settings in which the methods differ", "method", columns, rows), shared


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


def _power(value: float) -> str:
    """0.0003 as "3e-4", so that rates of all sizes read alike."""
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
