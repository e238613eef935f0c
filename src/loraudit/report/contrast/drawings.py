"""The figures of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from loraudit.report.contrast.curves import Reading, mean_curve, of_metric, run_curve, values_of
from loraudit.report.figures.forest import ForestRow, forest_figure
from loraudit.report.figures.labels import shortened
from loraudit.report.figures.lines import Guide, Line, Look, Measured, line_figure
from loraudit.report.figures.scales import Axis, doubling_axis, linear_axis, rate_axis
from loraudit.spec import ContrastResult, Match, MatchedArm, MeasuredPoint
from loraudit.statistics import rate_metric
from loraudit.types import Finding

WIDE, BESIDE, PANEL = (680, 460), (410, 460), (370, 340)
_PREFERRED_FPR = 0.01
_MOST_RISE = 0.6
_ROWS = "One mark per method with its interval; dashed: guessing. The axis is the same in all panels."
_LOSS = "validation loss, nats per token · better →"


def stated_fpr(result: ContrastResult) -> float | None:
    """The false-positive rate whose true-positive rate is drawn: 1 %, or the smallest that is known anywhere."""
    order = sorted(result.spec.fpr, key=lambda fpr: (fpr != _PREFERRED_FPR, fpr))
    return next((fpr for fpr in order if values_of(result.arms, of_metric(rate_metric(fpr)))), None)


def risk_figure(result: ContrastResult, size: tuple[int, int], *, fpr: float | None = None) -> str:
    """Leakage against validation loss, one line per method through its checkpoints.

    Args:
        result: Of the comparison.
        size: Width and height.
        fpr: Draw the true-positive rate at this rate instead of the AUC.
    """
    metric = "auc" if fpr is None else rate_metric(fpr)
    reading = of_metric(metric)
    match = result.match("validation_loss")
    level = None if match is None else match.level
    matched = {arm.name: _area(result, arm, metric) for arm in (match.arms if match is not None else ())}
    best = result.match("best")
    bests = {arm.name: arm for arm in (best.arms if best is not None else ())}
    lines: list[Line] = []
    for index, arm in enumerate(result.arms):
        ring = matched.get(arm.name)
        at_best = bests.get(arm.name)
        found = None if at_best is None else _area(result, at_best, metric)
        stated = [_measured(at_best.validation_loss, found)] if at_best is not None and found is not None else []
        lines.append(
            Line(
                arm.name,
                index,
                mean_curve(arm, _validation, reading),
                [run_curve(run, _validation, reading) for run in arm.runs] if len(arm.runs) > 1 else [],
                [point for point in stated if point is not None],
                [(level, ring.value)] if level is not None and ring is not None and ring.value is not None else [],
            )
        )
    x, _ = loss_range(result, n_ticks=size[0] // 75)
    values = values_of(result.arms, reading)
    chance = 0.5 if fpr is None else fpr
    headline = shortened(result.spec.headline, 24)
    title = f"AUC of {headline}" if fpr is None else f"TPR at {100 * fpr:g} % FPR"
    more = " · more leakage ↑"
    ends = [*values, *(end for line in lines for point in line.stated for end in _ends(point))]
    y = _auc_axis(title + more, ends) if fpr is None else rate_axis(f"{title} (log scale){more}", ends, fpr)
    guides = [Guide(chance, "guessing")]
    if level is not None:
        guides.append(Guide(level, f"same validation loss: {level:.3f}", is_upright=True))
    return line_figure(
        lines,
        x,
        y,
        Look(*size, most_letters=22 if size == WIDE else 14),
        title=f"{title} against validation loss, by method",
        description="Each line follows one method from the base through its checkpoints. Up is more leakage, right is "
        "a better fit. The numbers stand in the tables below.",
        guides=guides,
        origin=("base", (result.base_validation_loss, _start(result, reading, chance))),
    )


def loss_range(result: ContrastResult, *, n_ticks: int = 5) -> tuple[Axis, float | None]:
    """The reversed axis of validation loss, and the highest loss if some line leaves it.

    Where a method overfits far beyond the base, the axis ends early, so that what lies between stays readable.
    """
    values = [*values_of(result.arms, _validation), result.base_validation_loss]
    low, high = min(values), max(values)
    start = result.base_validation_loss
    limit = start + _MOST_RISE * max(start - low, 0.1)
    shown = min(high, limit)
    room = 0.04 * (shown - low)
    axis = linear_axis(_LOSS, low - room, shown + room, is_reversed=True, n_ticks=n_ticks, is_tight=True)
    return axis, high if high > axis.first else None


def leaving(result: ContrastResult) -> list[str]:
    """Methods that leave the axis of validation loss."""
    axis, _ = loss_range(result)
    return [arm.name for arm in result.arms if max(values_of([arm], _validation), default=0.0) > axis.first]


def epoch_figures(result: ContrastResult) -> list[str]:
    """AUC, validation loss and loss on the members against epochs."""
    x = linear_axis("epoch", 0, max([*values_of(result.arms, _epoch), 1.0]), n_ticks=5, is_tight=True)
    area = of_metric("auc")
    stated: dict[str, list[Measured]] = {arm.name: [] for arm in result.arms}
    for match in result.matches:
        for arm in match.arms if match.kind == "epochs" else ():
            point = _measured(match.level, _area(result, arm, "auc"))
            if point is not None and arm.name in stated:
                stated[arm.name].append(point)
    headline = shortened(result.spec.headline, 24)
    areas = [*values_of(result.arms, area), *(end for found in stated.values() for one in found for end in _ends(one))]
    panels: list[tuple[str, Reading, Axis, list[Guide]]] = [
        (f"AUC of {headline}", area, _auc_axis("", areas), [Guide(0.5, "guessing")]),
        ("Validation loss, nats per token", _validation, _range_of(values_of(result.arms, _validation)), []),
        ("Loss on the members, nats per token", _member, _range_of(values_of(result.arms, _member)), []),
    ]
    figures: list[str] = []
    for title, reading, y, guides in panels:
        lines = [
            Line(
                arm.name,
                index,
                mean_curve(arm, _epoch, reading),
                [run_curve(run, _epoch, reading) for run in arm.runs] if len(arm.runs) > 1 else [],
                stated[arm.name] if reading is area else [],
            )
            for index, arm in enumerate(result.arms)
        ]
        figures.append(
            line_figure(
                lines,
                x,
                Axis(title, y.first, y.last, y.ticks),
                Look(*PANEL, are_names_right=True, most_letters=13),
                title=f"{title} against epochs, by method",
                description="One line per method, mean over its runs; thin: single runs.",
                guides=guides,
            )
        )
    return figures


def exposure_figures(result: ContrastResult) -> list[str]:
    """AUC, and the true-positive rate, against how often a member was seen."""
    if not result.exposure:
        return []
    seen = sorted({row.exposures for row in result.exposure})
    x = doubling_axis("times seen (copies × epochs), log scale", seen)
    fpr = stated_fpr(result)
    figures: list[str] = []
    for metric, title in (("auc", "AUC"), *(((rate_metric(fpr), f"TPR at {100 * fpr:g} % FPR"),) if fpr else ())):
        points = {
            arm.name: [
                point
                for row in sorted(result.exposure, key=lambda row: row.exposures)
                if row.arm == arm.name
                and metric in row.metrics
                and (point := _measured(row.exposures, row.metrics[metric].finding)) is not None
            ]
            for arm in result.arms
        }
        values = [end for found in points.values() for point in found for end in (point.y, *_ends(point))]
        if metric == "auc":
            y, chance = _auc_axis(f"AUC of {shortened(result.spec.headline, 24)}", values), 0.5
        else:
            y, chance = rate_axis(f"{title} (log scale)", values, fpr or 0), fpr or 0
        lines = [
            Line(arm.name, index, [(p.x, p.y) for p in points[arm.name]], (), points[arm.name], is_dodged=True)
            for index, arm in enumerate(result.arms)
        ]
        figures.append(
            line_figure(
                lines,
                x,
                y,
                Look(*PANEL, are_names_right=True, most_letters=13),
                title=f"{title} against the number of times a member was seen, by method",
                description="One line per method. The numbers stand in the table below.",
                guides=[Guide(chance, "guessing")],
            )
        )
    return figures


def match_figures(result: ContrastResult, matches: Iterable[tuple[str, Match]]) -> list[str]:
    """AUC of each method with its interval, one panel per kind of match, all on one axis.

    Args:
        result: Of the comparison.
        matches: With the heading of each.
    """
    chosen = list(matches)
    places = {arm.name: index for index, arm in enumerate(result.arms)}
    ends: list[float] = [0.5]
    panels: list[tuple[str, list[ForestRow]]] = []
    for heading, match in chosen:
        rows: list[ForestRow] = []
        for arm in match.arms:
            found = _area(result, arm, "auc")
            value = None if found is None else found.value
            lower, upper = (found.lower, found.upper) if found is not None else (None, None)
            ends += [end for end in (value, lower, upper) if end is not None]
            words = f"{value:.3f}" if value is not None else "not reached" if found is None else "undefined"
            rows.append(ForestRow(arm.name, places.get(arm.name, 0), value, lower, upper, words))
        panels.append((heading, rows))
    room = 0.03 * max(max(ends) - min(ends), 0.1)
    title = f"AUC of {shortened(result.spec.headline, 20)}"
    x = linear_axis(title, min(ends) - room, max(ends) + room, n_ticks=6, is_tight=True)
    return [forest_figure(rows, x, heading=heading, chance=0.5, description=_ROWS) for heading, rows in panels]


def _area(result: ContrastResult, arm: MatchedArm, metric: str) -> Finding | None:
    found = arm.attacks.get(result.spec.headline, {}).get(metric)
    return None if found is None else found.finding


def _measured(x: float | None, found: Finding | None) -> Measured | None:
    if x is None or not math.isfinite(x) or found is None or found.value is None:
        return None
    return Measured(x, found.value, found.lower, found.upper)


def _ends(point: Measured) -> list[float]:
    """Of its interval, which the axis has to hold as well."""
    return [end for end in (point.lower, point.upper) if end is not None]


def _auc_axis(title: str, values: Sequence[float]) -> Axis:
    """From guessing to 1; lower where something, or the end of an interval, lies clearly below guessing."""
    low = min([0.5, *values])
    return linear_axis(title, 0.5 if low > 0.48 else math.floor(low * 10 - 1e-9) / 10, 1.0, n_ticks=7)


def _range_of(values: Sequence[float]) -> Axis:
    return linear_axis("", min(values, default=0.0), max(values, default=1.0))


def _start(result: ContrastResult, reading: Reading, chance: float) -> float:
    """The base on the y axis: it was not trained on the members, so it guesses where nothing was measured."""
    firsts = [reading(run.points[0]) for arm in result.arms for run in arm.runs if run.points]
    known = [value for value in firsts if value is not None]
    return math.fsum(known) / len(known) if known else chance


def _validation(point: MeasuredPoint) -> float:
    return point.validation_loss


def _member(point: MeasuredPoint) -> float:
    return point.member_loss


def _epoch(point: MeasuredPoint) -> float:
    return point.epoch
