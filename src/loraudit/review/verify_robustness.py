"""Recompute a robustness run's figures from its stored outcomes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from loraudit.errors import StoreError
from loraudit.policy.robustness import FAILED, judge_robustness, state
from loraudit.review.agreeing import check, check_equal, check_files, check_spec
from loraudit.review.checks import Check
from loraudit.robustness.examination import examine
from loraudit.robustness.outcomes import RunOutcomes, read_outcomes
from loraudit.spec import RobustnessResult

Told = dict[str, tuple[float, str | None]]


def verify_robustness(path: Path, result: RobustnessResult) -> list[Check]:
    """Whether every figure of a robustness run follows from `outcomes.parquet`.

    Args:
        path: Its folder.
        result: What it states.

    Raises:
        StoreError: `outcomes.parquet` is missing or damaged.
    """
    file = path / "outcomes.parquet"
    if not file.is_file():
        raise StoreError(f"Run '{path}' is damaged: outcomes.parquet is missing. Run it again; it resumes.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    changed = "outcomes.parquet has another sha256 than recorded: it was changed after the run"
    checks = [
        check_spec(result.spec, result.spec_hash),
        check("outcomes", None if digest == result.outcomes else changed, f"sha256 {digest[:12]}… as recorded"),
    ]
    runs = read_outcomes(file)
    again = examine(runs, result.attacks, result.spec, result.classes, _told(result, runs))
    heading, sentence = state(again.controls, again.matches, result.attacks)
    broken = {"persistence": result.persistence, "detection": result.detection}
    # Parts that broke down have no outcomes; that they did is all that is stated of them.
    whole = {
        "persistence": [row for row in result.persistence if row.success_before.method != FAILED],
        "detection": [row for row in result.detection if row.auroc.method != FAILED],
    }
    parts = [
        # Where a model was kept is no figure.
        ("training runs", [run.model_copy(update={"model": None}) for run in result.runs], again.runs),
        ("comparisons", result.matches, again.matches),
        ("controls", result.controls, again.controls),
        ("persistence", whole["persistence"], again.persistence),
        ("detection", whole["detection"], again.detection),
        ("heading", [result.heading, result.sentence], [heading, sentence]),
        ("limits", result.limits, judge_robustness(result, [limit.limit for limit in result.limits])),
    ]
    checks += [check_equal(*part) for part in parts]
    n_broken = sum(len(broken[name]) - len(whole[name]) for name in broken)
    if n_broken:
        checks.append(Check("broken parts", "skipped", f"{n_broken} parts of the run failed and left no outcomes"))
    recorded = {str(one["path"]): str(one["sha256"]) for one in result.data}
    return [*checks, *check_files(recorded)]


def _told(result: RobustnessResult, runs: list[RunOutcomes]) -> list[Told]:
    """Of each run, what its detectors took and noted: that is stated and cannot be recomputed."""
    told: list[Told] = [{} for _ in runs]
    for row in result.detection:
        for own, run in zip(told, runs, strict=True):
            named = (run.attack, run.method, run.n_poisoned, run.is_control)
            if named == (row.attack, row.method, row.n_poisoned, False) and f"{row.detector}:{row.finds}" not in own:
                own[f"{row.detector}:{row.finds}"] = (row.seconds, row.note)
    return told
