"""What a contrast would take, before anything is trained."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loraudit.auditing.memorizing.estimate import MemorizationWork, memorization_work
from loraudit.auditing.preparation import requested_models, requested_tokenizer, requested_window
from loraudit.auditing.references.halves import requested_halves
from loraudit.auditing.request import Sides, load_data, power_statement
from loraudit.contrast.records import split_data
from loraudit.contrast.request import audit_request, check_request, contrast_path, measured_epochs
from loraudit.data import encode
from loraudit.finetuning import estimate_training, training_device
from loraudit.spec import AuditSpec, ContrastSpec
from loraudit.store import EvidenceStore


@dataclass(frozen=True, slots=True)
class ArmCost:
    """One method.

    Attributes:
        name: As asked for.
        n_steps: Of one training run.
        n_trained_parameters: Parameters that are trained.
        memory_bytes: Weights, gradients and optimiser while training.
        is_searched: Whether its learning rate has to be found first, in up to six short runs.
    """

    name: str
    n_steps: int
    n_trained_parameters: int
    memory_bytes: int
    is_searched: bool


@dataclass(frozen=True, slots=True)
class ContrastCost:
    """What a contrast would take.

    Attributes:
        path: Its run folder.
        n_members: Records trained on.
        n_nonmembers: Records held out for the audit.
        n_validation: Records held out for the validation loss.
        arms: Each method.
        n_runs: Training runs, searches not counted.
        n_steps: Steps of all of them together.
        n_measured: Checkpoints that will be scored.
        tokens_per_epoch: Trained on.
        power: What so many records can show.
        n_shadows: Shadow models of all methods together, at most: some may be kept from before.
        n_shadow_steps: Steps of all of them, about.
        memorization: What all methods and the base together generate, search and compare, at most; None where no
            memorization was asked for.
    """

    path: str
    n_members: int
    n_nonmembers: int
    n_validation: int
    arms: list[ArmCost]
    n_runs: int
    n_steps: int
    n_measured: int
    tokens_per_epoch: int
    power: str
    n_shadows: int = 0
    n_shadow_steps: int = 0
    memorization: MemorizationWork | None = None


def estimate_contrast(spec: ContrastSpec) -> ContrastCost:
    """Check everything that shows before the first step, and count.

    Raises:
        LorauditError: As `run_contrast`.
    """
    arms = check_request(spec)
    training_device(spec.device)
    with tempfile.TemporaryDirectory(prefix="loraudit-") as scratch:
        split = split_data(spec, Path(scratch) / "records")
        request = audit_request(spec, split, Path(scratch), EvidenceStore(Path(scratch) / "store"))
        sides: Sides = load_data(request)
        costs = [
            estimate_training(
                spec.base,
                split.members,
                arm.recipe,
                validation=split.validation,
                copies=split.copies,
                offline=spec.offline,
            )
            for arm in arms
        ]
        parts = requested_halves(request, sides).parts if spec.shadow else []
        memorization = _memorization(request, spec.base, sides, len(arms)) if spec.memorization else None
    n_runs = sum(arm.seeds for arm in arms)
    return ContrastCost(
        path=str(contrast_path(spec)),
        n_members=len(split.members),
        n_nonmembers=len(split.nonmembers),
        n_validation=len(split.validation),
        arms=[
            ArmCost(arm.name, cost.n_steps, cost.n_trained_parameters, cost.memory_bytes, not arm.has_rate)
            for arm, cost in zip(arms, costs, strict=True)
        ],
        n_runs=n_runs,
        n_steps=sum(arm.seeds * cost.n_steps for arm, cost in zip(arms, costs, strict=True)),
        n_measured=n_runs * len(measured_epochs(spec)),
        tokens_per_epoch=max(cost.n_tokens for cost in costs),
        power=power_statement(sides, request),
        n_shadows=spec.shadow * len(arms),
        n_shadow_steps=sum(
            math.ceil(cost.n_steps * len(part.records) / len(split.members)) for cost in costs for part in parts
        ),
        memorization=memorization,
    )


def _memorization(request: AuditSpec, base: str, sides: Sides, n_arms: int) -> MemorizationWork:
    """By one model of each method, and once by the base that all share."""
    of_base = request.model_copy(update={"model": base, "base": None})
    plan = requested_models(of_base, None)
    max_length, _ = requested_window(of_base, plan)
    tokenizer = requested_tokenizer(of_base, plan)
    encoded = encode(sides.records, tokenizer, span=request.span, append_eos=request.append_eos)
    return memorization_work(request, sides, encoded, max_length, tokenizer, n_targets=n_arms, n_bases=1)
