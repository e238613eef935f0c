"""Finding one's way in the curves of a robustness run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from loraudit.spec import ControlResult, Curve, DosePoint, PoisonResult, RobustnessMatch

Measure = Literal["accuracy", "clean_loss", "f1", "attack_success", "partial"]


def decided_match(matches: Sequence[RobustnessMatch], control: ControlResult) -> RobustnessMatch | None:
    """The comparison that a verdict was read from; None where there is none."""
    wanted = control.decided_at
    return next((match for match in matches if wanted is None or match.kind == wanted), None)


def curve_of(match: RobustnessMatch | None, attack: str, method: str, measure: str) -> Curve | None:
    """The curve of this measure; None where there is none."""
    wanted = (attack, method, measure)
    curves = () if match is None else match.curves
    return next((curve for curve in curves if (curve.attack, curve.method, curve.measure) == wanted), None)


def judged_measure(attack: PoisonResult, match: RobustnessMatch | None) -> Measure:
    """What shows whether the attack worked: its success, or what it costs on clean records.

    The cost is counted in accuracy; of language models, which have none, in loss.
    """
    if attack.goal == "backdoor":
        return "attack_success"
    has_accuracy = match is not None and any(curve.measure == "accuracy" for curve in match.curves)
    return "accuracy" if has_accuracy else "clean_loss"


def poisoned_points(curve: Curve | None) -> list[DosePoint]:
    """The poisoned doses of a curve, the smallest first; not the clean arm."""
    points = () if curve is None else curve.points
    return sorted((point for point in points if point.dose > 0), key=lambda point: point.n_poisoned)


def point_at(curve: Curve | None, dose: float) -> DosePoint | None:
    """The point of this dose; 0 is the clean arm."""
    points = () if curve is None else curve.points
    return next((point for point in points if point.dose == dose), None)
