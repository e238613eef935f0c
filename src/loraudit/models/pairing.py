"""A target and a reference that are two models of their own, loaded one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from loraudit.models.numerics import Numerics
from loraudit.models.plan import REFERENCE, TARGET, ModelPlan
from loraudit.models.resident import Resident
from loraudit.spec import ModelSummary


def with_reference(plan: ModelPlan, reference: ModelPlan, summary: ModelSummary) -> ModelPlan:
    """The target of one plan compared with the target of another.

    Both are loaded alone, the target first; the tokenizer is that of the target, so that both see the same tokens.
    What was scored of the target for an audit against its base is used again.

    Args:
        plan: Of the target.
        reference: Of a checkpoint or adapter to compare it with.
        summary: What the report says of that reference; its fingerprint is taken from the plan.
    """
    contexts = [length for length in (plan.context_length, reference.context_length) if length is not None]
    return replace(
        plan,
        reference=summary.model_copy(update={"fingerprint": reference.target.fingerprint}),
        context_length=min(contexts) if contexts else None,
        stages=[
            ((TARGET,), single_view(plan.load_target, TARGET)),
            ((REFERENCE,), single_view(reference.load_target, REFERENCE)),
        ],
        n_parameters=max(plan.n_parameters, reference.n_parameters),
        warnings=[*plan.warnings, *(words for words in reference.warnings if words not in plan.warnings)],
        hashes={**plan.hashes, "reference": reference.target.fingerprint},
        folders=tuple(dict.fromkeys((*plan.folders, *reference.folders))),
    )


def single_view(load: Callable[[Numerics, str], Resident], name: str) -> Callable[[Numerics, str], Resident]:
    """The same model, that can speak as nothing but `name`."""

    def load_single(numerics: Numerics, device: str) -> Resident:
        resident = load(numerics, device)
        return Resident(resident.module, resident.device, {name: resident.views[TARGET]}, layers=resident.layers)

    return load_single
