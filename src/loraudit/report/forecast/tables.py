"""How fast each method moves, what its kernel looks like, and how far it can be believed, as tables."""

from __future__ import annotations

from collections.abc import Callable

from loraudit.policy.forecast import clean_point
from loraudit.report.cells import Cell
from loraudit.report.forecast.cells import rank_cell, short, short_cell, short_finding
from loraudit.report.forecast.grid import arms_of
from loraudit.report.robustness.cells import n_cell, plain_words
from loraudit.report.robustness.words import MEASURE_WORDS, dose_words
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import ForecastMethod, ForecastResult, LoraTheory, MeasuredComparison

_ENTROPY_WORDS = {"inf": "H∞", "0.5": "H½"}


def speed_sheet(result: ForecastResult) -> Sheet:
    """The scale of each kernel: what a learning rate can make up for."""
    times = {
        curve.method: point.time for curve in result.curves if (point := clean_point(curve)) is not None
    }  # the clean arm is the same for every attack

    def cells(method: ForecastMethod) -> list[Cell]:
        time, theory = times.get(method.name), method.theory
        error = method.shape.monte_carlo_error
        return [
            Cell(f"{method.n_trained_parameters:,}"),
            short_cell(method.shape.trace),
            Cell("no draws" if error is None else f"{100 * error:.1f} %"),
            Cell("refused" if method.refused is not None else "not reached" if time is None else short(time)),
            *(Cell("") if theory is None else short_cell(value) for value in _speeds(theory)),
        ]

    columns = ["trained parameters", "trace", "Monte-Carlo error", "time to the clean loss, 1 / trace"]
    return _sheet(result, "Speed", [*columns, "α²σ²/r (SGD)", "ασ (Adam)"], cells)


def _speeds(theory: LoraTheory | None) -> tuple[float | None, float | None]:
    return (None, None) if theory is None else (theory.speed_sgd, theory.speed_adam)


def shape_sheet(result: ForecastResult) -> Sheet:
    """The spectrum of each kernel whatever its scale."""
    entropies = list(dict.fromkeys(name for method in result.methods for name in method.shape.entropies))
    tops = sorted({k for method in result.methods for k in method.shape.top_share})

    def cells(method: ForecastMethod) -> list[Cell]:
        shape = method.shape
        return [
            short_cell(shape.effective_rank),
            short_cell(shape.participation),
            *(short_cell(shape.entropies.get(name)) for name in entropies),
            short_cell(shape.log_det),
            *(_percent_cell(shape.top_share.get(k)) for k in tops),
            short_finding(shape.agreement_with_full),
            short_finding(shape.alignment),
        ]

    columns = ["effective rank", "participation", *(_ENTROPY_WORDS.get(name, f"H{name}") for name in entropies)]
    columns += ["log det", *(f"top {k}, %" for k in tops), "agreement with full", "alignment with labels"]
    return _sheet(result, "Shape", columns, cells)


def theory_sheet(result: ForecastResult) -> Sheet | None:
    """What the settings of a LoRA say alone; None where there is no LoRA."""
    arms = arms_of(result.methods)
    rows = [
        SheetRow(
            method.name,
            [short_cell(value) for value in (one.h1_published, one.h2_published, one.h2_corrected, one.participation)],
            arm=arms.get(method.name),
        )
        for method in result.methods
        if (one := method.theory) is not None
    ]
    columns = ["H1′, published", "H2′, published", "H2′, corrected", "participation r·n/(n+r−2+κ)"]
    return Sheet("Entropies from the settings alone", "method", columns, rows) if rows else None


def twins_sheet(result: ForecastResult) -> Sheet | None:
    """How each method sees poisoned records beside the same clean; None where there are none."""
    arms = arms_of(result.methods)
    rows = [
        SheetRow(
            method.name,
            [
                Cell(twins.attack),
                *map(short_finding, (twins.proxy, twins.cosine, twins.poison_alignment)),
                Cell(f"{twins.n:,}"),
            ],
            arm=arms.get(method.name),
        )
        for method in result.methods
        for twins in method.twins
    ]
    columns = ["attack", "M′, published", "cosine", "alignment with poisoned labels", "n"]
    return Sheet("Poisoned records beside themselves clean", "method", columns, rows, frozenset({0})) if rows else None


def linearity_sheet(result: ForecastResult) -> Sheet:
    """How far one real step of each method lies from the one that its kernel predicts."""
    steps = sorted({check.step for method in result.methods for check in method.linearity})

    def cells(method: ForecastMethod) -> list[Cell]:
        by_step = {check.step: check for check in method.linearity}
        errors = [
            Cell("not taken") if (check := by_step.get(step)) is None
            else Cell("nothing moved" if check.relative_error is None else short(check.relative_error))
            for step in steps
        ]  # fmt: skip
        n = max((check.n for check in method.linearity), default=0)
        return [*errors, Cell(f"{n:,}"), Cell("predicted" if method.refused is None else "REFUSED")]

    columns = [*(f"error at a step of {step:g}" for step in steps), "n", "outcome"]
    sheet = _sheet(result, "Linearity", columns, cells)
    return Sheet(sheet.title, sheet.first, columns, sheet.rows, frozenset({len(columns) - 1}))


def correlation_sheet(comparison: MeasuredComparison) -> Sheet:
    """The rank correlation of the forecast with what was measured, above those of the baselines."""
    found = {"forecast": comparison.spearman, **comparison.baselines}
    rows = [
        SheetRow(name, [rank_cell(finding), n_cell(finding), Cell(finding.method), Cell(finding.note or "")])
        for name, finding in found.items()
    ]
    title = f"Spearman with measured {MEASURE_WORDS[comparison.measure]}"
    return Sheet(title, "by", ["ρ", "n", "how", "note"], rows, frozenset({2, 3}))


def compared_cells_sheet(result: ForecastResult, comparison: MeasuredComparison) -> Sheet:
    """Every cell that was both predicted and measured."""
    arms = arms_of(result.methods)
    rows = [
        SheetRow(
            str(cell.get("method")),
            [
                Cell(str(cell.get("attack"))),
                Cell(dose_words(float(cell.get("dose") or 0))),
                *(Cell(plain_words(comparison.measure, cell.get(side))) for side in ("predicted", "measured")),
            ],
            arm=arms.get(str(cell.get("method"))),
        )
        for cell in comparison.cells
    ]
    title = f"Predicted and measured {MEASURE_WORDS[comparison.measure]}"
    return Sheet(title, "method", ["attack", "dose", "predicted", "measured"], rows, frozenset({0}))


def _percent_cell(share: float | None) -> Cell:
    return Cell("undefined" if share is None else f"{100 * share:.1f}")


def _sheet(
    result: ForecastResult, title: str, columns: list[str], cells: Callable[[ForecastMethod], list[Cell]]
) -> Sheet:
    arms = arms_of(result.methods)
    rows = [SheetRow(method.name, cells(method), arm=arms.get(method.name)) for method in result.methods]
    return Sheet(title, "method", columns, rows)
