"""A contrast from top to bottom."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import shlex
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from loraudit.auditing import run_audit
from loraudit.auditing.columns import group_numbers
from loraudit.auditing.references.making import Workshop
from loraudit.auditing.request import Sides, load_data, shadow_count_problems
from loraudit.auditing.summary import library_versions
from loraudit.contrast.arms import Arm, parse_arms
from loraudit.contrast.comparison import Comparison, MeasuredRun
from loraudit.contrast.measuring import Meter
from loraudit.contrast.records import Split, split_data
from loraudit.contrast.shadows import ArmShadows
from loraudit.contrast.training import Trainer, model_path
from loraudit.contrast.words import verdict_words
from loraudit.errors import ConfigError, LorauditError, StoreError, scrubbed
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.finetuning import Moment, TrainedModel, training_device
from loraudit.membership import ATTACKS, SHADOWS, needed_words
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.report import render_contrast_html, write_page
from loraudit.spec import (
    ArmResult,
    ArmRun,
    AuditSpec,
    ContrastResult,
    ContrastSpec,
    TriedRate,
    spec_hash,
)
from loraudit.store import EvidenceStore, RunFolder, open_private_folder, shown_ids, user_secret
from loraudit.store.identity import run_key
from loraudit.store.run_folder import Run

_AS_IN_AN_AUDIT = {
    "base", "span", "append_eos", "max_length", "attacks", "headline", "resamples", "confidence", "attack_timeout",
    "seed", "device", "precision", "batch_tokens", "offline", "shadow", "pool",
}  # fmt: skip
"""Fields that mean the same in a contrast and in the audit of one of its checkpoints."""


class ContrastRun(NamedTuple):
    """A finished contrast.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: ContrastResult


class _Trained(NamedTuple):
    """One training run and what was measured along it."""

    arm: Arm
    seed: int
    model: TrainedModel
    measured: MeasuredRun


