"""Exposure by number of copies, and guesses about coins, as tables."""

from __future__ import annotations

from loraudit.policy import ends
from loraudit.report.cells import Cell, p_number
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import CanaryResult, ExposureLevel
from loraudit.types import Finding


def level_name(level: ExposureLevel) -> str:
    """What the canaries of a row have in common."""
    if level.repeats == 0:
        return "never trained on"
    return f"{level.repeats:,} cop{'y' if level.repeats == 1 else 'ies'}"


def exposure_sheet(result: CanaryResult) -> Sheet:
    """Exposure by number of copies, controls first."""
    alone = ["bits by the target alone"] if result.headline == "difference" else []
    columns = ["mean exposure, bits", *alone, "first of all", "exposed, one by one", "p", "p, corrected", "n"]
    return Sheet(
        "Exposure by number of copies",
        "canaries",
        columns,
        [_row(level, result) for level in (result.controls, *result.levels)],
    )


def _row(level: ExposureLevel, result: CanaryResult) -> SheetRow:
    alone = [] if result.headline == "target" else [_cell(level.exposure_of_target)]
    first = level.first
    share = "undefined" if first.value is None else f"{100 * first.value:.0f} %"
    shares = "" if first.lower is None or first.upper is None else f"[{100 * first.lower:.0f}, {100 * first.upper:.0f}]"
    cells = [
        _cell(level.exposure),
        *alone,
        Cell(share, shares),
        Cell("" if level.repeats == 0 else f"{level.n_exposed:,}"),
        Cell("" if level.p_value is None else p_number(level.p_value)),
        Cell("" if level.p_holm is None else p_number(level.p_holm)),
        Cell(f"{level.n:,}", remark=f"{level.n_undefined} without a score" if level.n_undefined else ""),
    ]
    return SheetRow(level_name(level), cells)


def _cell(found: Finding | None) -> Cell:
    if found is None or found.value is None:
        return Cell("undefined")
    return Cell(f"{found.value:.2f}", ends(found, 2))


def guesses_sheet(result: CanaryResult) -> Sheet | None:
    """What each declared number of guesses proves; None where no ε is stated."""
    epsilon = result.epsilon
    if epsilon.status == "refused":
        return None
    rows = [
        SheetRow(
            f"{row.n_guesses:,} guesses",
            [
                Cell(f"{row.n_correct:,}"),
                Cell(f"{row.epsilon:.2f}"),
                Cell(f"{row.ceiling:.2f}"),
                Cell(f"{100 * row.confidence:g} %"),
            ],
        )
        for row in epsilon.guesses
    ]
    return Sheet("Guesses about the coins", "declared", ["right", "ε at least", "of at most", "confidence"], rows)
