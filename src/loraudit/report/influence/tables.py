"""What is predicted and what was measured, across methods and record by record, as tables."""

from __future__ import annotations

from loraudit.report.cells import Cell, cell_of
from loraudit.report.forecast.cells import rank_cell, short
from loraudit.report.influence.words import (
    FLOW_WORDS,
    agreement_of,
    measured_words,
    outcome,
    predicted_words,
)
from loraudit.report.robustness.cells import n_cell
from loraudit.report.sheets import Sheet, SheetRow
from loraudit.spec import FIT_FLOWS, FitFlow, FitPrediction, InfluenceMethod, InfluenceResult
from loraudit.types import Finding

BASELINE_WORDS = {
    "base_loss": "base loss",
    "length": "length",
    "full_self_influence": "full K(x, x)",
    "base_suffix": "base log p of the suffix",
}


def across_sheet(result: InfluenceResult) -> Sheet:
    """Own parts beside measured gaps, method by method: why some stay below others, or do not."""
    first = result.methods[0].name
    rows: list[SheetRow] = []
    for place, method in enumerate(result.methods):
        by_flow = {one.flow: one for one in method.predictions}
        against = method.against
        rows.append(
            SheetRow(
                method.name,
                [
                    Cell(f"{method.epoch:.2f}"),
                    *(_own_cell(method, by_flow.get(flow)) for flow in FIT_FLOWS),
                    _nats(by_flow["squared"].gap if "squared" in by_flow else None),
                    _nats(method.gap),
                    _nats(against.predicted.get("squared") if against else None),
                    _nats(against.measured if against else None),
                    Cell(_outcome(method)),
                    n_cell(method.gap),
                ],
                arm=place,
            )
        )
    columns = [
        "epoch",
        *(f"own part, {FLOW_WORDS[flow]}" for flow in FIT_FLOWS),
        "predicted gap, saturating",
        "measured gap",
        f"predicted own part of {first} beyond its",
        f"measured gap of {first} beyond its",
        "do they agree",
        "n, measured",
    ]
    return Sheet("Own part and measured gap, nats per token", "method", columns, rows, frozenset({7}))


def _own_cell(method: InfluenceMethod, prediction: FitPrediction | None) -> Cell:
    if method.refused is not None:
        return Cell("REFUSED")
    return _nats(prediction.own) if prediction is not None and prediction.own is not None else Cell("not reached")


def _outcome(method: InfluenceMethod) -> str:
    predicted = method.against.predicted.get("squared") if method.against else None
    return "" if predicted is None or method.against is None else outcome(predicted, method.against.measured)


def extraction_sheet(result: InfluenceResult) -> Sheet | None:
    """Extractable suffixes, predicted and measured; None where none was measured."""
    rows: list[SheetRow] = []
    for place, method in enumerate(result.methods):
        found = method.extraction
        if found is None:
            continue
        predicted = {one.flow: one for one in found.predicted}
        saturating = predicted.get("squared")
        rows.append(
            SheetRow(
                method.name,
                [
                    _tenths(found.log_p),
                    *(_tenths(predicted[flow].log_p if flow in predicted else None) for flow in FIT_FLOWS),
                    _tenths(found.held_out_log_p),
                    _share(found.share),
                    *(_share(predicted[flow].share if flow in predicted else None) for flow in FIT_FLOWS),
                    _share(found.held_out_share),
                    _share(saturating.held_out_share if saturating else None),
                    n_cell(found.share),
                    n_cell(saturating.share if saturating else None),
                ],
                arm=place,
            )
        )
    if not rows:
        return None
    base = result.base_extraction
    empty = Cell("")
    cells = [_tenths(base.get("log_p")), *[empty] * 3, _share(base.get("share")), *[empty] * 4]
    rows.append(SheetRow("base", [*cells, n_cell(base.get("share")), empty]))
    columns = [
        "log p, measured",
        *(f"log p, predicted {FLOW_WORDS[flow]}" for flow in FIT_FLOWS),
        "log p of non-members, measured",
        "extractable, measured",
        *(f"extractable, predicted {FLOW_WORDS[flow]}" for flow in FIT_FLOWS),
        "non-members, measured",
        "non-members, predicted",
        "n, measured",
        "n, predicted",
    ]
    return Sheet("Suffixes of members after training", "method", columns, rows)


