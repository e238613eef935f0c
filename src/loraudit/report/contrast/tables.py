"""What the attacks see of each method, as tables."""

from __future__ import annotations

from loraudit.policy import percent
from loraudit.report.cells import Cell, cell_of, is_rate, p_number, signed_cell
from loraudit.report.contrast.words import match_title, short_title, unreached
from loraudit.report.sheets import Sheet, SheetRow, number_cell
from loraudit.spec import ArmResult, ContrastResult, Match, MatchedArm, MatchedDifference, SeededFinding
from loraudit.statistics import rate_metric
from loraudit.types import Finding

_TOO_FEW = "too few non-members"


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
    return signed_cell(finding, p_value, is_rate=is_rate(metric))


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
    runs = Cell(f"{arm.n_reached} of {arm.n_reached if whole is None else len(whole.runs)}")
    losses = [] if match.kind == "validation_loss" else [number_cell(arm.validation_loss, 3)]
    cells = [seeded_cell(metric, found.get(metric)) for metric in metrics_of(result).values()]
    area = found.get("auc")
    return SheetRow(
        arm.name,
        [size, number_cell(arm.epoch, 2), *losses, *cells, runs, _n_cell(None if area is None else area.finding)],
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


def _size_cell(arm: ArmResult) -> Cell:
    share = arm.n_trained_parameters / max(1, arm.n_parameters)
    return Cell(f"{arm.n_trained_parameters:,}", f"({percent(share)})")


def _n_cell(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell("")
    n_undefined = finding.n_undefined_members + finding.n_undefined_nonmembers
    remark = f"{n_undefined:,} undefined" if n_undefined else ""
    return Cell(f"{finding.n_members:,} + {finding.n_nonmembers:,}", remark=remark)
