"""Limits of a forecast: `METRIC[ATTACK][METHOD].FIELD OP NUMBER`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loraudit.policy.brackets import Bracketed, field_or_why, largest, read_bracketed, refused, unknown_name
from loraudit.policy.conditions import outcome
from loraudit.policy.forecast.reading import accuracy_lost, predicted_curve, predicted_poisoned
from loraudit.policy.verdict import exit_code_of
from loraudit.spec import (
    ForecastMethod,
    ForecastResult,
    LimitResult,
    PoisonResult,
    PredictedCurve,
    PredictedPoint,
)

FORECAST_EXAMPLE = "asr.value > 0.5"
_SUCCESS, _LOST, _COUNT = "asr", "accuracy_drop", "refused"


class Parts(Protocol):
    """What limits speak of: a `ForecastResult`, or what stands for one before there is any."""

    @property
    def attacks(self) -> Sequence[PoisonResult]:
        """As they would be carried out."""
        ...

    @property
    def methods(self) -> Sequence[ForecastMethod]:
        """Of the grid, those that are refused among them."""
        ...

    @property
    def curves(self) -> Sequence[PredictedCurve]:
        """Of every attack on every method that is not refused."""
        ...


@dataclass(frozen=True, slots=True)
class ForecastLimit:
    """A condition under which a forecast fails.

    Attributes:
        parts: Condition, metric (asr, accuracy_drop or refused), attack, method and field.
    """

    parts: Bracketed

    def check(self, result: Parts) -> LimitResult:
        """Whether the condition is met; what was refused, or is not reached, never passes."""
        return outcome(self.parts.condition, self._look_up(result))

    def _look_up(self, result: Parts) -> float | str:
        problem = unknown_name(self.parts, [one.name for one in result.attacks], [one.name for one in result.methods])
        if problem is not None:
            return problem
        methods = [method for method in result.methods if self.parts.method in {None, method.name}]
        if self.parts.metric == _COUNT:
            return float(sum(method.refused is not None for method in methods)) if methods else "no method was asked"
        values: list[float] = []
        missing: list[str] = []
        for attack in result.attacks:
            if self.parts.attack not in {None, attack.name}:
                continue
            if self.parts.metric == _SUCCESS and attack.goal != "backdoor":
                continue  # what only degrades a model has no success to predict
            for method in methods:
                for found in self._of_pair(result.curves, attack.name, method):
                    if isinstance(found, str):
                        missing.append(found)
                    else:
                        values.append(found)
        return largest(self.parts, values, missing)

    def _of_pair(self, curves: Sequence[PredictedCurve], attack: str, method: ForecastMethod) -> list[float | str]:
        pair = f"{attack} on {method.name}"
        if method.refused is not None:
            return [f"{pair} is refused: {method.refused}"]
        curve = predicted_curve(curves, attack, method.name)
        points = predicted_poisoned(curve)
        if not points:
            return [f"nothing is predicted of {pair}"]
        return [self._of_point(curve, point, pair) for point in points]

    def _of_point(self, curve: PredictedCurve | None, point: PredictedPoint, pair: str) -> float | str:
        name = f"{self.parts.metric} of {pair} with {point.n_poisoned:,} poisoned records"
        if point.time is None:
            return f"{name} is unknown: the clean loss is not reached"
        if self.parts.metric == _SUCCESS:
            return field_or_why(point.attack_success, name, self.parts.field or "value")
        lost = accuracy_lost(curve, point)
        return f"{name} is undefined" if lost is None or math.isnan(lost) else lost


def parse_forecast_limit(text: str) -> ForecastLimit:
    """A limit from its words.

    METRIC is `asr` (the largest predicted attack success), `accuracy_drop` (the largest predicted accuracy lost) or
    `refused` (methods of which nothing is predicted), over all attacks, methods and doses. `asr[rare_words]` and
    `asr[rare_words][lora:8]` restrict it to an attack and a method; `asr[*][lora:8]` to a method. FIELD (of `asr`)
    is `value` (also if left out), `upper95` or `lower95`.

    Raises:
        ConfigError: It cannot be read.

    >>> parse_forecast_limit("asr[rare_words][lora:8].upper95 > 0.5").parts.method
    'lora:8'
    """
    known = (_SUCCESS, _LOST, _COUNT)
    found = read_bracketed(text, known=known, plain_numbers=(_COUNT,), example=FORECAST_EXAMPLE)
    if found.metric == _LOST and found.field not in {None, "value"}:
        problem = f"asks for '{found.field}' of accuracy_drop, of which a forecast states no interval"
        raise refused(text, problem, example=FORECAST_EXAMPLE)
    if found.metric == _COUNT and found.attack is not None:
        problem = f"asks for refused of the attack '{found.attack}', but methods are refused, whatever the attack"
        raise refused(text, problem, example=FORECAST_EXAMPLE)
    return ForecastLimit(found)


def judge_forecast(result: Parts, conditions: Sequence[str]) -> list[LimitResult]:
    """What became of every limit.

    Raises:
        ConfigError: A limit cannot be read.
    """
    return [parse_forecast_limit(text).check(result) for text in conditions]


def forecast_exit_code(result: ForecastResult) -> int:
    """1 where a limit does not hold, else 0; a method that is refused alone is 0."""
    return exit_code_of(result.limits, is_partial=False)
