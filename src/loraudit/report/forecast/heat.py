"""LoRAs as heat maps: ranks from left to right, variance, alpha or targets from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from loraudit.policy.forecast import accuracy_lost, largest_dose, predicted_curve
from loraudit.report.figures.heat import HeatCell, Tones, heat_figure
from loraudit.report.forecast.cells import short
from loraudit.report.forecast.grid import Panel, panels
from loraudit.report.robustness.words import poisoned_words
from loraudit.spec import ForecastMethod, ForecastResult, PoisonResult

_LEAST_LOSS = 0.1  # accuracy lost of the darkest tone, at least
_DASHED = " A dashed cell has no number: the method is refused, or its number is unknown."


class HeatMap(NamedTuple):
    """One number over the whole grid.

    Attributes:
        title: What it is.
        figures: One per panel: its caption, and SVG with the same tones.
    """

    title: str
    figures: list[tuple[str, str]]


def harm_maps(result: ForecastResult) -> list[HeatMap]:
    """Accuracy lost, and success of backdoors, at the largest dose of every attack."""
    found: list[HeatMap] = []
    losses = [lost for curve in result.curves if (lost := accuracy_lost(curve, largest_dose(curve))) is not None]
    of_losses = Tones(0.0, max([_LEAST_LOSS, *losses]))  # the same for all attacks, so that tones can be compared
    for attack in result.attacks:
        if not attack.doses:
            continue
        dose = poisoned_words(attack.n_poisoned[-1], attack.doses[-1])
        if attack.goal == "backdoor":
            title = f"{attack.name}, {dose} poisoned: predicted attack success, %"
            found += _map(result, title, partial(_success, result, attack), Tones(0.0, 1.0))
        title = f"{attack.name}, {dose} poisoned: predicted accuracy lost, points"
        found += _map(result, title, partial(_lost, result, attack), of_losses)
    return found


def kernel_maps(result: ForecastResult) -> list[HeatMap]:
    """Speed and shape."""
    loras = [method for method in result.methods if method.rank is not None]
    traces = [method.shape.trace for method in loras if method.shape.trace > 0]
    tones = Tones(min(traces), max(traces), is_log=True) if traces else None
    speed = _map(result, "Speed: trace", _trace, tones)
    return [*speed, *_map(result, "Shape: effective rank", _effective_rank, None)]


def _map(
    result: ForecastResult, title: str, cell_of: Callable[[ForecastMethod], HeatCell], tones: Tones | None
) -> list[HeatMap]:
    """One map, or none where no method has a number."""
    grid = panels(result.methods)
    cells = [
        [[HeatCell(None, "") if one is None else cell_of(one) for one in row] for row in panel.cells] for panel in grid
    ]
    values = [cell.value for panel in cells for row in panel for cell in row if cell.value is not None]
    if not values:
        return []
    tones = tones or Tones(min(0.0, *values), max(values))
    figures = [_figure(title, panel, rows, tones) for panel, rows in zip(grid, cells, strict=True)]
    return [HeatMap(title, figures)]


def _figure(title: str, panel: Panel, cells: Sequence[Sequence[HeatCell]], tones: Tones) -> tuple[str, str]:
    caption = f"{title} ({panel.title})" if panel.title else title
    figure = heat_figure(
        cells,
        panel.rows,
        [str(rank) for rank in panel.ranks],
        tones,
        title=caption,
        row_title=panel.row_title,
        column_title="rank",
        description=f"Ranks from left to right, {panel.row_title} from top to bottom; darker is more.{_DASHED}",
    )
    return caption, figure


def _success(result: ForecastResult, attack: PoisonResult, method: ForecastMethod) -> HeatCell:
    if method.refused is not None:
        return HeatCell(None, "refused")
    point = largest_dose(predicted_curve(result.curves, attack.name, method.name))
    finding = None if point is None else point.attack_success
    if finding is None or finding.value is None:
        return HeatCell(None, "unknown")
    between = (
        "" if finding.lower is None or finding.upper is None else f"{_whole(finding.lower)}–{_whole(finding.upper)}"
    )
    return HeatCell(finding.value, _whole(finding.value), between)


def _lost(result: ForecastResult, attack: PoisonResult, method: ForecastMethod) -> HeatCell:
    if method.refused is not None:
        return HeatCell(None, "refused")
    curve = predicted_curve(result.curves, attack.name, method.name)
    lost = accuracy_lost(curve, largest_dose(curve))
    return HeatCell(None, "unknown") if lost is None else HeatCell(lost, f"{round(100 * lost, 1) + 0.0:.1f}")


def _trace(method: ForecastMethod) -> HeatCell:
    trace = method.shape.trace
    return HeatCell(trace if trace > 0 else None, short(trace))


def _effective_rank(method: ForecastMethod) -> HeatCell:
    found = method.shape.effective_rank
    known = found is not None and math.isfinite(found)
    return HeatCell(found, short(found)) if known and found is not None else HeatCell(None, "unknown")


def _whole(share: float) -> str:
    return f"{100 * share:.0f}"
