"""Limits that speak of attacks and methods: `METRIC[ATTACK][METHOD].FIELD OP NUMBER`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from loraudit.errors import ConfigError
from loraudit.policy.conditions import Condition, field_of, is_field, read_condition, unknown
from loraudit.types import Finding

_PATH = r"\w+(?:\[[^\[\]]*\])*(?:\.\w+)?"
_PARTS = re.compile(r"(\w+)((?:\[[^\[\]]*\])*)(?:\.(\w+))?")
_ANY = "*"


class Bracketed(NamedTuple):
    """The parts of such a limit.

    Attributes:
        condition: As it was written.
        metric: One of those known.
        attack: The only one looked at; None for all.
        method: Likewise.
        field: Such as upper95; None where none was given.
    """

    condition: Condition
    metric: str
    attack: str | None
    method: str | None
    field: str | None


def read_bracketed(text: str, *, known: Sequence[str], plain_numbers: Sequence[str], example: str) -> Bracketed:
    """A limit of this form from its words.

    Args:
        text: As a person wrote it.
        known: Metrics there are.
        plain_numbers: Those among them that have no field.
        example: Shown where it cannot be read.

    Raises:
        ConfigError: It cannot be read.
    """
    condition = read_condition(text, _PATH, example=example)
    matched = _PARTS.fullmatch(condition.path)
    metric, brackets, field = matched.groups() if matched else ("", "", None)
    names = re.findall(r"\[([^\[\]]*)\]", brackets)
    problem = _problem(metric, names, field, known, plain_numbers)
    if problem:
        raise refused(text, problem, example=example)
    attack, method = (None if name == _ANY else name for name in (*names, *[_ANY] * (2 - len(names))))
    return Bracketed(condition, metric, attack, method, field)


def refused(text: str, problem: str, *, example: str) -> ConfigError:
    """The error that says what is wrong with a limit."""
    return ConfigError(f"Limit '{text}' {problem}. Expected a condition such as '{example}'.")


def unknown_name(limit: Bracketed, attacks: Iterable[str], methods: Iterable[str]) -> str | None:
    """That the run has no attack or method of the name between the brackets; None where it has."""
    for kind, name, known in (("attack", limit.attack, list(attacks)), ("method", limit.method, list(methods))):
        if name is not None and name not in known:
            return unknown(kind, name, known)
    return None


def field_or_why(finding: Finding | None, name: str, field: str) -> float | str:
    """The field of a finding, or why there is none: NaN is undefined."""
    if finding is None:
        return f"{name} is undefined"
    found = field_of(finding, name, field)
    return f"{name} is undefined" if isinstance(found, float) and math.isnan(found) else found


def largest(limit: Bracketed, values: Sequence[float], missing: Sequence[str]) -> float | str:
    """The largest number; where one is missing only if no missing one could change the outcome."""
    most = max(values, default=None)
    if most is not None and limit.condition.sign.startswith(">") and limit.condition.is_met_by(most):
        return most
    if missing:
        return missing[0] if len(missing) == 1 else f"{missing[0].rstrip('.')} (and {len(missing) - 1} more)"
    return f"nothing in this run has {limit.metric}" if most is None else most


def _problem(
    metric: str, names: Sequence[str], field: str | None, known: Sequence[str], plain_numbers: Sequence[str]
) -> str | None:
    """What is wrong with a path, as far as it can be told without a result."""
    if metric not in known:
        return f"asks for '{metric}', not {', '.join(known[:-1])} or {known[-1]}"
    if len(names) > 2:
        return "has more brackets than one attack and one method"
    if not all(names):
        return "has an empty name between brackets"
    if metric in plain_numbers and field is not None:
        return f"asks for '{field}' of {metric}, which is a plain number"
    return None if field is None or is_field(field) else f"asks for '{field}', not value, upper95 or lower95"
