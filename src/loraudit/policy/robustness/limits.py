"""Limits of a robustness run: `METRIC[ATTACK][METHOD].FIELD OP NUMBER`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loraudit.policy.brackets import Bracketed, field_or_why, largest, read_bracketed, unknown_name
from loraudit.policy.conditions import Condition, outcome
from loraudit.policy.robustness.reading import Measure, curve_of, decided_match, poisoned_points
from loraudit.spec import ControlResult, DosePoint, LimitResult, PoisonResult, RobustnessMatch

ROBUSTNESS_EXAMPLE = "asr.upper95 > 0.5"
_MEASURES: Mapping[str, Measure] = {"asr": "attack_success", "accuracy_drop": "accuracy", "loss_added": "clean_loss"}
_COUNT = "n_invalid"


class Parts(Protocol):
    """What limits speak of: a `RobustnessResult`, or what stands for one before there is any."""

    @property
    def attacks(self) -> Sequence[PoisonResult]:
        """As carried out."""
        ...

    @property
    def matches(self) -> Sequence[RobustnessMatch]:
        """The first is judged, and that at which a verdict was decided."""
        ...

    @property
    def controls(self) -> Sequence[ControlResult]:
        """Of every attack on every method."""
        ...


@dataclass(frozen=True, slots=True)
class RobustnessLimit:
    """A condition under which a robustness run fails.

    Attributes:
        condition: As it was written.
        metric: asr, accuracy_drop, loss_added or n_invalid.
        attack: The only one looked at; None for all.
        method: Likewise.
        field: Such as value or upper95.
    """

    condition: Condition
    metric: str
    attack: str | None
    method: str | None
    field: str

    def check(self, parts: Parts) -> LimitResult:
        """Whether the condition is met; what was not measured, or is invalid, never passes."""
        return outcome(self.condition, self._look_up(parts))

    def _look_up(self, parts: Parts) -> float | str:
        controls = self._chosen(parts.controls)
        if isinstance(controls, str):
            return controls
        if self.metric == _COUNT:
            return float(sum(control.verdict == "invalid" for control in controls))
        measure = _MEASURES[self.metric]
        backdoors = {attack.name for attack in parts.attacks if attack.goal == "backdoor"}
        values: list[float] = []
        missing: list[str] = []
        for control in controls:
            if measure == "attack_success" and control.attack not in backdoors:
                continue  # what only degrades a model has no success to measure
            pair = f"{control.attack} on {control.method}"
            if control.verdict == "invalid":
                missing.append(f"{pair} is invalid: {' '.join(control.reasons)}")
                continue
            points = _points(parts.matches, control, measure)
            missing += [] if points else [f"{pair} has no {measure.replace('_', ' ')} at any dose"]
            for point in points:
                finding = point.finding if self.metric == "asr" else point.excess
                name = f"{self.metric} of {pair} with {point.n_poisoned:,} poisoned records"
                found = field_or_why(finding, name, self.field)
                if isinstance(found, str):
                    missing.append(found)
                else:
                    values.append(found)
        return largest(self._parts, values, missing)

    @property
    def _parts(self) -> Bracketed:
        return Bracketed(self.condition, self.metric, self.attack, self.method, self.field)

    def _chosen(self, controls: Sequence[ControlResult]) -> list[ControlResult] | str:
        """The pairs it speaks of, or why there are none."""
        problem = unknown_name(self._parts, [one.attack for one in controls], [one.method for one in controls])
        if problem is not None:
            return problem
        chosen = [
            control
            for control in controls
            if self.attack in {None, control.attack} and self.method in {None, control.method}
        ]
        return chosen or "no attack was tried on any method"


def _points(matches: Sequence[RobustnessMatch], control: ControlResult, measure: Measure) -> list[DosePoint]:
    """Poisoned doses in the first comparison, and in the one that decided the verdict where that is another."""
    first, decided = matches[0] if matches else None, decided_match(matches, control)
    looked_at = [first] if decided is first else [first, decided]
    curves = [curve_of(match, control.attack, control.method, measure) for match in looked_at]
    return [point for curve in curves for point in poisoned_points(curve)]


def parse_robustness_limit(text: str) -> RobustnessLimit:
    """A limit from its words.

    Read are the first comparison and, for a pair whose verdict was decided at another, that one too; the worse counts.
    METRIC is `asr` (the largest attack success), `accuracy_drop` and `loss_added` (the largest excess over a method's
    own clean arm) or `n_invalid` (pairs of attack and method that were not tested), over all attacks, methods and
    doses. `asr[rare_words]` and `asr[rare_words][lora:8]` restrict it to an attack and a method, named as asked for;
    `asr[*][lora:8]` to a method. FIELD is `value` (also if left out), `upper95` or `lower95`.

    Raises:
        ConfigError: It cannot be read.

    >>> parse_robustness_limit("asr[rare_words][lora:8].upper95 > 0.5").method
    'lora:8'
    """
    known = (*_MEASURES, _COUNT)
    found = read_bracketed(text, known=known, plain_numbers=(_COUNT,), example=ROBUSTNESS_EXAMPLE)
    return RobustnessLimit(found.condition, found.metric, found.attack, found.method, found.field or "value")


def judge_robustness(result: Parts, conditions: Sequence[str]) -> list[LimitResult]:
    """What became of every limit.

    Raises:
        ConfigError: A limit cannot be read.
    """
    return [parse_robustness_limit(text).check(result) for text in conditions]