def agreement_sheets(result: InfluenceResult, flow: FitFlow) -> list[Sheet]:
    """Spearman of each prediction with each measurement, beside baselines; one row per method."""
    asked: dict[tuple[str, str, str], list[str]] = {}
    for method in result.methods:
        for prediction in (*method.predictions, *(method.extraction.predicted if method.extraction else [])):
            if prediction.flow == flow:
                for one in prediction.agreements:
                    asked.setdefault((one.predicted, one.measured, one.side), list(one.baselines))
    sheets: list[Sheet] = []
    for (predicted, measured, side), baselines in asked.items():
        rows: list[SheetRow] = []
        for place, method in enumerate(result.methods):
            found = agreement_of(method, flow, predicted, measured, side)
            if found is None:
                remark = "refused" if method.refused else "nothing predicted"
                rows.append(SheetRow(method.name, [], remark, arm=place))
                continue
            others = [rank_cell(found.baselines[name]) for name in baselines]
            rows.append(SheetRow(method.name, [rank_cell(found.spearman), *others, n_cell(found.spearman)], arm=place))
        sides = "members" if side == "members" else "non-members"
        title = f"Spearman of the predicted {predicted_words(predicted)} with the measured {measured_words(measured)}"
        columns = ["prediction", *(BASELINE_WORDS.get(name, name) for name in baselines), "n"]
        sheets.append(Sheet(f"{title}, {sides}, {FLOW_WORDS[flow]}", "method", columns, rows))
    return sheets


def linearity_sheet(result: InfluenceResult) -> Sheet:
    """How far one real step of each method lies from the one that its kernel predicts."""
    steps = sorted({check.step for method in result.methods for check in method.linearity})
    rows: list[SheetRow] = []
    for place, method in enumerate(result.methods):
        by_step = {check.step: check for check in method.linearity}
        errors = [
            Cell("not taken") if (check := by_step.get(step)) is None
            else Cell("nothing moved" if check.relative_error is None else short(check.relative_error))
            for step in steps
        ]  # fmt: skip
        n = max((check.n for check in method.linearity), default=0)
        own = next((flow.own_draw_error for flow in method.predictions if flow.flow == "squared"), None)
        spreads = [
            Cell("" if error is None else shown(error))
            for error, shown in ((method.monte_carlo_error, "{:.3f}".format), (own, "{:.5f}".format))
        ]
        rows.append(
            SheetRow(
                method.name,
                [*errors, *spreads, Cell(f"{n:,}"), Cell(method.refused or "predicted")],
                arm=place,
            )
        )
    columns = [
        *(f"error at a step of {step:g}" for step in steps),
        "mean kernel over draws of A",
        "own part over draws of A",
        "n",
        "outcome",
    ]
    return Sheet("Linearity", "method", columns, rows, frozenset({len(columns) - 1}))


def left_out_sheet(result: InfluenceResult) -> Sheet | None:
    """Methods of the contrast of which nothing is said, with the reason; None where there are none."""
    rows = [SheetRow(one.name, [Cell(one.why)]) for one in result.left_out]
    return Sheet("Left out", "method", ["why"], rows, frozenset({0})) if rows else None


def _nats(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell("")
    if finding.value is None:
        return Cell("undefined", note=finding.note)
    return Cell(f"{finding.value:.4f}", _ends(finding, 4), finding.note)


def _tenths(finding: Finding | None) -> Cell:
    if finding is None or finding.value is None:
        return Cell("" if finding is None else "undefined")
    return Cell(f"{finding.value:.1f}", _ends(finding, 1), finding.note)


def _share(finding: Finding | None) -> Cell:
    return cell_of("tpr", finding)


def _ends(finding: Finding, digits: int) -> str:
    if finding.lower is None or finding.upper is None:
        return "no interval"
    return f"[{finding.lower:.{digits}f}, {finding.upper:.{digits}f}]"
