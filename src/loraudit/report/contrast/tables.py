"""The tables of a comparison, the same on the page, in Markdown and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from loraudit.policy import percent
from loraudit.report.cells import Cell, cell_of, is_rate, p_number, p_words
from loraudit.report.contrast.curves import lowest_validation
from loraudit.report.contrast.words import match_title, short_title, unreached
from loraudit.report.templating import words_of
from loraudit.spec import ArmResult, ArmRun, ContrastResult, Match, MatchedArm, MatchedDifference, SeededFinding
from loraudit.statistics import rate_metric
from loraudit.types import Finding

_TOO_FEW = "too few non-members"


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row.

    Attributes:
        name: What it is about.
        cells: One per column; fewer where a remark stands in their place.
        remark: Why there are no further cells.
        arm: Position of the method it is about, which its mark shows; None where it is about none or several.
        is_headline: Whether it is about the headline attack.
    """

    name: str
    cells: list[Cell]
    remark: str | None = None
    arm: int | None = None
    is_headline: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table.

    Attributes:
        title: What it holds; no two tables of a report have the same.
        first: Title of the column of names.
        columns: Titles of the others.
        rows: From top to bottom.
        words: Positions of columns that hold words rather than numbers.
    """

    title: str
    first: str
    columns: list[str]
    rows: list[SheetRow]
    words: frozenset[int] = frozenset()


def metrics_of(result: ContrastResult) -> dict[str, str]:
    """Metrics by the words above their column."""
    return {"AUC": "auc", **{f"TPR at {100 * fpr:g} % FPR": rate_metric(fpr) for fpr in result.spec.fpr}}


def seeded_cell(metric: str, seeded: SeededFinding | None) -> Cell:
    """A mean over runs, with its interval and the runs' standard deviation."""
    cell = cell_of(metric, None if seeded is None else seeded.finding)
    if cell.value == "refused":
        return Cell(cell.value, _TOO_FEW, cell.note)
    if seeded is None or seeded.finding.value is None or seeded.seed_deviation is None:
        return cell
    spread = f"{100 * seeded.seed_deviation:.2f} %" if is_rate(metric) else f"{seeded.seed_deviation:.3f}"
    return Cell(cell.value, cell.interval, cell.note, cell.false_alarms, f"sd {spread}")


def difference_cell(metric: str, finding: Finding | None, p_value: float | None) -> Cell:
    """First minus second; rates in percentage points."""
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("refused", _TOO_FEW, finding.note) if finding.method == "refused" else cell_of(metric, finding)
    factor, digits, unit = (100, 1, " points") if is_rate(metric) else (1, 3, "")

    def signed(value: float) -> str:
        return f"{round(factor * value, digits) + 0.0:+.{digits}f}"  # adding 0 takes the sign off -0.0

    interval = ""
    if finding.lower is not None and finding.upper is not None:
        interval = f"[{signed(finding.lower)}, {signed(finding.upper)}]{unit}"
    remark = "" if p_value is None else p_words(p_value)
    return Cell(f"{signed(finding.value)}{unit}", interval, finding.note, remark=remark)


def match_sheet(result: ContrastResult, match: Match) -> Sheet:
    """What the headline attack sees of each method at this fit."""
    metrics = metrics_of(result)
    loss = [] if match.kind == "validation_loss" else ["validation loss"]
    columns = ["trained parameters", "epoch", *loss, *metrics, "runs", "n"]
    rows = [_match_row(result, match, arm, position) for position, arm in enumerate(match.arms)]
    return Sheet(match_title(match), "method", columns, rows)


def overview_sheet(result: ContrastResult) -> Sheet:
    """AUC of every method in every comparison, side by side."""
    names = list(dict.fromkeys(arm.name for match in result.matches for arm in match.arms))
    rows: list[SheetRow] = []
    for position, name in enumerate(names):
        cells: list[Cell] = []
        for match in result.matches:
            arm = next((arm for arm in match.arms if arm.name == name), None)
            found = {} if arm is None else arm.attacks.get(result.spec.headline, {})
            cells.append(seeded_cell("auc", found.get("auc")) if found else Cell("not reached"))
        rows.append(SheetRow(name, cells, arm=position))
    columns = [short_title(match) for match in result.matches]
    return Sheet("AUC in every comparison", "method", columns, rows)


def _match_row(result: ContrastResult, match: Match, arm: MatchedArm, position: int) -> SheetRow:
    whole = next((one for one in result.arms if one.name == arm.name), None)
    size = Cell("") if whole is None else _size_cell(whole)
    found = arm.attacks.get(result.spec.headline, {})
    if not found:
        return SheetRow(arm.name, [size], unreached(result, arm), position)
    n_runs = result.spec.seeds if whole is None else len(whole.runs)
    runs = Cell(f"{arm.n_reached} of {n_runs}")
    losses = [] if match.kind == "validation_loss" else [_number(arm.validation_loss, 3)]
    cells = [seeded_cell(metric, found.get(metric)) for metric in metrics_of(result).values()]
    area = found.get("auc")
    return SheetRow(
        arm.name,
        [size, _number(arm.epoch, 2), *losses, *cells, runs, _n_cell(None if area is None else area.finding)],
        arm=position,
    )


