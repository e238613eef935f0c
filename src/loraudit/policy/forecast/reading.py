"""Finding one's way in the curves of a forecast."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.spec import PoisonResult, PredictedCurve, PredictedPoint


def predicted_curve(curves: Sequence[PredictedCurve], attack: str, method: str) -> PredictedCurve | None:
    """The curve of this method; None where nothing is predicted of it."""
    return next((curve for curve in curves if (curve.attack, curve.method) == (attack, method)), None)


def predicted_poisoned(curve: PredictedCurve | None) -> list[PredictedPoint]:
    """The poisoned doses of a curve, the smallest first; not the clean arm."""
    points = () if curve is None else curve.points
    return sorted((point for point in points if point.dose > 0), key=lambda point: point.n_poisoned)


def clean_point(curve: PredictedCurve | None) -> PredictedPoint | None:
    """The point without any poison."""
    return next((point for point in (() if curve is None else curve.points) if point.dose == 0), None)


def largest_dose(curve: PredictedCurve | None) -> PredictedPoint | None:
    """The point with the most poison; None where there is none."""
    points = predicted_poisoned(curve)
    return points[-1] if points else None


def accuracy_lost(curve: PredictedCurve | None, point: PredictedPoint | None) -> float | None:
    """Predicted accuracy without poison minus that at a dose; None where one of them is unknown.

    Both are predicted on the same test records, so the difference is no difference of two samples; an interval of it
    cannot be made from theirs.
    """
    clean = clean_point(curve)
    if clean is None or point is None or clean.accuracy is None or point.accuracy is None:
        return None
    if clean.accuracy.value is None or point.accuracy.value is None:
        return None
    return clean.accuracy.value - point.accuracy.value


def harm_at(attack: PoisonResult, curve: PredictedCurve | None, point: PredictedPoint | None) -> float | None:
    """What the attack is there for: success of a backdoor, accuracy lost to what only degrades."""
    if attack.goal == "degrade":
        return accuracy_lost(curve, point)
    return None if point is None or point.attack_success is None else point.attack_success.value
