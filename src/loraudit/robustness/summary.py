"""From finished training runs to `result.json` of a robustness run."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loraudit.errors import scrubbed
from loraudit.finetuning import Arm
from loraudit.models import locate
from loraudit.models.plan import summary_of
from loraudit.policy import judge_robustness, read_policy
from loraudit.policy.robustness import FAILED, ROBUSTNESS_EXAMPLE, state
from loraudit.robustness.cells import Finished
from loraudit.robustness.examination import Examined
from loraudit.robustness.measuring import Meter
from loraudit.robustness.outcomes import PERSISTENCE, RunOutcomes
from loraudit.spec import (
    DetectionResult,
    PersistenceResult,
    PoisonedMethod,
    PoisonedRun,
    RobustnessResult,
    RobustnessSpec,
    TriedRate,
)
from loraudit.store import RunFolder, library_versions, shown_ids
from loraudit.store.identity import run_key
from loraudit.tasks import Plan, TaskData
from loraudit.types import Finding


def with_ids(folder: RunFolder, finished: Sequence[Finished], meters: Mapping[str, Meter]) -> list[RunOutcomes]:
    """The outcomes of all runs under ids that do not identify the records."""
    key = run_key(folder.hash)
    first = next(iter(meters.values()))
    ids = {name: shown_ids(tested.records, key) for name, tested in first.sets.items()}
    return [replace(run.outcomes, ids=ids) for run in finished]


def whole_result(
    *,
    spec: RobustnessSpec,
    folder: RunFolder,
    data: TaskData,
    plans: Sequence[Plan],
    arms: Sequence[Arm],
    searches: Mapping[str, tuple[float, list[TriedRate]]],
    finished: Sequence[Finished],
    examined: Examined,
    warnings: Sequence[str],
    **facts: Any,
) -> RobustnessResult:
    """What a robustness run found, as written to `result.json`."""
    attacks = [plan.result() for plan in plans]
    heading, sentence = state(examined.controls, examined.matches, attacks)
    made_from = finished[0].facts["made_from"]
    result = RobustnessResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        spec_hash=folder.hash,
        base=summary_of(
            locate(spec.base, offline=spec.offline),
            "checkpoint",
            made_from["base_fingerprint"],
            n_parameters=finished[0].facts["n_parameters"],
        ),
        trained_as=data.task,
        n_train=len(data.train),
        n_validation=len(data.validation),
        n_test=len(data.test),
        classes=data.classes,
        data=list(data.files),
        heading=heading,
        sentence=sentence,
        attacks=attacks,
        methods=[_method(arm, searches[arm.name], finished) for arm in arms],
        runs=[_with_model(run, found, folder) for run, found in zip(examined.runs, finished, strict=True)],
        matches=examined.matches,
        controls=examined.controls,
        persistence=[*examined.persistence, *_failed_persistence(finished, spec.confidence)],
        detection=[*examined.detection, *_failed_detection(finished, spec.confidence)],
        limits=[],
        numerics={"device": finished[0].facts["device"], "weights": "fp32"},
        versions=library_versions(),
        warnings=[*data.warnings, *warnings, *_warnings(arms, finished)],
        **facts,
    )
    conditions = [*spec.fail_on, *(read_policy(spec.policy, example=ROBUSTNESS_EXAMPLE) if spec.policy else [])]
    judged = result.model_copy(update={"limits": judge_robustness(result, conditions)})
    return RobustnessResult.model_validate_json(scrubbed(judged.model_dump_json()))


def _method(arm: Arm, search: tuple[float, list[TriedRate]], finished: Sequence[Finished]) -> PoisonedMethod:
    facts = next(run.facts for run in finished if run.cell.arm is arm)
    return PoisonedMethod(
        name=arm.name,
        method=arm.recipe.method,
        recipe=facts["recipe"],
        learning_rate=search[0],
        search=search[1],
        n_trained_parameters=facts["n_trained_parameters"],
        n_parameters=facts["n_parameters"],
    )


def _with_model(run: PoisonedRun, found: Finished, folder: RunFolder) -> PoisonedRun:
    if found.model is None:
        return run
    return run.model_copy(update={"model": str(found.model.relative_to(folder.path))})


def _failed_persistence(finished: Sequence[Finished], confidence: float) -> list[PersistenceResult]:
    """What models could not be put through because it broke down."""
    return [
        PersistenceResult(
            attack=run.cell.plan.name,
            method=run.cell.arm.name,
            after=PERSISTENCE[kind],
            dose=run.cell.dose,
            success_before=broken,
            success_after=broken,
            accuracy_before=None,
            accuracy_after=None,
            note=why,
        )
        for run in finished
        for kind, why in run.more.get("failed_persistence", {}).items()
        for broken in [_broken(why, confidence)]
        if run.cell.plan is not None
    ]


def _failed_detection(finished: Sequence[Finished], confidence: float) -> list[DetectionResult]:
    """What detectors could not say because they broke down."""
    return [
        DetectionResult(
            detector=name.partition(":")[0],
            finds="inputs" if name.endswith(":inputs") else "training records",
            attack=run.cell.plan.name,
            method=run.cell.arm.name,
            n_poisoned=run.outcomes.n_poisoned,
            auroc=_broken(why, confidence),
            tpr_at_fpr_1pct=_broken(why, confidence),
            seconds=0.0,
            note=why,
        )
        for run in finished
        for name, why in run.more.get("failed_detection", {}).items()
        if run.cell.plan is not None
    ]


def _broken(why: str, confidence: float) -> Finding:
    return Finding(None, None, None, confidence, FAILED, 0, 0, note=why)


def _warnings(arms: Sequence[Arm], finished: Sequence[Finished]) -> list[str]:
    found = [
        f"{run.cell.words}: {kind.replace('_', ' ')} was left out, because {why}."
        for run in finished
        for kind, why in run.more.get("left_out", {}).items()
    ]
    single = [arm.name for arm in arms if arm.seeds == 1]
    if single:
        who = "per method and dose" if len(single) == len(arms) else f"of {' and '.join(single)} at each dose"
        found.append(f"One training run {who}: how training falls out by chance is in no interval (--seeds).")
    found += [
        f"{run.cell.words}: training diverged, which counts as a collapsed run; nothing was tried on its weights. "
        f"{run.more['diverged']}"
        for run in finished
        if "diverged" in run.more
    ]
    n_cut = max(int(run.facts.get("n_cut", 0)) for run in finished)
    if n_cut:
        found.append(f"Up to {n_cut} training texts were longer than the window and lost their end.")
    return found
