"""The figures of a result as the flat numbers that experiment trackers keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from loraudit.spec import (
    AuditResult,
    CanaryResult,
    ContrastResult,
    ExposureLevel,
    ForecastResult,
    ProbeResult,
    RobustnessResult,
    ScanResult,
)
from loraudit.types import Finding

AnyResult: TypeAlias = AuditResult | ContrastResult | RobustnessResult | ForecastResult | ScanResult | CanaryResult
_ILLEGAL = re.compile(r"[^A-Za-z0-9_./ -]")
_LONGEST_NAME = 200
"""MLflow takes 250 characters; the ends of the name, such as `.n_nonmembers`, come after."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers of one result, by name.

    Attributes:
        metrics: Each figure's value, and under `NAME.lower`, `NAME.upper`, `NAME.n_members` and `NAME.n_nonmembers`
            what it takes to believe it. Never one that is undefined or infinite.
        undefined: Figures without a finite value.
        n_findings: All figures, the undefined among them.
        n_withheld: Figures that are left out because their names hold values of the user's own column.
    """

    metrics: dict[str, float]
    undefined: tuple[str, ...]
    n_findings: int
    n_withheld: int = 0


def figures_of(kind: str, result: AnyResult) -> Figures:
    """Every figure of a result.

    Args:
        kind: The command that made it; canaries for `loraudit canaries score`.
        result: Of that command.
    """
    found = _named(kind, result)
    shown = [(name, finding) for name, finding in found if not _holds_column_value(name, result)]
    names = legal_names([name for name, _ in shown])
    metrics = _counts(result)
    undefined: list[str] = []
    for name, (_, finding) in zip(names, shown, strict=True):
        if not _is_finite(finding.value):
            undefined.append(name)
            continue
        numbers = {"": finding.value, ".lower": finding.lower, ".upper": finding.upper}
        metrics |= {
            name + end: float(number) for end, number in numbers.items() if number is not None and _is_finite(number)
        }
        counts = {".n_members": finding.n_members, ".n_nonmembers": finding.n_nonmembers}
        metrics |= {name + end: float(n) for end, n in counts.items() if n}
    return Figures(metrics, tuple(undefined), len(found), len(found) - len(shown))


def legal_names(names: Sequence[str]) -> list[str]:
    """The same names in the letters that MLflow and W&B both take, one by one other than all before.

    A name that is also the beginning of another one's path gets `value` after it, because stores on disk keep a
    metric as a file. Two names that become one get a number.

    >>> legal_names(["lora:8/dose=0.05", "lora=8/dose=0.05", "auc", "auc/full"])
    ['lora_8/dose_0.05', 'lora_8/dose_0.05-2', 'auc/value', 'auc/full']
    """
    cleaned = [_cleaned(name) for name in names]
    folders = {"/".join(parts[:n]) for name in cleaned for parts in [name.split("/")] for n in range(1, len(parts))}
    taken: set[str] = set()
    legal: list[str] = []
    for name in cleaned:
        whole = f"{name}/value" if name in folders else name
        candidate, n = whole, 1
        while candidate in taken or candidate in folders:
            n += 1
            candidate = f"{whole}-{n}"
        taken.add(candidate)
        legal.append(candidate)
    return legal


def _cleaned(name: str) -> str:
    """Legal, and the same when it is read as a path: no empty parts, none of dots or blanks alone."""
    parts = [part.strip(" .") for part in _ILLEGAL.sub("_", name).split("/")]
    return "/".join(part or "_" for part in parts)[:_LONGEST_NAME].rstrip("/ .") or "_"


def _named(kind: str, result: AnyResult) -> list[tuple[str, Finding]]:
    if isinstance(result, ScanResult):
        return list(_of_scan(result))
    if isinstance(result, CanaryResult):
        return list(_of_canaries(result))
    from loraudit.study.findings import findings_of

    return [(name, finding) for name, finding, _ in findings_of(kind, result)]  # type: ignore[arg-type]


def _of_scan(result: ScanResult) -> Iterator[tuple[str, Finding]]:
    if result.overall_shift is not None:
        yield "overall_shift", result.overall_shift
    for probe in result.probes:
        yield from _of_probe(probe)


def _of_probe(probe: ProbeResult) -> Iterator[tuple[str, Finding]]:
    where = f"probes/{probe.name.replace('/', '_')}"
    if probe.shift is not None:
        yield f"{where}/shift", probe.shift
    for measure in ("repeated", "flips"):
        pair = getattr(probe, measure)
        if pair is not None:
            yield f"{where}/{measure}/with_trigger", pair.with_trigger
            yield f"{where}/{measure}/with_control", pair.with_control


def _of_canaries(result: CanaryResult) -> Iterator[tuple[str, Finding]]:
    for level in result.levels:
        yield from _of_level(f"copies={level.repeats}", level)
    yield from _of_level("controls", result.controls)
    yield "trend", result.trend


def _of_level(where: str, level: ExposureLevel) -> Iterator[tuple[str, Finding]]:
    yield f"{where}/exposure", level.exposure
    if level.exposure_of_target is not None:
        yield f"{where}/exposure_of_target", level.exposure_of_target
    yield f"{where}/first", level.first


def _counts(result: AnyResult) -> dict[str, float]:
    """What is counted or bounded rather than estimated, and therefore no `Finding`."""
    match result:
        case ScanResult():
            return {
                "modules.n": float(len(result.modules)),
                "modules.n_flagged": float(len(result.flagged_modules)),
                "probes.n": float(len(result.probes)),
                "probes.n_flagged": float(len(result.flagged_probes)),
            }
        case CanaryResult() if result.epsilon.status == "stated" and result.epsilon.epsilon is not None:
            return {"epsilon.lower": result.epsilon.epsilon, "epsilon.n_coins": float(result.epsilon.n_coins)}
        case AuditResult() if result.membership.records is not None:
            return {"records.n_exposed": float(result.membership.records.n_exposed)}
        case _:
            return {}


def _holds_column_value(name: str, result: AnyResult) -> bool:
    """Whether a name ends in a value of the user's `--subgroup-field`, which is data of the records."""
    field = result.spec.subgroup_field if isinstance(result, AuditResult) else None
    return field is not None and name.startswith(f"membership/records/{field.replace('%', '%25').replace('/', '%2F')}=")


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
