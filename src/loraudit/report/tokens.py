"""The most exposed records token by token, where text was asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from loraudit.store.finished_runs import Run

_STEPS = (0.0, 0.5, 2.0)
"""Nats from which a token is shaded one, two and three steps."""


class ShadedRecord(NamedTuple):
    """One record as runs of equally shaded text.

    Attributes:
        id: As shown elsewhere.
        p_value: Calibrated on the non-members.
        spans: (CSS classes, text).
    """

    id: str
    p_value: float
    spans: list[tuple[str, str]]


def shaded_records(run: Run) -> list[ShadedRecord]:
    """The exposed records of a run that keeps their text; none where it keeps none."""
    records = run.result.membership.records
    if run.text is None or records is None:
        return []
    rows = {shown: row for row, shown in enumerate(run.text.column("id").to_pylist())}
    found: list[ShadedRecord] = []
    for record in records.exposed:
        if record.id in rows:
            columns = run.text.slice(rows[record.id], 1).to_pydict()
            each = zip(*(columns[name][0] for name in ("token", "is_audited", "is_error", "delta")), strict=True)
            found.append(ShadedRecord(record.id, record.p_value, _merged((_css(*of), text) for text, *of in each)))
    return found


def _css(is_audited: bool, is_error: bool, delta: float | None) -> str:
    if not is_audited:
        return "unaudited"
    names = ["error"] if is_error else []
    if delta is not None and math.isfinite(delta) and delta != 0:
        step = sum(abs(delta) > limit for limit in _STEPS)
        names.append(f"{'gain' if delta > 0 else 'loss'}{step}")
    return " ".join(names)


def _merged(spans: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(css, "".join(text for _, text in run)) for css, run in itertools.groupby(spans, key=lambda span: span[0])]
