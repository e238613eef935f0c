"""What a forecast says in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loraudit.spec import ForecastMethod, PredictedCurve
from loraudit.types import Finding

_ALWAYS = (
    "Predicted is what gradient flow of the kernel at the start would do: neither momentum, Adam's rescaling nor the "
    "change of the kernel in training is in it."
)


class Ends(NamedTuple):
    """The methods least and most hurt by an attack at its largest dose; the same one twice where only one is known.

    Attributes:
        attack: Its name.
        dose: The largest.
        least: Method and share.
        most: Method and share.
        is_success: Whether shares are of success, else of accuracy.
    """

    attack: str
    dose: float
    least: tuple[str, Finding]
    most: tuple[str, Finding]
    is_success: bool

    @property
    def measure(self) -> str:
        """What the shares are of."""
        return "attack success" if self.is_success else "accuracy"

    @property
    def is_apart(self) -> bool:
        """Whether the intervals of the two do not meet."""
        low, high = (self.least[1], self.most[1]) if self.is_success else (self.most[1], self.least[1])
        return low.upper is not None and high.lower is not None and low.upper < high.lower


def heading_of(methods: Sequence[ForecastMethod], curves: Sequence[PredictedCurve]) -> str:
    """The forecast in a few words."""
    refused = [one.name for one in methods if one.refused]
    if len(refused) == len(methods):
        return "No method is predicted: tuning this base is not linear enough"
    worst = [ends for ends in map(_ends, _by_attack(curves)) if ends is not None]
    told = "; ".join(_told(ends) for ends in worst)
    more = f" ({len(refused)} of {len(methods)} methods refused)" if refused else ""
    return (told or "No method reaches a loss at which anything can be predicted") + more


def sentence_of(
    methods: Sequence[ForecastMethod],
    curves: Sequence[PredictedCurve],
    level: float | None,
    base_loss: float,
    unit: str,
) -> str:
    """The forecast with its numbers."""
    n_refused = sum(one.refused is not None for one in methods)
    said: list[str] = []
    if level is not None:
        said.append(f"Compared where a method's clean loss is {level:.3f} {unit} ({base_loss:.3f} at the base).")
    for ends in map(_ends, _by_attack(curves)):
        if ends is not None:
            sides = [ends.most] if ends.most == ends.least else [ends.most, ends.least]
            named = ", ".join(f"{_number(found)} for {name}" for name, found in sides)
            said.append(f"{ends.attack} at dose {ends.dose:g}: predicted {ends.measure} {named}.")
    if n_refused:
        said.append(
            f"Nothing is predicted of {n_refused} of {len(methods)} methods, whose tuning is not linear enough."
        )
    return " ".join([*said, _ALWAYS])


def _told(ends: Ends) -> str:
    if ends.most == ends.least:
        name, found = ends.most
        return f"{ends.attack}: {ends.measure} of {name} is predicted to end at {100 * (found.value or 0.0):.0f} %"
    if not ends.is_apart:
        what = "be opened more" if ends.is_success else "end less accurate"
        return f"{ends.attack}: no method is predicted to {what} than another"
    if ends.is_success:
        return f"{ends.attack}: {ends.most[0]} is predicted to be opened most, {ends.least[0]} least"
    return f"{ends.attack}: {ends.most[0]} is predicted to end least accurate, {ends.least[0]} most"


def _by_attack(curves: Sequence[PredictedCurve]) -> list[list[PredictedCurve]]:
    names = dict.fromkeys(curve.attack for curve in curves)
    return [[curve for curve in curves if curve.attack == name] for name in names]


def _ends(curves: Sequence[PredictedCurve]) -> Ends | None:
    """The two ends; None where no method has a figure."""
    found: list[tuple[str, Finding]] = []
    is_success = any(curve.points[-1].attack_success is not None for curve in curves)
    for curve in curves:
        last = curve.points[-1]
        finding = last.attack_success if is_success else last.accuracy
        if finding is not None and finding.value is not None:
            found.append((curve.method, finding))
    if not found:
        return None
    ordered = sorted(found, key=lambda one: float(one[1].value or 0.0), reverse=is_success)
    return Ends(curves[0].attack, curves[0].points[-1].dose, ordered[-1], ordered[0], is_success)


def _number(finding: Finding) -> str:
    ends = ["…" if end is None else f"{100 * end:.0f}" for end in (finding.lower, finding.upper)]
    return f"{100 * (finding.value or 0.0):.0f} % [{ends[0]}, {ends[1]}]"
