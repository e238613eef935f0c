"""Predicted against measured, one mark per record and one figure per method."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from loraudit.report.figures.scales import linear_axis
from loraudit.report.figures.scatter import ScatterPoint, scatter_figure
from loraudit.report.forecast.cells import rank_words
from loraudit.report.influence.words import agreement_of
from loraudit.spec import InfluenceMethod
from loraudit.store import InfluenceRun
from loraudit.types import BoolArray, FloatArray

_MOST_MARKS = 400


def gain_figures(run: InfluenceRun) -> list[tuple[str, str]]:
    """Caption and figure of every method: gains of members, and in grey of non-members, saturating flow."""
    return _figures(run, ("gain", "gain"), "predicted_gain_squared", "measured_gain", has_others=True)


def own_figures(run: InfluenceRun) -> list[tuple[str, str]]:
    """Caption and figure of every method: own parts of members against their measured excess."""
    return _figures(run, ("own", "excess"), "predicted_own_squared", "measured_excess_squared", has_others=False)


def _figures(run: InfluenceRun, names: tuple[str, str], x: str, y: str, *, has_others: bool) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    names_of = run.records.column("method").to_pylist()
    for place, method in enumerate(run.result.methods):
        rows = run.records.filter(pa.array([name == method.name for name in names_of]))
        if x not in rows.schema.names or np.isnan(_column(rows, x)).all():
            continue
        is_member = rows.column("is_member").to_numpy(zero_copy_only=False)
        found.append((_caption(method, names), _figure(rows, is_member, place, x, y, has_others=has_others)))
    return found


def _caption(method: InfluenceMethod, names: tuple[str, str]) -> str:
    found = agreement_of(method, "squared", *names)
    return method.name if found is None else f"{method.name}: ρ = {rank_words(found.spearman)}, members"


def _figure(rows: pa.Table, is_member: BoolArray, place: int, x: str, y: str, *, has_others: bool) -> str:
    across, up = _column(rows, x), _column(rows, y)
    shown = np.isfinite(across) & np.isfinite(up) & (is_member | has_others)
    kept: list[int] = []
    for side in (is_member, ~is_member):
        where = np.flatnonzero(shown & side)
        kept += where[np.linspace(0, len(where) - 1, min(len(where), _MOST_MARKS)).astype(int)].tolist()
    points = [ScatterPoint(float(across[i]), float(up[i]), place if is_member[i] else None) for i in kept]
    axes = [
        linear_axis(f"{words}, nats per token", min(values), max(values))
        for words, values in (
            ("predicted " + ("gain" if has_others else "own part"), [point.x for point in points]),
            ("measured " + ("gain" if has_others else "excess"), [point.y for point in points]),
        )
    ]
    others = " Grey: non-members." if has_others else ""
    return scatter_figure(
        points,
        axes[0],
        axes[1],
        title="Measured against predicted, one mark per record",
        description=f"On the dashed line both are the same.{others}",
    )


def _column(rows: pa.Table, name: str) -> FloatArray:
    return np.asarray(rows.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)
