"""Two runs over the same records, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from loraudit.auditing.columns import group_numbers
from loraudit.errors import ConfigError, StoreError
from loraudit.spec import (
    AuditResult,
    ComparedAttack,
    ComparedNumber,
    ComparedRate,
    ComparedRun,
    ComparisonResult,
)
from loraudit.statistics import Difference, PairedScores, compare_scores, finding, finite, holm, rate_metric
from loraudit.store import read_run
from loraudit.store.finished_runs import Run
from loraudit.types import IntArray


def compare_runs(first: Path, second: Path) -> ComparisonResult:
    """Every attack that both runs have, on the records that both have, matched by content.

    Args:
        first: Run folder.
        second: Run folder.

    Raises:
        ConfigError: A folder holds no finished run, or the runs share no records, attacks or settings.
        StoreError: A file is damaged, or `identity.parquet`, which says which record is which, is missing.
    """
    runs = read_run(first), read_run(second)
    _refuse_other_settings(*runs)
    contents = [_contents(path) for path in (first, second)]
    rows, n_changed = _matched(runs, contents)
    is_member = np.asarray(runs[0].column("is_member"), dtype=bool)[rows[0]]
    if not is_member.any() or is_member.all():
        raise ConfigError(
            f"Runs '{first}' and '{second}' share {int(is_member.sum())} members and {int((~is_member).sum())} "
            "non-members. Expected some of both; compare runs over the same files."
        )
    names = [
        attack.name
        for attack in runs[0].result.membership.attacks
        if attack.status == "ok" and all(attack.name in run.scores.column_names for run in runs)
    ]
    headline = runs[0].result.membership.headline
    if headline not in names:
        raise ConfigError(f"Run '{second}' has no scores of the headline attack '{headline}' of '{first}'.")
    spec = runs[0].result.spec
    named = runs[0].scores.column("group").to_pylist()
    groups = group_numbers([named[row] for row in rows[0]])
    found = {
        name: compare_scores(
            runs[0].column(name)[rows[0]],
            runs[1].column(name)[rows[1]],
            is_member,
            fprs=spec.fpr,
            n_resamples=spec.resamples,
            confidence=spec.confidence,
            rng=np.random.default_rng([spec.seed, *name.encode()]),
            groups=groups,
        )
        for name in names
    }
    others = [name for name in names if name != headline]
    corrected = dict(zip(others, holm(np.array([found[name].auc.p_value for name in others])), strict=True))
    attacks = [_attack(name, found[name], runs[0].result, corrected.get(name)) for name in names]
    return ComparisonResult(
        first=_run(first, runs[0], len(rows[0])),
        second=_run(second, runs[1], len(rows[1])),
        n_members=int(is_member.sum()),
        n_nonmembers=int((~is_member).sum()),
        n_changed_side=n_changed,
        confidence=spec.confidence,
        attacks=sorted(attacks, key=lambda attack: not attack.is_headline),
        sentence=_sentence(next(a for a in attacks if a.is_headline), spec.confidence) + _other_references(*runs),
    )


def _refuse_other_settings(first: Run, second: Run) -> None:
    one, two = first.result.spec, second.result.spec
    differing = [
        f"{name}: {getattr(one, name)} and {getattr(two, name)}"
        for name in ("span", "append_eos", "fpr", "confidence")
        if getattr(one, name) != getattr(two, name)
    ]
    if differing:
        raise ConfigError(
            f"Runs '{first.path}' and '{second.path}' cannot be compared: they differ in {'; '.join(differing)}. "
            "Audit both with the same settings."
        )


def _contents(path: Path) -> dict[str, str]:
    """Content hash of each shown id."""
    try:
        identity = pq.read_table(path / "identity.parquet", columns=["id", "content_sha256"])
    except (OSError, ValueError) as error:
        raise StoreError(
            f"'{path / 'identity.parquet'}' cannot be read: {error}. Runs are matched by content, and only that file "
            "links ids to contents. Compare where the runs were made, or run the audit again."
        ) from None
    return dict(zip(identity.column("id").to_pylist(), identity.column("content_sha256").to_pylist(), strict=True))


def _matched(runs: tuple[Run, Run], contents: list[dict[str, str]]) -> tuple[tuple[IntArray, IntArray], int]:
    """Rows of the records that both runs have on the same side, and how many changed sides."""
    where = [
        {contents[i][shown]: row for row, shown in enumerate(run.scores.column("id").to_pylist())}
        for i, run in enumerate(runs)
    ]
    shared = [(row, where[1][content]) for content, row in where[0].items() if content in where[1]]
    sides = [np.asarray(run.column("is_member"), dtype=bool) for run in runs]
    kept = [(one, two) for one, two in shared if sides[0][one] == sides[1][two]]
    pairs = np.array(kept, dtype=np.int64).reshape(-1, 2)
    return (pairs[:, 0], pairs[:, 1]), len(shared) - len(kept)


def _run(path: Path, run: Run, n_matched: int) -> ComparedRun:
    n = run.scores.num_rows
    return ComparedRun(
        path=str(path),
        target=run.result.target.name,
        spec_hash=run.result.spec_hash,
        n_records=n,
        n_alone=n - n_matched,
    )


def _attack(name: str, paired: PairedScores, result: AuditResult, p_holm: float | None) -> ComparedAttack:
    rates: dict[str, ComparedRate] = {}
    for fpr, rate in paired.rates.items():
        if rate is not None:
            number = _number(rate.difference, paired, "paired bootstrap", result)
            rates[rate_metric(fpr)] = ComparedRate(
                **dict(number),
                found_in_first_only=rate.mcnemar.only_first,
                found_in_second_only=rate.mcnemar.only_second,
                p_mcnemar=finite(rate.mcnemar.p_value),
            )
    return ComparedAttack(
        name=name,
        is_headline=name == result.membership.headline,
        auc=_number(paired.auc, paired, "paired DeLong", result),
        p_holm=None if p_holm is None else finite(p_holm),
        rates=rates,
    )


def _number(difference: Difference, paired: PairedScores, method: str, result: AuditResult) -> ComparedNumber:
    return ComparedNumber(
        first=finite(difference.first),
        second=finite(difference.second),
        difference=finding(
            difference.value,
            difference.interval,
            method,
            n_members=paired.n_members,
            n_nonmembers=paired.n_nonmembers,
            confidence=result.spec.confidence,
            note=f"{paired.n_left_out} records lack a score in one run" if paired.n_left_out else None,
        ),
        p_value=finite(difference.p_value),
    )


def _other_references(first: Run, second: Run) -> str:
    """That the attackers differ and not only the targets, where the references are of two kinds."""
    one, two = first.result.spec.reference, second.result.spec.reference
    if one == two:
        return ""
    return (
        f" The attackers differ too: the reference of the first run is {one}, of the second {two}, so this is no "
        "comparison of the targets alone."
    )


def _sentence(headline: ComparedAttack, confidence: float) -> str:
    gap = headline.auc.difference
    if gap.value is None or gap.lower is None or gap.upper is None:
        return f"By {headline.name}, the difference between the runs cannot be stated."
    interval = f"{100 * confidence:g} % interval {gap.lower:+.3f} to {gap.upper:+.3f}"
    if gap.lower <= 0 <= gap.upper:
        return f"By {headline.name}, the runs do not differ measurably: AUC {gap.value:+.3f} ({interval})."
    more = "first" if gap.value > 0 else "second"
    return f"By {headline.name}, the {more} run leaks more: AUC first minus second {gap.value:+.3f} ({interval})."
