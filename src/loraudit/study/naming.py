"""What every figure of a result is called, wherever it stands: `membership/error_zone/auc`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from loraudit.spec import (
    ArmResult,
    ArmRun,
    AttackResult,
    ContrastResult,
    ControlResult,
    CopiesRow,
    Curve,
    DetectionResult,
    DosePoint,
    DoseRatio,
    EffectiveDose,
    ExposureRow,
    FieldKind,
    ForecastMethod,
    ForecastResult,
    FusionPart,
    Gate,
    GeneratedPoint,
    GreedyPoint,
    Match,
    MatchedArm,
    MatchedDifference,
    MeasuredComparison,
    MeasuredPoint,
    MembershipResult,
    MethodDifference,
    NearPoint,
    PersistenceResult,
    PoisonedPoint,
    PoisonedRun,
    PredictedCurve,
    PredictedPoint,
    RecordsResult,
    RobustnessMatch,
    RobustnessResult,
    SampledPoint,
    SeededFinding,
    Strength,
    Subgroup,
    TwinsResult,
    ValidityResult,
)
from loraudit.types import Finding

_SHOWN_AS: Mapping[tuple[type[BaseModel], str], str] = {
    (AttackResult, "findings"): "",
    (ArmResult, "runs"): "",
    (ArmRun, "points"): "",
    (ContrastResult, "arms"): "training",
    (ContrastResult, "matches"): "",
    (Curve, "points"): "",
    (DosePoint, "finding"): "",
    (DoseRatio, "finding"): "",
    (EffectiveDose, "finding"): "",
    (ExposureRow, "metrics"): "",
    (ForecastResult, "comparisons"): "measured",
    (ForecastResult, "curves"): "predicted",
    (ForecastResult, "methods"): "kernels",
    (Gate, "finding"): "",
    (GreedyPoint, "extracted"): "",
    (Match, "arms"): "",
    (MatchedArm, "attacks"): "",
    (MatchedDifference, "metrics"): "",
    (MeasuredPoint, "findings"): "",
    (MembershipResult, "attacks"): "",
    (MethodDifference, "finding"): "",
    (PoisonedRun, "points"): "",
    (PredictedCurve, "points"): "",
    (RecordsResult, "subgroups"): "",
    (RobustnessMatch, "curves"): "",
    (RobustnessMatch, "dose_ratios"): "ratios",
    (RobustnessMatch, "effective_doses"): "",
    (RobustnessResult, "matches"): "",
    (RobustnessResult, "runs"): "training",
    (SampledPoint, "extracted"): "",
    (SeededFinding, "finding"): "",
    (Strength, "mean"): "",
    (ValidityResult, "gates"): "",
}
"""Fields whose own name would say nothing new, or something else than a reader of the name looks for."""


def part(words: object) -> str:
    """Words of a person as one part of a name: a slash of their own cannot end it.

    >>> part("lora:rank=8"), part("a/b 50%")
    ('lora:rank=8', 'a%2Fb 50%25')
    """
    return str(words).replace("%", "%25").replace("/", "%2F")


def number(value: float) -> str:
    """A setting as it stands in names.

    >>> number(8.0), number(0.05), number(1e-05)
    ('8', '0.05', '1e-05')
    """
    return f"{value:.12g}"


def match_name(match: Match | RobustnessMatch, earlier: list[Match] | list[RobustnessMatch]) -> str:
    """Under which fit methods are compared.

    The level of a loss is measured, and other in every cell and by every seed. It is therefore part of the name only
    where an earlier comparison of the result is of the same kind; a number of epochs is asked for and always is.

    Args:
        match: One comparison.
        earlier: Those that stand before it in the result.
    """
    if match.level is None:
        return match.kind
    if match.kind == "epochs":
        return f"epochs={number(match.level)}"
    is_first = all(one.kind != match.kind for one in earlier)
    return match.kind if is_first else f"{match.kind}={match.level:.3f}"


def _run_name(run: PoisonedRun) -> str:
    if run.attack is None:
        return f"{part(run.method)}/clean/seed={run.seed}"
    control = "control/" if run.is_control else ""
    return f"{part(run.method)}/{part(run.attack)}/{control}dose={number(run.dose)}/seed={run.seed}"


_ITEM_NAMES: Mapping[type[BaseModel], Callable[[Any], str]] = {
    ArmResult: lambda one: part(one.name),
    ArmRun: lambda one: f"seed={one.seed}",
    AttackResult: lambda one: part(one.name),
    ControlResult: lambda one: f"{part(one.method)}/{part(one.attack)}",
    CopiesRow: lambda one: part(one.copies),
    Curve: lambda one: f"{part(one.method)}/{one.measure}/{part(one.attack)}",
    DetectionResult: lambda one: (
        f"{part(one.method)}/{part(one.attack)}/{part(one.detector)}/{one.finds.replace(' ', '_')}/n={one.n_poisoned}"
    ),
    DosePoint: lambda one: f"dose={number(one.dose)}",
    DoseRatio: lambda one: f"{part(one.first)} over {part(one.second)}/ED{number(100 * one.share)}/{part(one.attack)}",
    EffectiveDose: lambda one: f"{part(one.method)}/ED{number(100 * one.share)}/{part(one.attack)}",
    ExposureRow: lambda one: f"{part(one.arm)}/exposures={one.exposures}/copies={one.copies}",
    FieldKind: lambda one: part(one.kind),
    ForecastMethod: lambda one: part(one.name),
    FusionPart: lambda one: part(one.name),
    Gate: lambda one: part(one.name),
    GeneratedPoint: lambda one: f"{part(one.decoding)}/prefix={one.prefix}",
    GreedyPoint: lambda one: f"prefix={one.prefix}",
    MatchedArm: lambda one: part(one.name),
    MatchedDifference: lambda one: f"{part(one.first)} vs {part(one.second)}",
    MeasuredComparison: lambda one: one.measure,
    MeasuredPoint: lambda one: f"step={one.step}",
    MethodDifference: lambda one: (
        f"{part(one.first)} vs {part(one.second)}/{part(one.measure)}/{part(one.attack)}/dose={number(one.dose)}"
    ),
    NearPoint: lambda one: f"prefix={one.prefix}/{part(one.decoding)}/{one.metric}={one.budget}",
    PersistenceResult: lambda one: f"{part(one.method)}/{part(one.attack)}/{one.after}/dose={number(one.dose)}",
    PoisonedPoint: lambda one: f"step={one.step}",
    PoisonedRun: _run_name,
    PredictedCurve: lambda one: f"{part(one.method)}/{part(one.attack)}",
    PredictedPoint: lambda one: f"dose={number(one.dose)}",
    SampledPoint: lambda one: (
        f"prefix={one.prefix}/top_k={one.top_k}/temperature={number(one.temperature)}/n={one.n}/p={number(one.p)}"
    ),
    Strength: lambda one: one.name,
    Subgroup: lambda one: f"{part(one.by)}={part(one.name)}",
    TwinsResult: lambda one: part(one.attack),
}
"""By what an item of a list is known among its neighbours."""


def named_findings(result: BaseModel) -> Iterator[tuple[str, Finding]]:
    """Every figure of a result, each once, under a name of its own; in the order of the result.

    Names are made of what figures are about (attack, metric, method, dose, seed), never of where in a list they
    stand. Only where two of them are about the same in every respect does the later one get a number: `#2`.
    """
    seen: dict[str, int] = {}
    for name, finding in _walk(result, ()):
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), finding


def _walk(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, Finding]]:
    if isinstance(value, Finding):
        yield "/".join(path), value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            shown = _SHOWN_AS.get((type(value), name), name)
            yield from _walk(getattr(value, name), (*path, shown) if shown else path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, part(key)))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _walk(item, (*path, _item_name(item, position, list(value))))


def _item_name(item: object, position: int, items: list[Any]) -> str:
    if isinstance(item, Match | RobustnessMatch):
        return match_name(item, items[:position])
    name_of = _ITEM_NAMES.get(type(item)) if isinstance(item, BaseModel) else None
    return f"#{position + 1}" if name_of is None else name_of(item)
