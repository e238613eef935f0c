"""What a result says besides its findings: what became of records, attacks and plug-ins."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from loraudit.auditing.preparation import Sides, attack_facts
from loraudit.data import RecordSet
from loraudit.membership import ATTACKS, Attack, AttackScores
from loraudit.scoring import Evidence
from loraudit.spec import AttackResult, SideSummary
from loraudit.store import RunFolder
from loraudit.types import Finding

_LIBRARIES = ("loraudit", "torch", "transformers", "peft", "numpy", "scipy", "safetensors", "tokenizers")


def record_statuses(evidence: Evidence) -> list[str]:
    """The first view that could not score a record says why."""
    by_view = [table.status for table in evidence.tables.values()]
    return [next((s for s in views if s != "ok"), "ok") for views in zip(*by_view, strict=True)]


def counted(statuses: Sequence[str]) -> str:
    """Such as `3 no_tokens, 1 nonfinite`."""
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses).most_common())


def write_scores(
    folder: RunFolder,
    sides: Sides,
    evidence: Evidence,
    statuses: Sequence[str],
    scores: dict[str, AttackScores],
) -> None:
    """`scores.parquet` from records, evidence and attacks."""
    target = evidence.tables["target"].audited()
    folder.write_scores(
        sides.records,
        {
            "is_member": sides.is_member,
            "group": [record.group for record in sides.records],
            "n_tokens": target.n_tokens,
            "n_windows": target.n_windows,
            "status": list(statuses),
            **{name: found.scores for name, found in scores.items()},
        },
    )


def side_summary(side: RecordSet, target: Any, statuses: Sequence[str], where: slice) -> SideSummary:
    """What became of one side; `where` are its rows."""
    named = {record.group for record in side.records if record.group is not None}
    alone = sum(record.group is None for record in side.records)
    return SideSummary(
        files=list(side.files),
        n_read=side.n_read,
        n_bad=side.n_bad,
        n_duplicates=side.n_duplicates,
        n_overlap=side.n_overlap,
        n_left_out=side.n_left_out,
        n_records=len(side.records),
        n_groups=len(named) + alone,
        n_tokens=int(target.n_tokens[where].sum()),
        n_windowed=int((target.n_windows[where] > 1).sum()),
        status=dict(Counter(statuses[where])),
    )


def attack_result(attack: Attack, found: AttackScores, findings: dict[str, Finding]) -> AttackResult:
    """One attack's findings, or why it has none."""
    return AttackResult(
        **attack_facts(attack),
        status="error" if found.error else "ok",
        reason=found.error,
        seconds=round(found.seconds, 4),
        findings={} if found.error else findings,
    )


def data_warnings(sides: Sides, statuses: Sequence[str]) -> list[str]:
    """What the report must say about the records."""
    warnings: list[str] = []
    for name, side in (("members", sides.members), ("non-members", sides.nonmembers)):
        if side.n_bad:
            warnings.append(f"{side.n_bad} unreadable rows of the {name} were skipped.")
        if side.n_duplicates:
            warnings.append(f"{side.n_duplicates} repeated records of the {name} were left out.")
    if sides.members.n_overlap:
        warnings.append(f"{sides.members.n_overlap} records stood on both sides and were left out of both.")
    lost = [status for status in statuses if status != "ok"]
    if lost:
        warnings.append(f"{len(lost)} records have no score: {counted(lost)}.")
    groups = sides.groups
    if groups is not None:
        shared = np.intersect1d(groups[sides.is_member], groups[~sides.is_member]).size
        if shared:
            warnings.append(f"{shared} groups have records on both sides; intervals treat the sides as independent.")
    return warnings


def broken_plugins() -> list[str]:
    """Attacks of installed packages that could not be loaded."""
    return [f"The attack plug-in {origin} could not be loaded: {reason}" for origin, reason in ATTACKS.broken.items()]


def library_versions() -> dict[str, str]:
    """Versions of what made the numbers."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