def differences_sheet(result: ContrastResult, match: Match) -> Sheet:
    """All pairs of methods at this fit."""
    metrics = metrics_of(result)
    rows = [
        SheetRow(
            f"{pair.first} − {pair.second}",
            [
                *(difference_cell(m, pair.metrics.get(m), pair.p_values.get(m)) for m in metrics.values()),
                Cell("not stated" if pair.p_holm is None else p_number(pair.p_holm)),
                Cell(_reading(result, pair)),
                _n_cell(pair.metrics.get("auc")),
            ],
        )
        for pair in match.differences
    ]
    title = f"Differences: {match_title(match)[0].lower()}{match_title(match)[1:]}"
    columns = [*metrics, "p of the AUC, Holm", "which leaks more", "n"]
    return Sheet(title, "first − second", columns, rows, frozenset({len(metrics) + 1}))


def _reading(result: ContrastResult, pair: MatchedDifference) -> str:
    gap = pair.metrics.get("auc")
    if gap is None or gap.value is None:
        return "unknown"
    if pair.p_holm is None:
        return "one run each: not tested"
    if pair.p_holm >= 1 - result.spec.confidence:
        return "not told apart"
    return pair.first if gap.value > 0 else pair.second


def attack_sheets(result: ContrastResult, match: Match) -> list[Sheet]:
    """All attacks at this fit, one table per metric, methods side by side."""
    headline = result.spec.headline
    names = list(dict.fromkeys(name for arm in match.arms for name in arm.attacks))
    names.sort(key=lambda name: name != headline)
    if len(names) < 2:
        return []
    columns = [arm.name for arm in match.arms]
    return [
        Sheet(
            f"All attacks, {words}",
            "attack",
            columns,
            [
                SheetRow(
                    name,
                    [
                        seeded_cell(metric, arm.attacks.get(name, {}).get(metric))
                        if arm.attacks
                        else Cell("not reached")
                        for arm in match.arms
                    ],
                    is_headline=name == headline,
                )
                for name in names
            ],
        )
        for words, metric in metrics_of(result).items()
    ]


def exposure_sheet(result: ContrastResult) -> Sheet:
    """Leakage of the members that were seen equally often."""
    places = {arm.name: position for position, arm in enumerate(result.arms)}
    metrics = metrics_of(result)
    rows = [
        SheetRow(
            row.arm,
            [
                Cell(f"{row.exposures:,}"),
                Cell(f"{row.copies:,}"),
                *(seeded_cell(metric, row.metrics.get(metric)) for metric in metrics.values()),
                _n_cell(next((found.finding for found in row.metrics.values()), None)),
            ],
            arm=places.get(row.arm),
        )
        for row in result.exposure
    ]
    return Sheet("Leakage by exposure", "method", ["times seen", "copies", *metrics, "n"], rows)


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
        ends = [_number(last.validation_loss, 3), _number(last.member_loss, 3), area]
    epsilon = [Cell("none") if run.epsilon is None else _number(run.epsilon, 2)] if has_epsilon else []
    return [
        Cell(str(run.seed)),
        Cell(f"{run.n_steps:,}"),
        _number(None if best is None else best.validation_loss, 3),
        _number(None if best is None else best.epoch, 2),
        *ends,
        *epsilon,
        Cell(run.stopped_because or "as planned"),
        Cell(run.model),
    ]


def notes_of(result: ContrastResult) -> list[str]:
    """What single numbers come with, each once."""
    findings = [
        seeded.finding
        for match in result.matches
        for arm in match.arms
        for metrics in arm.attacks.values()
        for seeded in metrics.values()
    ]
    findings += [found for match in result.matches for pair in match.differences for found in pair.metrics.values()]
    findings += [seeded.finding for row in result.exposure for seeded in row.metrics.values()]
    return list(dict.fromkeys(found.note for found in findings if found.note))


def plain_rows(sheet: Sheet) -> list[list[str]]:
    """Rows as words: names first, number, interval and remark of a cell in one line."""
    return [
        [row.name, *map(cell_words, row.cells), *_remark(row, len(sheet.columns) - len(row.cells))]
        for row in sheet.rows
    ]


def cell_words(cell: Cell) -> str:
    """A cell in one line."""
    if cell.value == "refused":
        return f"refused: {cell.interval}"
    whole = " ".join(part for part in (cell.value, cell.interval) if part)
    return ", ".join(part for part in (whole, cell.false_alarms, cell.remark) if part)


def short_sheet(sheet: Sheet, left_out: Container[str]) -> Sheet:
    """Without some columns, and without what stands below the interval."""
    kept = [position for position, title in enumerate(sheet.columns) if title not in left_out]
    rows = [
        replace(row, cells=[replace(row.cells[k], remark="", false_alarms="") for k in kept if k < len(row.cells)])
        for row in sheet.rows
    ]
    words = frozenset(kept.index(position) for position in sheet.words if position in kept)
    return replace(sheet, columns=[sheet.columns[k] for k in kept], rows=rows, words=words)


def _remark(row: SheetRow, n_empty: int) -> Sequence[str]:
    return [row.remark or "", *[""] * (n_empty - 1)] if n_empty else []


def _size_cell(arm: ArmResult) -> Cell:
    share = arm.n_trained_parameters / max(1, arm.n_parameters)
    return Cell(f"{arm.n_trained_parameters:,}", f"({percent(share)})")


def _n_cell(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell("")
    n_undefined = finding.n_undefined_members + finding.n_undefined_nonmembers
    remark = f"{n_undefined:,} undefined" if n_undefined else ""
    return Cell(f"{finding.n_members:,} + {finding.n_nonmembers:,}", remark=remark)


def _power(value: float) -> str:
    """0.0003 as "3e-4", so that rates of all sizes read alike."""
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def _number(value: float | None, digits: int) -> Cell:
    if value is None:
        return Cell("unknown")
    return Cell(f"{value:.{digits}f}" if math.isfinite(value) else "not finite")
