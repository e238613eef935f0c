"""One training run of a contrast and what every checkpoint of it gives away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loraudit.contrast.comparison import MeasuredRun
from loraudit.contrast.measuring import Meter
from loraudit.contrast.shadows import ArmShadows
from loraudit.contrast.training import Trainer
from loraudit.finetuning import Arm, Moment, TrainedModel


class Trained(NamedTuple):
    """One training run and what was measured along it."""

    arm: Arm
    seed: int
    model: TrainedModel
    measured: MeasuredRun


def measured_run(
    arm: Arm, rate: float, seed: int, trainer: Trainer, meter: Meter, shadows: ArmShadows | None
) -> Trained:
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
    return Trained(
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
