"""Limits that a result must not exceed, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from loraudit.errors import ConfigError
from loraudit.policy.conditions import Condition, field_of, is_field, outcome, read_condition, unknown
from loraudit.policy.memorization import look_up_memorization, memorization_problem
from loraudit.spec import (
    FusionResult,
    LimitResult,
    MembershipResult,
    MemorizationResult,
    ValidityResult,
    read_spec_file,
)
from loraudit.types import Finding

_PATH = r"[\w.]+"
FUSION = "fusion"
"""What stands in a path where the name of an attack does, for all attacks as one."""
EXAMPLE = "membership.tpr_at_fpr_1pct.upper95 > 0.05"


class Measured(Protocol):
    """What limits speak of: an `AuditResult`, or what stands for one before there is any."""

    @property
    def membership(self) -> MembershipResult:
        """What the attacks found."""
        ...

    @property
    def validity(self) -> ValidityResult | None:
        """What the gates found."""
        ...

    @property
    def memorization(self) -> MemorizationResult | None:
        """What can be pulled out."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """A condition under which the audit fails.

    Attributes:
        text: As it was written.
        path: Such as ("membership", "tpr_at_fpr_1pct", "upper95").
        sign: One of > >= < <=.
        bound: The number compared with.
    """

    text: str
    path: tuple[str, ...]
    sign: str
    bound: float

    def check(self, result: Measured) -> LimitResult:
        """Whether the condition is met; what was not measured never passes."""
        condition = Condition(self.text, ".".join(self.path), self.sign, self.bound)
        return outcome(condition, _look_up(self.path, result))


def parse_limit(text: str) -> Limit:
    """A limit from its words.

    `membership.METRIC.FIELD OP NUMBER` speaks of the headline attack, `membership.ATTACK.METRIC.FIELD` of another;
    FIELD is `value`, `upper95` or `lower95` (the ends of the two-sided 95 % interval). Further:
    `membership.fusion.METRIC.FIELD` (all attacks as one), `membership.records.n_exposed`,
    `membership.dataset_test.p_mann_whitney`, `validity.n_failed`, `validity.GATE.failed` (0 or 1), and
    `validity.headline_minus_blind.METRIC.FIELD`. `validity.n_failed` counts gates that failed; to insist that one was
    measured, name it. `memorization.MEASURE.FIELD` and `memorization.MEASURE.PART.FIELD` speak of what can be pulled
    out (`loraudit.policy.memorization`).

    Raises:
        ConfigError: It cannot be read.

    >>> parse_limit("membership.auc.upper95 > 0.6").path
    ('membership', 'auc', 'upper95')
    """
    condition = read_condition(text, _PATH, example=EXAMPLE)
    path = tuple(condition.path.split("."))
    problem = _problem(path)
    if problem:
        raise ConfigError(f"Limit '{text}' {problem}. Expected a condition such as '{EXAMPLE}'.")
    return Limit(condition.text, path, condition.sign, condition.bound)


def read_policy(path: str, *, example: str = EXAMPLE) -> list[str]:
    """The limits of a policy file: a list under `fail-on`.

    Args:
        path: Of the file.
        example: A limit of the kind of run it is for, shown where it holds none.

    Raises:
        ConfigError: The file cannot be read or holds something else.
    """
    keys = read_spec_file(Path(path), kind="Policy")
    limits: object = keys.pop("fail_on", None)
    if keys:
        raise ConfigError(f"Policy file '{path}' holds unknown keys: {', '.join(sorted(keys))}. Expected fail-on.")
    listed = [limits] if isinstance(limits, str) else limits
    named = cast("list[str]", listed) if isinstance(listed, list) else []
    if not named or not all(isinstance(limit, str) for limit in cast("list[object]", named)):
        raise ConfigError(f"Policy file '{path}' holds no limits. Expected: fail-on = [\"{example}\"]")
    return named


_RECORDS = ("n_exposed",)
_DATASET_TEST = ("p_mann_whitney", "p_welch", "n_to_detect")


def _problem(path: tuple[str, ...]) -> str | None:
    """What is wrong with a path, as far as it can be told without a result."""
    area, *rest = path
    if area not in {"membership", "memorization", "validity"}:
        return f"begins with '{area}', not with membership, memorization or validity"
    if path == ("validity", "n_failed"):
        return None
    if not all(path):
        return "has an empty name between dots"
    if area == "memorization":
        return memorization_problem(rest)
    is_corrected = area == "validity" and rest[:1] == ["headline_minus_blind"]
    if area == "validity" and not is_corrected:
        known = "n_failed, GATE.failed, headline_minus_blind.METRIC.FIELD"
        return None if len(rest) == 2 and rest[1] == "failed" else f"names nothing that is measured; known: {known}"
    if area == "membership" and rest[:1] in (["records"], ["dataset_test"]):
        known = _RECORDS if rest[0] == "records" else _DATASET_TEST
        return None if len(rest) == 2 and rest[1] in known else f"asks {rest[0]} for none of {', '.join(known)}"
    if len(rest) not in ({3} if is_corrected else {2, 3}):
        return "does not name a metric and its field"
    field = rest[-1]
    return None if is_field(field) else f"asks for '{field}', not value, upper95 or lower95"


def _look_up(path: tuple[str, ...], result: Measured) -> float | str:
    """The number a path leads to, or why there is none."""
    area, *rest = path
    if area == "memorization":
        return look_up_memorization(rest, result.memorization)
    return _validity(rest, result) if area == "validity" else _membership(rest, result)


def _validity(rest: list[str], result: Measured) -> float | str:
    if result.validity is None:
        return "this run has no validity gates"
    if rest == ["n_failed"]:
        return float(len(result.validity.failed))
    if rest[0] == "headline_minus_blind":
        if not result.validity.headline_minus_blind:
            return "no gate failed, so the headline is not corrected"
        return _field(rest[1:], result.validity.headline_minus_blind)
    gates = {gate.name: gate for gate in result.validity.gates}
    gate = gates.get(rest[0])
    if gate is None:
        return unknown("gate", rest[0], gates)
    return gate.reason if gate.status == "not_measured" else float(gate.status == "failed")


def _membership(rest: list[str], result: Measured) -> float | str:
    membership = result.membership
    if rest[0] in {"records", "dataset_test"}:
        holder = getattr(membership, rest[0])
        value = None if holder is None else getattr(holder, rest[1])
        return f"{rest[0]}.{rest[1]} is undefined" if value is None else float(value)
    if len(rest) == 3 and rest[0] == FUSION:
        return _fused(rest[1:], membership.fusion)
    name, rest = (rest[0], rest[1:]) if len(rest) == 3 else (membership.headline, rest)
    attacks = {attack.name: attack for attack in membership.attacks}
    if name not in attacks:
        return unknown("attack", name, attacks)
    if attacks[name].status != "ok":
        return f"the attack {name} is {attacks[name].status.replace('_', ' ')}: {attacks[name].reason}"
    return _field(rest, attacks[name].findings)


def _fused(rest: list[str], fusion: FusionResult | None) -> float | str:
    if fusion is None:
        return "the scores of this run were not fused"
    return _field(rest, fusion.findings) if fusion.reason is None else f"the scores were not fused: {fusion.reason}"


def _field(rest: list[str], findings: dict[str, Finding]) -> float | str:
    metric, field = rest
    if metric not in findings:
        return unknown("metric", metric, findings)
    return field_of(findings[metric], metric, field)
