"""Recompute a run's figures from its stored scores."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.auditing.columns import BLIND, CONTROL, OVERLAP, Columns
from loraudit.auditing.examination import examine
from loraudit.auditing.memorizing.examination import examine_memorization
from loraudit.auditing.memorizing.measures import Measures
from loraudit.errors import ConfigError
from loraudit.policy import judge
from loraudit.review.agreeing import check, check_equal, check_files, check_spec
from loraudit.review.checks import Check
from loraudit.spec import AuditResult
from loraudit.store import read_measures, read_robustness, read_run
from loraudit.store.finished_runs import Run


def verify_run(path: Path) -> list[Check]:
    """Whether everything a run states follows from what it stores.

    Figures of an audit are recomputed from `scores.parquet`, those of a robustness run from `outcomes.parquet`, with
    the recorded seed. They must agree to four digits, not to the last bit: matrix products round differently on other
    processors.

    Raises:
        ConfigError: The folder holds no finished run, or one too old to be recomputed.
        StoreError: A file of it is damaged.
    """
    poisoned = read_robustness(path)
    if poisoned is not None:
        from loraudit.review.verify_robustness import verify_robustness  # the room loads torch, audits need none

        return verify_robustness(path, poisoned)
    run = read_run(path, expected="an audit or a robustness run")
    result = run.result
    if result.provenance is None or result.validity is None:
        raise ConfigError(
            f"Run '{path}' was written by an older loraudit ({result.loraudit}) that did not store what it takes to "
            "recompute it. Run its audit again; stored evidence is used."
        )
    return [
        check_spec(result.spec, result.spec_hash),
        _scores(path, result),
        _counts(run),
        *_figures(run),
        _verdict(result),
        *check_files(result.provenance.data),
    ]


def _scores(path: Path, result: AuditResult) -> Check:
    digest = hashlib.sha256((path / "scores.parquet").read_bytes()).hexdigest()
    same = result.provenance is not None and digest == result.provenance.scores
    problem = None if same else "scores.parquet has another sha256 than recorded: it was changed after the run"
    if result.memorization is not None and not _measures_are_recorded(path, result):
        problem = "memorization.parquet is missing or has another sha256 than recorded: it was changed after the run"
    return check("scores", problem, f"sha256 {digest[:12]}… as recorded")


def _measures_are_recorded(path: Path, result: AuditResult) -> bool:
    measures = path / "memorization.parquet"
    if result.provenance is None or not measures.exists():
        return False
    return hashlib.sha256(measures.read_bytes()).hexdigest() == result.provenance.memorization


def _counts(run: Run) -> Check:
    """Records, tokens and statuses of both sides, and which attacks have scores."""
    result, table = run.result, run.scores
    is_member = np.asarray(run.column("is_member"), dtype=bool)
    statuses = np.array(table.column("status").to_pylist())
    problems: list[str] = []
    for name, side, where in (
        ("members", result.members, is_member),
        ("nonmembers", result.nonmembers, ~is_member),
    ):
        found = {
            "n_records": int(where.sum()),
            "n_tokens": int(run.column("n_tokens")[where].sum()),
            "status": dict(Counter(statuses[where].tolist())),
        }
        problems += [
            f"{name}.{key}: stated {getattr(side, key)}, stored {value}"
            for key, value in found.items()
            if getattr(side, key) != value
        ]
    attacks = {attack.name: attack for attack in result.membership.attacks}
    facts = {"id", "source", "line", "is_member", "group", "n_tokens", "n_windows", "status", "subgroup", "n_copies"}
    for name in table.column_names:
        if name in facts or name.startswith((BLIND, CONTROL, OVERLAP)):
            continue
        has_scores = bool(np.isfinite(run.column(name)).any())
        stated = attacks[name].status if name in attacks else "absent"
        if has_scores and stated != "ok":
            problems.append(f"attack {name}: stated {stated}, but it has scores")
    return check("counts", "; ".join(problems) or None, f"{len(is_member):,} records, {len(attacks)} attacks")


def _figures(run: Run) -> list[Check]:
    result = run.result
    attacks = [attack.name for attack in result.membership.attacks if attack.name in run.scores.column_names]
    columns = Columns.of(run.scores, attacks)
    recorded = result.membership.records
    snippets = {record.id: record.snippet for record in (recorded.exposed if recorded else ())}
    has_fusion = result.membership.fusion is not None
    again = examine(columns, result.spec, lambda row: snippets.get(columns.ids[row], ""), with_fusion=has_fusion)
    stated: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for attack in result.membership.attacks:
        if attack.status == "ok" and attack.name in again.findings:
            stated[attack.name] = {"findings": attack.findings, "p": attack.p_value, "p_holm": attack.p_holm}
            p_value, p_holm = again.p_values[attack.name]
            found[attack.name] = {"findings": again.findings[attack.name], "p": p_value, "p_holm": p_holm}
    parts: list[tuple[str, Any, Any]] = [
        ("attacks", stated, found),
        ("best of all", result.membership.best, again.best),
        ("set as a whole", result.membership.dataset_test, again.dataset_test),
        ("single records", result.membership.records, again.records),
        ("validity gates", result.validity, again.validity),
    ]
    if result.membership.shadows or again.shadows:
        parts.append(("shadow models", result.membership.shadows, again.shadows))
    checks: list[Check] = []
    if result.memorization is not None:
        parts.append(("memorization", *_memorization(run)))
    if has_fusion:
        parts.append(("fusion", result.membership.fusion, again.fusion))
    else:
        checks.append(Check("fusion", "skipped", "none is recorded: the run was made before scores were fused"))
    checks += [check_equal(name, one, two) for name, one, two in parts]
    return checks


def _memorization(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run states of memorization, and the same from its stored measures."""
    stated = run.result.memorization
    if stated is None:
        return {}, {}
    n_parameters = stated.capacity.n_trained_parameters if stated.capacity else None
    again = examine_memorization(Measures.of(read_measures(run.path)), run.result.spec, n_parameters)
    return {name: getattr(stated, name) for name in again._fields}, again._asdict()


def _verdict(result: AuditResult) -> Check:
    if result.verdict is None:
        return Check("verdict", "skipped", "none is recorded")
    again = judge(result, [limit.limit for limit in result.verdict.limits])
    problem = None if again == result.verdict else f"recomputed: {again.heading}, exit code {again.exit_code}"
    return check("verdict", problem, f"{again.heading}; exit code {again.exit_code}")
