"""Figures of one audit: how well an attack tells members, and what its scores look like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from loraudit.report.figures.canvas import Canvas, percent_tick
from loraudit.report.figures.labels import width_of
from loraudit.statistics import roc_curve
from loraudit.types import BoolArray, FloatArray

_SMALLEST_AXIS = 1e-4
_N_BINS = 40
_CENTRAL_SHARE = 0.99


def roc_figure(
    scores: Mapping[str, FloatArray], is_member: BoolArray, headline: str, *, compared: Sequence[str] = ()
) -> str:
    """ROC curves on logarithmic axes; what the sample cannot resolve is shaded.

    Args:
        scores: [N] per attack, NaN = undefined.
        is_member: [N].
        headline: Drawn thick.
        compared: Further attacks, drawn thin.
    """
    n_nonmembers = int((~is_member).sum())
    smallest = max(_SMALLEST_AXIS, 10 ** math.floor(math.log10(1 / max(n_nonmembers, 2))))
    canvas = Canvas(
        560,
        420,
        f"ROC curve of {headline}, logarithmic axes",
        "True-positive rate against false-positive rate; the dashed line is guessing.",
        left=72,  # the longest tick, "0.01 %", ends beside the title of the axis
    )

    def place(rate: float) -> float:
        return 1 - math.log10(max(rate, smallest)) / math.log10(smallest)

    canvas.rectangle(0, 0, place(1 / max(n_nonmembers, 1)), 1, "unresolved")
    for power in range(round(math.log10(smallest)), 1):
        rate = 10.0**power
        label = f"{100 * rate:g} %"
        canvas.line([(place(rate), 0), (place(rate), 1)], "grid")
        canvas.line([(0, place(rate)), (1, place(rate))], "grid")
        canvas.text(canvas.x(place(rate)), canvas.y(0) + 16, label, "tick")
        canvas.text(canvas.left - 6, canvas.y(place(rate)) + 4, label, "tick", "end")
    canvas.line([(place(smallest), place(smallest)), (1, 1)], "chance")
    names = [*(name for name in compared if name != headline), headline]
    for position, name in enumerate(names):
        values = scores[name]
        is_defined = ~np.isnan(values)
        members, nonmembers = values[is_defined & is_member], values[is_defined & ~is_member]
        if not len(members) or not len(nonmembers):
            continue
        curve = roc_curve(members, nonmembers)
        points = _steps([place(f) for f in curve.fpr], [place(t) for t in curve.tpr])
        css = "curve headline" if name == headline else f"curve other-{position % 4}"
        canvas.line(points, css)
    for row, name in enumerate(reversed(names)):
        css = "curve headline" if name == headline else f"curve other-{(len(names) - 1 - row) % 4}"
        y = 0.30 - 0.052 * row
        canvas.line([(0.60, y), (0.66, y)], css)
        canvas.text(canvas.x(0.675), canvas.y(y) + 4, name, "tick", "start")
    canvas.axes("false-positive rate", "true-positive rate")
    return canvas.svg()


def _steps(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """Points of a curve without those that would fall on the same pixel."""
    kept: list[tuple[float, float]] = []
    for point in zip(x, y, strict=True):
        if not kept or abs(point[0] - kept[-1][0]) > 0.002 or abs(point[1] - kept[-1][1]) > 0.002:
            kept.append(point)
    return [*kept, (x[-1], y[-1])]


def histogram_figure(name: str, values: FloatArray, is_member: BoolArray, *, small: bool = False) -> str:
    """Scores of members and non-members; the outermost 1 % is gathered in the end bins."""
    is_defined = ~np.isnan(values)
    if not is_defined.any():
        return ""
    finite = values[is_defined & np.isfinite(values)]
    tail = (1 - _CENTRAL_SHARE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail]) if len(finite) else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    n_bins = _N_BINS // 2 if small else _N_BINS
    edges = np.linspace(low, high, n_bins + 1)
    width, height = (280, 170) if small else (560, 420)
    canvas = Canvas(
        width,
        height,
        f"Scores of {name}",
        "Share of members and of non-members per bin; the outermost 1 % is in the end bins.",
        left=40 if small else 52,
        top=12 if small else 34,
        bottom=34 if small else 42,
    )
    shares: dict[str, FloatArray] = {}
    for side, where in (("nonmember", ~is_member), ("member", is_member)):
        chosen = np.clip(values[is_defined & where], low, high)
        counts, _ = np.histogram(chosen, bins=edges)
        shares[side] = counts / max(1, len(chosen))
    top = max(float(share.max()) for share in shares.values()) or 1.0
    for side, share in shares.items():
        for i, value in enumerate(share):
            if value > 0:
                canvas.rectangle(i / n_bins, 0, (i + 1) / n_bins, float(value) / top * 0.96, f"bar {side}")
    for share_of_axis in (0.0, 0.5, 1.0):
        value = low + share_of_axis * (high - low)
        canvas.text(canvas.x(share_of_axis), canvas.y(0) + 15, f"{value:.3g}", "tick")
    canvas.text(canvas.left - 5, canvas.y(0.96) + 4, percent_tick(top), "tick", "end")
    canvas.axes(f"score of {name}", "" if small else "share of the side")
    if not small:
        x = float(canvas.left)
        for side, words in (("member", "members"), ("nonmember", "non-members")):
            canvas.path(f"M{x},10h15v11h-15z", f"bar {side}")  # above the bars, whatever their height
            canvas.text(x + 20, 20, words, "tick", "start")
            x += 20 + round(width_of(words)) + 16
    return canvas.svg()
