"""One epoch's audit as an entry, as numbers for loggers and as a line for people."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.integrations.live_audit import Found
from loraudit.policy import Limit, ends, percent, percent_interval
from loraudit.spec import EpochAudit
from loraudit.statistics import rate_metric
from loraudit.types import Finding

_CONFIDENCE = "95"


def failed_gates(found: Found) -> dict[str, str]:
    """Why members and non-members differ by more than training, by gate."""
    return {gate.name: gate.reason for gate in found.validity.failed} if found.validity else {}


def described(entry: EpochAudit, found: Found, limits: Sequence[Limit]) -> EpochAudit:
    """The entry with what was found."""
    attacks = found.membership.attacks
    records = found.membership.records
    return entry.model_copy(
        update={
            "findings": {attack.name: attack.findings for attack in attacks if attack.status == "ok"},
            "failed_attacks": {attack.name: attack.reason or "" for attack in attacks if attack.status != "ok"},
            "failed_gates": failed_gates(found),
            "n_exposed": None if records is None else records.n_exposed,
            "limits": [limit.check(found) for limit in limits],
        }
    )


def _stated(entry: EpochAudit, fprs: Sequence[float]) -> dict[str, Finding]:
    """The headline's AUC and those of its rates that the records resolve."""
    findings = entry.findings.get(entry.headline, {})
    named = {name: findings.get(name) for name in ("auc", *map(rate_metric, fprs))}
    return {name: found for name, found in named.items() if found is not None and found.value is not None}


def headline_numbers(entry: EpochAudit, fprs: Sequence[float]) -> dict[str, float]:
    """What loggers get: the headline attack's numbers with the ends of their intervals, and the records behind them."""
    numbers: dict[str, float] = {}
    for name, found in _stated(entry, fprs).items():
        ends_of = {"": found.value, f"_lower{_CONFIDENCE}": found.lower, f"_upper{_CONFIDENCE}": found.upper}
        numbers |= {f"loraudit/{name}{end}": value for end, value in ends_of.items() if value is not None}
    numbers |= {"loraudit/n_members": entry.n_members, "loraudit/n_nonmembers": entry.n_nonmembers}
    return numbers | {"loraudit/failed_gates": len(entry.failed_gates)}


def one_line(entry: EpochAudit, fprs: Sequence[float]) -> str:
    """One line for the person who waits."""
    stated = _stated(entry, fprs)
    if "auc" not in stated:
        return f"Epoch {entry.epoch:g}: {entry.headline} gave no AUC: {entry.failed_attacks.get(entry.headline, '')}"
    parts = [f"AUC {stated['auc'].value:.3f} {ends(stated['auc'])}".rstrip()]
    for fpr in fprs:
        rate = stated.get(rate_metric(fpr))
        if rate is not None and rate.value is not None:
            parts.append(f"TPR {percent(rate.value)} {percent_interval(rate)} at {100 * fpr:g} % FPR")
    gates = f"; failed gates: {', '.join(entry.failed_gates)}" if entry.failed_gates else ""
    sides = f"{entry.n_members:,} members and {entry.n_nonmembers:,} non-members"
    return f"Epoch {entry.epoch:g}: {', '.join(parts)} (n = {sides}){gates}"
