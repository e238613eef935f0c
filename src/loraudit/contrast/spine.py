"""A contrast from top to bottom."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loraudit.auditing import run_audit
from loraudit.auditing.columns import group_numbers
from loraudit.auditing.references.making import Workshop
from loraudit.auditing.request import Sides, load_data
from loraudit.contrast.comparison import Comparison
from loraudit.contrast.measuring import Meter
from loraudit.contrast.records import split_data
from loraudit.contrast.request import audit_request, check_request, contrast_path
from loraudit.contrast.runs import Trained, measured_run
from loraudit.contrast.shadows import ArmShadows
from loraudit.contrast.summary import whole_result, write_scores
from loraudit.contrast.training import Trainer, model_path
from loraudit.errors import LorauditError, StoreError
from loraudit.execution import Interrupted, Progress, Silent, StopRequest
from loraudit.finetuning import Arm, Bench, training_device
from loraudit.report import render_contrast_html, write_page
from loraudit.spec import (
    AuditSpec,
    ContrastResult,
    ContrastSpec,
)
from loraudit.store import EvidenceStore, RunFolder, open_private_folder, user_secret
from loraudit.store.finished_runs import Run


class ContrastRun(NamedTuple):
    """A finished contrast.

    Attributes:
        path: Its folder.
        result: `result.json`.
    """

    path: Path
    result: ContrastResult


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
            bench = Bench(
                spec.base, split.members, split.validation, device, spec.offline, progress, stop, copies=split.copies
            )
            trainer = Trainer(spec, bench, folder.path)
            meter = Meter(request, sides, folder.path / "scores", store, progress, stop)
            searches = {arm.name: trainer.choose_rate(arm) for arm in arms}
            shadows = _shadows_of(arms, request, sides, folder.path, store, progress, stop) if spec.shadow else {}
            # Seed by seed: stopped early, every method has been run as often as the others.
            trained = [
                measured_run(arm, searches[arm.name][0], spec.seed + k, trainer, meter, shadows.get(arm.name))
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
            digest = write_scores(folder, sides, trained, copies)
            result = whole_result(
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


def _whole_audits(
    arms: list[Arm],
    trained: list[Trained],
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
