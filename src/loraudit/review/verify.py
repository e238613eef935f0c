"""Recompute a run's figures from its stored scores."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loraudit.auditing.columns import BLIND, CONTROL, OVERLAP, Columns
from loraudit.auditing.examination import examine
from loraudit.auditing.memorizing.examination import examine_memorization
from loraudit.auditing.memorizing.measures import Measures
from loraudit.errors import EXIT_LIMIT_EXCEEDED, ConfigError
from loraudit.policy import judge
from loraudit.review.checks import Check
from loraudit.spec import AuditResult, spec_hash
from loraudit.store import read_measures, read_run
from loraudit.store.run_folder import Run

_CLOSE = 1e-4
_TINY = 1e-6
_NAMED_AT_MOST = 5
_TIMES = {"seconds"}


def verify_run(path: Path) -> list[Check]:
    """Whether everything a run states follows from what it stores.

    Figures are recomputed from `scores.parquet` with the recorded seed. They must agree to four digits, not
    to the last bit: matrix products round differently on other processors.

    Raises:
        ConfigError: The folder holds no finished run, or one too old to be recomputed.
        StoreError: A file of it is damaged.
    """
    run = read_run(path)
    result = run.result
    if result.provenance is None or result.validity is None:
        raise ConfigError(
            f"Run '{path}' was written by an older loraudit ({result.loraudit}) that did not store what it takes to "
            "recompute it. Run its audit again; stored evidence is used."
        )
    return [_spec(result), _scores(path, result), _counts(run), *_figures(run), _verdict(result), *_data(result)]


def _check(name: str, problem: str | None, fine: str) -> Check:
    return Check(name, "ok", fine) if problem is None else Check(name, "failed", problem, EXIT_LIMIT_EXCEEDED)


def _spec(result: AuditResult) -> Check:
    if "***" in result.spec.model_dump_json():
        return Check("spec", "skipped", "the request held what looked like credentials, which are not kept")
    found = spec_hash(result.spec)
    problem = None if found == result.spec_hash else f"the spec hashes to {found[:12]}…, not to the recorded hash"
    return _check("spec", problem, "the recorded hash is that of the recorded request")


def _scores(path: Path, result: AuditResult) -> Check:
    digest = hashlib.sha256((path / "scores.parquet").read_bytes()).hexdigest()
    same = result.provenance is not None and digest == result.provenance.scores
    problem = None if same else "scores.parquet has another sha256 than recorded: it was changed after the run"
    if result.memorization is not None and not _measures_are_recorded(path, result):
        problem = "memorization.parquet is missing or has another sha256 than recorded: it was changed after the run"
    return _check("scores", problem, f"sha256 {digest[:12]}… as recorded")


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
    return _check("counts", "; ".join(problems) or None, f"{len(is_member):,} records, {len(attacks)} attacks")


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
    for name, one, two in parts:
        before, after = dict(_leaves(one)), dict(_leaves(two))
        differing = [key for key in before.keys() | after.keys() if not _same(before.get(key), after.get(key))]
        n = len(before)
        problem = None
        if differing:
            shown = "; ".join(
                f"{key}: stated {before.get(key)}, recomputed {after.get(key)}"
                for key in sorted(differing)[:_NAMED_AT_MOST]
            )
            problem = f"{len(differing)} of {n} entries differ: {shown}"
        checks.append(_check(name, problem, f"{n:,} entries recomputed and equal"))
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
    return _check("verdict", problem, f"{again.heading}; exit code {again.exit_code}")


def _data(result: AuditResult) -> Iterator[Check]:
    for name, digest in (result.provenance.data if result.provenance else {}).items():
        try:
            with Path(name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            yield Check(f"data {name}", "skipped", "not here")
            continue
        problem = None if found == digest else "the file has changed since the run"
        yield _check(f"data {name}", problem, "unchanged")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, number or word) of everything inside; times left out."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    elif hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name not in _TIMES:
                yield from _leaves(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{path}[{number}]")
    else:
        yield path, value


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=_CLOSE, abs_tol=_TINY)
    return one == two
