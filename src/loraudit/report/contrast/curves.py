"""Curves of training, run by run and on average."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from loraudit.spec import ArmResult, ArmRun, MeasuredPoint

Reading = Callable[[MeasuredPoint], float | None]
Point = tuple[float, float]


def of_metric(metric: str) -> Reading:
    """Reads a metric of the headline attack."""

    def read(point: MeasuredPoint) -> float | None:
        found = point.findings.get(metric)
        return None if found is None else found.value

    return read


def run_curve(run: ArmRun, x: Reading, y: Reading) -> list[Point]:
    """The checkpoints of one run at which both are known, in the order of training."""
    return [found for point in run.points if (found := _known(point, x, y)) is not None]


def mean_curve(arm: ArmResult, x: Reading, y: Reading) -> list[Point]:
    """Means over runs at the epochs at which every run has a checkpoint and both are known.

    So the line does not jump where a run stops early or diverges.
    """
    by_epoch = [{round(p.epoch, 6): _known(p, x, y) for p in run.points} for run in arm.runs]
    if not by_epoch:
        return []
    curve: list[Point] = []
    for epoch in by_epoch[0]:
        each = [found for run in by_epoch if (found := run.get(epoch)) is not None]
        if len(each) == len(by_epoch):
            curve.append((math.fsum(a for a, _ in each) / len(each), math.fsum(b for _, b in each) / len(each)))
    return curve


def lowest_validation(run: ArmRun) -> MeasuredPoint | None:
    """The checkpoint with the lowest validation loss."""
    known = [point for point in run.points if math.isfinite(point.validation_loss)]
    return min(known, key=lambda point: point.validation_loss, default=None)


def values_of(arms: Sequence[ArmResult], reading: Reading) -> list[float]:
    """All finite values of all checkpoints."""
    values = [reading(point) for arm in arms for run in arm.runs for point in run.points]
    return [value for value in values if value is not None and math.isfinite(value)]


def _known(point: MeasuredPoint, x: Reading, y: Reading) -> Point | None:
    a, b = x(point), y(point)
    if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
        return None
    return a, b
