"""From outcomes to every figure of the result: what is stated can be recomputed from `outcomes.parquet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from loraudit.policy.robustness import (
    curve_of,
    judged_measure,
    majority_flaw,
    poisoned_points,
    trigger_flaw,
    verdict_of_control,
)
from loraudit.robustness.comparison import Comparison
from loraudit.robustness.outcomes import CLEAN, DETECTED, PERSISTENCE, Checkpoint, RunOutcomes
from loraudit.robustness.places import Place, Read
from loraudit.robustness.readings import Measure, is_collapsed, per_record, point_of
from loraudit.spec import (
    ControlResult,
    DetectionResult,
    PersistenceResult,
    PoisonedRun,
    PoisonResult,
    RobustnessMatch,
    RobustnessSpec,
    Verdict,
)
from loraudit.statistics import detection_findings, rate_over_runs
from loraudit.types import Finding

_DETECTION = 33


class Examined(NamedTuple):
    """All figures.

    Attributes:
        runs: Every training run, checkpoint by checkpoint.
        matches: Methods compared, equal clean validation loss first.
        controls: Whether each attack worked on each method.
        persistence: What is left of backdoors.
        detection: How well detectors find the poison.
        warnings: What the methods could not be compared on.
    """

    runs: list[PoisonedRun]
    matches: list[RobustnessMatch]
    controls: list[ControlResult]
    persistence: list[PersistenceResult]
    detection: list[DetectionResult]
    warnings: list[str]


def examine(
    runs: Sequence[RunOutcomes],
    attacks: Sequence[PoisonResult],
    spec: RobustnessSpec,
    classes: Mapping[str, int],
    told: Sequence[Mapping[str, tuple[float, str | None]]],
) -> Examined:
    """Everything that the outcomes show.

    Args:
        runs: Every training run.
        attacks: As carried out.
        spec: Confidence, resamples and seed.
        classes: Training records of each label; empty for a language model.
        told: Of each run, what its detectors took in seconds and noted, by the names of their sets.
    """
    gold = runs[0].last.sets[CLEAN].gold
    guess = float(1 - np.bincount(gold).max() / len(gold)) if classes else None
    comparison = Comparison(spec, attacks, runs, guess)
    matches = comparison.matches()
    ways = comparison.ways()
    places = {way[0]: way[3] for way in reversed(ways)}
    judged = [(matches[0], ways[0][3])]
    if matches[0].kind != "best":
        judged.append((matches[-1], places["best"]))
    controls = [
        _control(comparison, judged, attack, method, classes) for attack in attacks for method in comparison.methods
    ]
    return Examined(
        [_run(run, spec) for run in runs],
        matches,
        controls,
        [found for run in runs for found in _persistence(run, spec)],
        [found for number, run in enumerate(runs) for found in _detection(run, spec, told[number], number)],
        comparison.learning.warnings,
    )


def _run(run: RunOutcomes, spec: RobustnessSpec) -> PoisonedRun:
    return PoisonedRun(
        method=run.method,
        attack=run.attack,
        dose=run.dose,
        n_poisoned=run.n_poisoned,
        is_control=run.is_control,
        seed=run.seed,
        n_steps=run.last.step,
        points=[point_of(checkpoint, confidence=spec.confidence) for checkpoint in run.checkpoints],
        collapsed=is_collapsed(run.last),
    )


# --- controls and verdicts ----------------------------------------------------------------------------


def _control(
    comparison: Comparison,
    judged: Sequence[tuple[RobustnessMatch, Place]],
    attack: PoisonResult,
    method: str,
    classes: Mapping[str, int],
) -> ControlResult:
    """The verdict at equal fit, or at the method's own best where that is worse.

    Harm that shows only at its own best is harm too, and what may not be called resisted there is not resisted. A
    method that does not reach the fit of the others is judged at its best, and never resists.
    """
    found = [_control_at(comparison, match, place, attack, method, classes) for match, place in judged]
    first, best = found[0], found[-1]
    if best is None:
        return ControlResult(
            attack=attack.name,
            method=method,
            positive=None,
            floor=None,
            natural=None,
            verdict="invalid",
            reasons=["No checkpoint of its clean arm can be compared."],
        )
    if first is None:
        verdict = "undecided" if best.verdict == "resisted" else best.verdict
        reasons = [*_at_best(best.reasons), "It does not reach the clean validation loss of the other methods."]
        return best.model_copy(update={"verdict": verdict, "reasons": reasons})
    if best.verdict == first.verdict or (best.verdict != "harmed" and first.verdict != "resisted"):
        return first
    return best.model_copy(update={"reasons": _at_best(best.reasons)})


def _at_best(reasons: Sequence[str]) -> list[str]:
    return [f"Where its own validation loss is lowest: {reasons[0][:1].lower()}{reasons[0][1:]}", *reasons[1:]]


def _control_at(
    comparison: Comparison,
    match: RobustnessMatch,
    place: Place,
    attack: PoisonResult,
    method: str,
    classes: Mapping[str, int],
) -> ControlResult | None:
    clean = comparison.read(place, method, None, 0.0)
    if clean is None:
        return None
    control = None
    if attack.goal == "backdoor":
        dose = comparison.spec.control_dose
        control = comparison.read(place, method, attack.name, dose, is_control=True)
    measure = judged_measure(attack, match)
    is_backdoor = attack.goal == "backdoor"
    positive = _rate(comparison, control, "attack_success", attack) if is_backdoor else None
    floor = _rate(comparison, clean, "attack_success", attack) if is_backdoor else None
    natural = _rate(comparison, clean, "untriggered", attack) if is_backdoor else None
    flaws = [trigger_flaw(attack), majority_flaw(attack.settings.target, classes)] if is_backdoor else []
    verdict: Verdict
    verdict, reasons = verdict_of_control(
        measure,
        poisoned_points(curve_of(match, attack.name, method, measure)),
        positive=positive,
        floor=floor,
        natural=natural,
        n_collapsed_clean=sum(clean.is_collapsed),
        n_collapsed_control=0 if control is None else sum(control.is_collapsed),
        flaws=[flaw for flaw in flaws if flaw is not None],
    )
    return ControlResult(
        attack=attack.name,
        method=method,
        positive=positive,
        floor=floor,
        natural=natural,
        verdict=verdict,
        reasons=reasons,
        decided_at=match.kind,
    )


def _rate(comparison: Comparison, read: Read | None, measure: Measure, attack: PoisonResult) -> Finding | None:
    rows = None if read is None else read.harm(measure, attack.name)
    return None if rows is None else comparison.over_runs(rows, measure).finding


# --- what is left of a backdoor -----------------------------------------------------------------------


def _persistence(run: RunOutcomes, spec: RobustnessSpec) -> list[PersistenceResult]:
    found: list[PersistenceResult] = []
    for name, checkpoint in run.after.items():
        if name not in PERSISTENCE:
            continue
        before, after = (_share(c, "attack_success", run.attack, spec) for c in (run.last, checkpoint))
        if run.attack is None or before is None or after is None:
            continue
        found.append(
            PersistenceResult(
                attack=run.attack,
                method=run.method,
                after=PERSISTENCE[name],
                dose=run.dose,
                success_before=before,
                success_after=after,
                accuracy_before=_share(run.last, "accuracy", None, spec),
                accuracy_after=_share(checkpoint, "accuracy", None, spec),
            )
        )
    return found


def _share(checkpoint: Checkpoint, measure: Measure, attack: str | None, spec: RobustnessSpec) -> Finding | None:
    values = per_record(checkpoint.sets, measure, attack)
    return None if values is None else rate_over_runs(values[None], confidence=spec.confidence).finding


def _detection(
    run: RunOutcomes, spec: RobustnessSpec, told: Mapping[str, tuple[float, str | None]], number: int
) -> list[DetectionResult]:
    checkpoint = run.after.get(DETECTED)
    if checkpoint is None or run.attack is None:
        return []
    results: list[DetectionResult] = []
    for position, (name, said) in enumerate(checkpoint.sets.items()):
        detector, _, finds = name.partition(":")
        seconds, note = told[name]
        found = detection_findings(
            said.values,
            said.gold.astype(bool),
            confidence=spec.confidence,
            n_resamples=spec.resamples,
            rng=np.random.default_rng([spec.seed, _DETECTION, number, position]),
        )
        results.append(
            DetectionResult(
                detector=detector,
                finds="inputs" if finds == "inputs" else "training records",
                attack=run.attack,
                method=run.method,
                n_poisoned=run.n_poisoned,
                # The time it takes to make an interval is no outcome.
                auroc=replace(found.auroc, seconds=0.0),
                tpr_at_fpr_1pct=replace(found.tpr, seconds=0.0),
                seconds=seconds,
                note=note,
            )
        )
    return results
