"""Limits of a robustness run: `METRIC[ATTACK][METHOD].FIELD OP NUMBER`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loraudit.errors import ConfigError
from loraudit.policy.conditions import Condition, field_of, is_field, outcome, read_condition, unknown
from loraudit.policy.robustness.reading import Measure, curve_of, decided_match, poisoned_points
from loraudit.spec import ControlResult, DosePoint, LimitResult, PoisonResult, RobustnessMatch
from loraudit.types import Finding

ROBUSTNESS_EXAMPLE = "asr.upper95 > 0.5"
_PATH = r"\w+(?:\[[^\[\]]*\])*(?:\.\w+)?"
_PARTS = re.compile(r"(\w+)((?:\[[^\[\]]*\])*)(?:\.(\w+))?")
_ANY = "*"
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
                found = self._field(point.finding if self.metric == "asr" else point.excess, pair, point.n_poisoned)
                if isinstance(found, str):
                    missing.append(found)
                else:
                    values.append(found)
        return self._largest(values, missing)

    def _field(self, finding: Finding | None, pair: str, n_poisoned: int) -> float | str:
        name = f"{self.metric} of {pair} with {n_poisoned:,} poisoned records"
        if finding is None:
            return f"{name} is undefined"
        found = field_of(finding, name, self.field)
        return f"{name} is undefined" if isinstance(found, float) and math.isnan(found) else found

    def _largest(self, values: Sequence[float], missing: Sequence[str]) -> float | str:
        """The largest number; where one is missing only if no missing one could change the outcome."""
        largest = max(values, default=None)
        if largest is not None and self.condition.sign.startswith(">") and self.condition.is_met_by(largest):
            return largest
        if missing:
            return missing[0] if len(missing) == 1 else f"{missing[0].rstrip('.')} (and {len(missing) - 1} more)"
        return f"nothing in this run has {self.metric}" if largest is None else largest

    def _chosen(self, controls: Sequence[ControlResult]) -> list[ControlResult] | str:
        """The pairs it speaks of, or why there are none."""
        for kind, name, known in (
            ("attack", self.attack, [control.attack for control in controls]),
            ("method", self.method, [control.method for control in controls]),
        ):
            if name is not None and name not in known:
                return unknown(kind, name, known)
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
    condition = read_condition(text, _PATH, example=ROBUSTNESS_EXAMPLE)
    matched = _PARTS.fullmatch(condition.path)
    metric, brackets, field = matched.groups() if matched else ("", "", None)
    names = re.findall(r"\[([^\[\]]*)\]", brackets)
    problem = _problem(metric, names, field)
    if problem:
        raise ConfigError(f"Limit '{text}' {problem}. Expected a condition such as '{ROBUSTNESS_EXAMPLE}'.")
    attack, method = (None if name == _ANY else name for name in (*names, *[_ANY] * (2 - len(names))))
    return RobustnessLimit(condition, metric, attack, method, field or "value")


def judge_robustness(result: Parts, conditions: Sequence[str]) -> list[LimitResult]:
    """What became of every limit.

    Raises:
        ConfigError: A limit cannot be read.
    """
    return [parse_robustness_limit(text).check(result) for text in conditions]


def _problem(metric: str, names: Sequence[str], field: str | None) -> str | None:
    """What is wrong with a path, as far as it can be told without a result."""
    known = (*_MEASURES, _COUNT)
    if metric not in known:
        return f"asks for '{metric}', not {', '.join(known[:-1])} or {known[-1]}"
    if len(names) > 2:
        return "has more brackets than one attack and one method"
    if not all(names):
        return "has an empty name between brackets"
    if metric == _COUNT and field is not None:
        return f"asks for '{field}' of {_COUNT}, which is a plain number"
    return None if field is None or is_field(field) else f"asks for '{field}', not value, upper95 or lower95"
