"""Limits that a scan must not exceed, and what became of each."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence

from loraudit.errors import ConfigError
from loraudit.policy.words import plain
from loraudit.spec import LimitResult, ProbeResult, ScannedModule

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_CONDITION = re.compile(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*")
SCAN_LIMITS: Mapping[str, str] = {
    "modules.flagged": "modules that stand out",
    "modules.largest_factor": "the largest factor over a family's median, in either measure",
    "modules.largest_relative_change": "the largest ‖W'−W‖/‖W‖; needs the base",
    "probes.flagged": "triggers that stand out",
    "probes.largest_shift": "the largest shift beyond controls, nats; language models",
    "probes.largest_rate": "the largest share of prompts that get one response or become one class",
}
"""What a limit of `loraudit scan` can speak of."""
_EXAMPLE = "modules.flagged > 0"


def check_scan_limits(
    limits: Sequence[str], modules: Sequence[ScannedModule], probes: Sequence[ProbeResult]
) -> list[LimitResult]:
    """What became of each limit; what was not measured never passes.

    Args:
        limits: Conditions that must not be met.
        modules: That were scanned.
        probes: That were run; empty where none were.

    Raises:
        ConfigError: As of `read_scan_limits`.
    """
    measured = _measured(modules, probes)
    found: list[LimitResult] = []
    for text, (name, sign, bound) in zip(limits, read_scan_limits(limits), strict=True):
        value = measured[name]
        if value is None:
            reason = f"{name} was not measured; what is not measured fails"
            found.append(LimitResult(limit=text, status="not_measured", measured=None, reason=reason))
            continue
        is_met = _COMPARE[sign](value, bound)
        words = f"measured {plain(value)}, which is{'' if is_met else ' not'} {sign} {plain(bound)}"
        status = "exceeded" if is_met else "holds"
        found.append(LimitResult(limit=text, status=status, measured=value, reason=words))
    return found


def read_scan_limits(limits: Sequence[str]) -> list[tuple[str, str, float]]:
    """Name, sign and bound of each limit.

    Raises:
        ConfigError: Those that cannot be read, one line each.
    """
    problems: list[str] = []
    found: list[tuple[str, str, float]] = []
    for text in limits:
        matched = _CONDITION.fullmatch(text)
        if matched is None or matched[1] not in SCAN_LIMITS:
            problems.append(
                f"Limit '{text}' cannot be read. Expected one such as '{_EXAMPLE}', of: {', '.join(SCAN_LIMITS)}."
            )
        else:
            found.append((matched[1], matched[2], float(matched[3])))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _measured(modules: Sequence[ScannedModule], probes: Sequence[ProbeResult]) -> dict[str, float | None]:
    factors = [one.factor for module in modules for one in (module.size, module.direction)]
    shifts = [probe.shift.value for probe in probes if probe.shift is not None]
    pairs = [pair for probe in probes for pair in (probe.repeated, probe.flips) if pair is not None]
    return {
        "modules.flagged": float(sum(bool(module.flagged) for module in modules)) if any(factors) else None,
        "modules.largest_factor": _largest(factors),
        "modules.largest_relative_change": _largest([module.relative_change for module in modules]),
        "probes.flagged": float(sum(bool(probe.flagged) for probe in probes)) if shifts or pairs else None,
        "probes.largest_shift": _largest(shifts),
        "probes.largest_rate": _largest([pair.with_trigger.value for pair in pairs]),
    }


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