def contrast_path(spec: ContrastSpec) -> Path:
    """The run folder: the one named, or `runs/contrast-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"contrast-{spec_hash(spec)[:12]}"


def run_contrast(
    spec: ContrastSpec,
    *,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> ContrastRun:
    """Tune one base by several methods on the same records and compare what they leak.

    The same request again resumes: training from its last state, measuring from the last checkpoint.

    Args:
        spec: The request.
        progress: Told how far it is.
        stop: Asked between steps and batches.
        command: How it was started, for the report.

    Raises:
        LorauditError: The request, the data, the base or the machine do not allow it.
        Interrupted: A stop was asked for; what is finished is kept.
    """
    progress = progress or Silent()
    began, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    arms = check_request(spec)
    device = training_device(spec.device)
    folder = RunFolder(contrast_path(spec), spec)
    store = EvidenceStore(Path(spec.store) if spec.store else folder.path.parent / ".loraudit")
    user_secret()
    with folder.lock():
        folder.write_spec()
        folder.log("started", command=command)
        try:
            split = split_data(spec, folder.path / "records")
            request = audit_request(spec, split, folder.path, store)
            sides = load_data(request)
            trainer = Trainer(spec, split, folder.path, device, progress, stop)
            meter = Meter(request, sides, folder.path / "scores", store, progress, stop)
            searches = {arm.name: trainer.choose_rate(arm) for arm in arms}
            shadows = _shadows_of(arms, request, sides, folder.path, store, progress, stop) if spec.shadow else {}
            # Seed by seed: stopped early, every method has been run as often as the others.
            trained = [
                _measured_run(arm, searches[arm.name][0], spec.seed + k, trainer, meter, shadows.get(arm.name))
                for k in range(max(arm.seeds for arm in arms))
                for arm in arms
                if k < arm.seeds
            ]
            trained.sort(key=lambda run: [arm.name for arm in arms].index(run.arm.name))
            audits = _whole_audits(arms, trained, request, folder.path, progress, stop)
            if not spec.keep_checkpoints:
                for each in shadows.values():
                    each.let_go()
            progress.say("Comparing the methods")
            copies = np.array([split.copies.get(record.id, 1) for record in sides.records])
            groups = group_numbers([record.group for record in sides.records])
            comparison = Comparison(spec, [run.measured for run in trained], sides.is_member, groups, copies)
            folder.reopen()
            digest = _write_scores(folder, sides, trained, copies)
            result = _result(
                spec=spec,
                folder=folder,
                split=split,
                sides=sides,
                arms=arms,
                searches=searches,
                trained=trained,
                audits=audits,
                comparison=comparison,
                digest=digest,
                command=command or f"loraudit contrast --spec {shlex.quote(str(folder.path / 'spec.json'))}",
                started=started.isoformat(timespec="seconds"),
                seconds=round(time.perf_counter() - began, 2),
            )
            write_page(folder.path, render_contrast_html(result))
            folder.write_result(result)
            folder.log("finished", seconds=result.seconds)
        except (LorauditError, Interrupted) as error:
            with contextlib.suppress(StoreError):  # on a full disk the reason to stop matters, not the log
                folder.log("stopped", reason=f"{type(error).__name__}: {error}")
            raise
    return ContrastRun(folder.path, result)


def check_request(spec: ContrastSpec) -> list[Arm]:
    """The methods; all that is wrong with the request's names and files is said at once.

    Raises:
        ConfigError: Anything is.
    """
    problems = [
        f"File '{path}' does not exist. Expected records; check the path."
        for path in spec.data
        if not Path(path).is_file()
    ]
    problems += shadow_count_problems(spec.shadow, spec.pool)
    wrong = [epoch for epoch in spec.at_epochs if epoch > spec.epochs]
    if wrong:
        problems.append(f"--at-epochs {', '.join(map(str, wrong))} is beyond the {spec.epochs} epochs trained.")
    named = [ATTACKS[name] for name in (spec.headline, *spec.attacks) if name in ATTACKS]
    problems.extend(
        f"Attack '{attack.name}' needs more than a model and its base ({needed_words(attack)}). Expected attacks that "
        "look at these two, or at shadow models with --shadow; single models can be audited by it with: loraudit audit"
        for attack in named
        if not set(attack.needs) <= ({TARGET, REFERENCE, SHADOWS} if spec.shadow else {TARGET, REFERENCE})
    )
    arms: list[Arm] = []
    try:
        arms = parse_arms(spec)
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return arms


def audit_request(spec: ContrastSpec, split: Split, folder: Path, store: EvidenceStore) -> AuditSpec:
    """The audit that every checkpoint gets, but for the model."""
    # A rate asked for that the records cannot resolve is refused; a default one only in words.
    asked = {*_AS_IN_AN_AUDIT, "fpr"} if "fpr" in spec.model_fields_set else _AS_IN_AN_AUDIT
    return AuditSpec(
        model="",
        members=(split.paths["members"],),
        nonmembers=(split.paths["nonmembers"],),
        out=str(folder),
        store=str(store.root),
        **{name: getattr(spec, name) for name in asked},
        **split.layout.model_dump(include={"group_field", "subgroup_field", "id_field"}),
    )


def _shadows_of(
    arms: list[Arm],
    request: AuditSpec,
    sides: Sides,
    folder: Path,
    store: EvidenceStore,
    progress: Progress,
    stop: StopRequest | None,
) -> dict[str, ArmShadows]:
    """Shadows of each method, by its name: those that an audit of its first model would have."""
    workshop = Workshop()
    return {
        arm.name: ArmShadows(
            request.model_copy(update={"model": str(model_path(folder, arm, request.seed))}),
            sides,
            arm.recipe.checkpoint_epochs,
            store,
            workshop,
            progress,
            stop,
        )
        for arm in arms
    }


def _measured_run(
    arm: Arm, rate: float, seed: int, trainer: Trainer, meter: Meter, shadows: ArmShadows | None
) -> _Trained:
    """One training run; every checkpoint of it is scored, and its weights are then let go."""
    model = trainer.run(arm, rate, seed)
    if any(
        not meter.knows(name, key) and not where.exists()
        for _, where, name, key in _checkpoints(arm, seed, model, shadows)
    ):  # scores that are damaged, or lack an attack installed since, of weights that were let go
        model = trainer.run(arm, rate, seed, again=True)
    checkpoints = _checkpoints(arm, seed, model, shadows)
    moments = [moment for moment, _, _, _ in checkpoints]
    scores = [
        meter.measure(where, name, key, epoch=moment.epoch, is_final=moment.step == model.chosen.step, shadows=shadows)
        for moment, where, name, key in checkpoints
    ]
    if not trainer.spec.keep_checkpoints:
        shutil.rmtree(model.path / "training" / "checkpoints", ignore_errors=True)
    scores = [meter.untouched(model.facts["made_from"]), *scores]
    is_member = meter.sides.is_member
    untouched = model.moments[0]
    return _Trained(
        arm,
        seed,
        model,
        MeasuredRun(
            arm=arm.name,
            seed=seed,
            epochs=np.array([moment.epoch for moment in (untouched, *moments)], dtype=np.float64),
            steps=np.array([moment.step for moment in (untouched, *moments)]),
            validation=np.array([moment.validation_loss for moment in (untouched, *moments)], dtype=np.float64),
            members=np.array([each.mean_loss(is_member) for each in scores]),
            nonmembers=np.array([each.mean_loss(~is_member) for each in scores]),
            scores=scores,
        ),
    )


def _checkpoints(
    arm: Arm, seed: int, model: TrainedModel, shadows: ArmShadows | None
) -> list[tuple[Moment, Path, str, dict[str, Any]]]:
    """Each measured moment of a run, where its weights are, the name of its scores and what they rest on."""
    compared_with = {"shadows": shadows.identity} if shadows else {}
    return [
        (
            moment,
            model.path if moment.step == model.chosen.step else model.path / moment.checkpoint,
            f"{arm.slug}-seed{seed}-step{moment.step:06d}",
            {**model.facts["made_from"], "step": moment.step, **compared_with},
        )
        for moment in model.moments
        if moment.step and moment.checkpoint
    ]


def _whole_audits(
    arms: list[Arm],
    trained: list[_Trained],
    request: AuditSpec,
    folder: Path,
    progress: Progress,
    stop: StopRequest | None,
) -> dict[str, Run]:
    """A run folder of its own for the first model of each method: gates, single records, all figures."""
    found: dict[str, Run] = {}
    open_private_folder(folder / "audits")
    for arm in arms:
        first = next(run for run in trained if run.arm is arm)
        progress.say(f"Auditing {arm.name} in full")
        wanted = request.model_copy(update={"model": str(first.model.path), "out": str(folder / "audits" / arm.slug)})
        found[arm.name] = run_audit(wanted, progress=progress, stop=stop)
    return found


def _write_scores(folder: RunFolder, sides: Sides, trained: list[_Trained], copies: np.ndarray) -> str:
    """`scores.parquet`: one row per record, method, seed and checkpoint; its sha256."""
    ids = pa.array(shown_ids(sides.records, run_key(folder.hash))).dictionary_encode()
    parts: list[pa.Table] = []
    for position, run in enumerate(trained):
        first = 0 if position == 0 else 1  # the untouched base is the same for all
        for step, epoch, scores in list(zip(run.measured.steps, run.measured.epochs, run.measured.scores, strict=True))[
            first:
        ]:
            n = len(sides.records)
            columns = {
                "id": ids,
                "is_member": pa.array(sides.is_member),
                "n_copies": pa.array(np.where(sides.is_member, copies, 0)),
                "arm": pa.array(["base" if step == 0 else run.arm.name] * n).dictionary_encode(),
                "seed": pa.array(np.full(n, run.seed), pa.int32()),
                "step": pa.array(np.full(n, step), pa.int32()),
                "epoch": pa.array(np.full(n, epoch), pa.float32()),
                "loss": pa.array(scores.losses),
                **{name: pa.array(values) for name, values in scores.attacks.items()},
            }
            parts.append(pa.table(columns))
    folder.write_table("scores.parquet", pa.concat_tables(parts).unify_dictionaries())
    return hashlib.sha256((folder.path / "scores.parquet").read_bytes()).hexdigest()


def _result(
    *,
    spec: ContrastSpec,
    folder: RunFolder,
    split: Split,
    sides: Sides,
    arms: list[Arm],
    searches: dict[str, tuple[float, list[TriedRate]]],
    trained: list[_Trained],
    audits: dict[str, Run],
    comparison: Comparison,
    digest: str,
    **facts: Any,
) -> ContrastResult:
    first = next(iter(audits.values())).result
    matches = comparison.matches()
    heading, sentence = verdict_words(spec, matches)
    arm_results = [
        _arm_result(arm, searches[arm.name], trained, audits[arm.name], comparison, folder.path) for arm in arms
    ]
    warnings = [
        f"{arm.name}, seed {run.seed}: stopped early, because {run.stopped_because}."
        for arm in arm_results
        for run in arm.runs
        if run.stopped_because
    ]
    warnings += [
        f"{arm.name} gets to the same validation loss after {arm.epoch:.2f} epochs, before it has seen every member: "
        "those still unseen count as members, which lowers its leakage there. A lower learning rate or more epochs "
        "for all methods moves the level."
        for arm in (matches[0].arms if matches[0].kind == "validation_loss" else ())
        if arm.epoch is not None and arm.epoch < 1
    ]
    single = [arm.name for arm in arms if arm.seeds == 1]
    if single:
        who = "per method" if len(single) == len(arms) else f"of {' and '.join(single)}"
        warnings.append(f"One training run {who}: how training falls out by chance is in no interval (--seeds).")
    result = ContrastResult(
        loraudit=importlib.metadata.version("loraudit"),
        spec=spec,
        spec_hash=folder.hash,
        base=first.reference or first.target,
        n_members=len(sides.members.records),
        n_nonmembers=len(sides.nonmembers.records),
        n_validation=len(split.validation),
        data=list(split.files),
        base_validation_loss=float(trained[0].measured.validation[0]),
        heading=heading,
        sentence=sentence,
        arms=arm_results,
        matches=matches,
        exposure=comparison.exposure(matches),
        validity=first.validity,
        numerics=first.numerics,
        versions=library_versions(),
        scores=digest,
        warnings=warnings,
        **facts,
    )
    return ContrastResult.model_validate_json(scrubbed(result.model_dump_json()))


def _arm_result(
    arm: Arm,
    search: tuple[float, list[TriedRate]],
    trained: list[_Trained],
    audit: Run,
    comparison: Comparison,
    folder: Path,
) -> ArmResult:
    mine = [run for run in trained if run.arm is arm]
    facts = mine[0].model.facts
    return ArmResult(
        name=arm.name,
        method=arm.recipe.method,
        recipe=facts["recipe"],
        learning_rate=search[0],
        search=search[1],
        n_trained_parameters=facts["n_trained_parameters"],
        n_parameters=facts["n_parameters"],
        runs=[
            ArmRun(
                seed=run.seed,
                model=str(run.model.path.relative_to(folder)),
                points=comparison.points(run.measured),
                n_steps=run.model.facts["n_steps"],
                stopped_because=run.model.facts["stopped_because"],
                epsilon=(run.model.facts["privacy"] or {}).get("epsilon"),
            )
            for run in mine
        ],
        audit=str(audit.path.relative_to(folder)),
    )
