"""What limits of every kind of run share: `PATH OP NUMBER`, and what becomes of it."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loraudit.errors import ConfigError
from loraudit.policy.words import plain
from loraudit.spec import LimitResult
from loraudit.types import Finding

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_BOUND = re.compile(r"(lower|upper)(\d+(?:_\d+)?)")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that must not hold.

    Attributes:
        text: As it was written, without needless spaces.
        path: What is measured, as it was written.
        sign: One of > >= < <=.
        bound: The number compared with.
    """

    text: str
    path: str
    sign: str
    bound: float

    def is_met_by(self, value: float) -> bool:
        """Whether this number makes the run fail."""
        return _COMPARE[self.sign](value, self.bound)


def read_condition(text: str, path: str, *, example: str) -> Condition:
    """The parts of a condition.

    Args:
        text: As a person wrote it.
        path: Regular expression of the part before the sign, without groups of its own.
        example: Shown where it cannot be read.

    Raises:
        ConfigError: It is no condition.
    """
    matched = re.fullmatch(rf"\s*({path})\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    bound = _number(matched[3]) if matched else None
    if matched is None or bound is None:
        raise ConfigError(f"Limit '{text}' cannot be read. Expected a condition such as '{example}'.")
    return Condition(" ".join(text.split()), matched[1], matched[2], bound)


def outcome(condition: Condition, found: float | str) -> LimitResult:
    """What became of a condition.

    Args:
        condition: That must not hold.
        found: The number measured, or why there is none: what was not measured never passes.
    """
    if isinstance(found, float) and math.isnan(found):
        found = f"{condition.path} is undefined"
    if isinstance(found, str):
        reason = f"{found.rstrip('.')}; what is not measured fails"
        return LimitResult(limit=condition.text, status="not_measured", measured=None, reason=reason)
    is_met = condition.is_met_by(found)
    return LimitResult(
        limit=condition.text,
        status="exceeded" if is_met else "holds",
        measured=found,
        reason=f"measured {_distinct(found, condition.bound)}, which is{'' if is_met else ' not'} {condition.sign} "
        f"{plain(condition.bound)}",
    )


def is_field(field: str) -> bool:
    """Whether it names the value of a finding or an end of its interval."""
    return field == "value" or _BOUND.fullmatch(field) is not None


def field_of(finding: Finding, name: str, field: str) -> float | str:
    """The value of a finding or an end of its interval, or why there is none.

    Args:
        finding: That is looked into.
        name: What messages call it.
        field: Such as value, upper95 or lower99_5.
    """
    if field == "value":
        return finding.note or f"{name} is undefined" if finding.value is None else finding.value
    end, level = field[:5], float(field[5:].replace("_", ".")) / 100
    if abs(level - finding.confidence) > 1e-9:
        return f"the intervals of this run are at {100 * finding.confidence:g} %, not {100 * level:g} %"
    value = finding.upper if end == "upper" else finding.lower
    return finding.note or f"{name} has no interval" if value is None else value


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """That a run has nothing of this name, with the nearest that it has."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"this run has no {kind} '{name}'" + (f" (did you mean '{nearest[0]}'?)" if nearest else "")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _distinct(value: float, other: float) -> str:
    """A number, with all its digits where a few would make it look like the other."""
    return plain(value) if value == other or plain(value) != plain(other) else repr(value)
