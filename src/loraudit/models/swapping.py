"""Several tuned models that are scored in a row: adapters of one form are swapped on one copy of their base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from loraudit.errors import ModelError
from loraudit.models.fingerprint import weight_files
from loraudit.models.numerics import Numerics
from loraudit.models.pairing import single_view
from loraudit.models.plan import Loader, ModelPlan
from loraudit.models.resident import Resident, swapped


@dataclass(frozen=True, slots=True)
class JointPlan:
    """Models to be scored one after the other; the part of a `ModelPlan` that scoring looks at.

    Attributes:
        fingerprints: Of each view's weights.
        stages: (views, loader) pairs.
        tokenizer_fingerprint: Of the tokenizer that cuts the records for all of them.
    """

    fingerprints: Mapping[str, str]
    stages: list[tuple[tuple[str, ...], Loader]]
    tokenizer_fingerprint: str


def plan_together(plans: Mapping[str, ModelPlan], tokenizer_fingerprint: str) -> JointPlan:
    """Each plan's target as a view of its name: LoRA adapters of one form and base on one copy, others one by one.

    Args:
        plans: By view.
        tokenizer_fingerprint: Of the tokenizer that cuts the records.
    """
    forms: dict[str, list[str]] = {}
    for name, plan in plans.items():
        is_lora = plan.target_source.kind == "adapter" and plan.target_source.config.get("peft_type") == "LORA"
        form = _form(plan) if is_lora else name
        forms.setdefault(form, []).append(name)
    return JointPlan(
        {name: plan.target.fingerprint for name, plan in plans.items()},
        [(tuple(names), _loader({name: plans[name] for name in names})) for names in forms.values()],
        tokenizer_fingerprint,
    )


def _form(plan: ModelPlan) -> str:
    """What adapters that fit each other's places have in common; PEFT writes lists of modules in any order."""
    config = plan.target_source.config.items()
    settings = {name: sorted(map(str, value)) if isinstance(value, list) else value for name, value in config}
    return json.dumps([plan.hashes["base"], settings], sort_keys=True)


def _loader(plans: Mapping[str, ModelPlan]) -> Loader:
    name, first = next(iter(plans.items()))
    return single_view(first.load_target, name) if len(plans) == 1 else _swapping_loader(plans)


def _swapping_loader(plans: Mapping[str, ModelPlan]) -> Loader:
    def load(numerics: Numerics, device: str) -> Resident:
        import peft
        from safetensors.torch import load_file

        resident = next(iter(plans.values())).load_target(numerics, device)
        module = resident.module
        kept = f".{module.active_adapter}."
        views = {}
        for name, plan in plans.items():
            tensors = load_file(weight_files(plan.target_source.folder)[0])
            left_over = peft.set_peft_model_state_dict(module, tensors).unexpected_keys
            if left_over:
                raise ModelError(
                    f"Adapter '{plan.target.name}' holds {len(left_over)} tensors that its form has no place for "
                    f"({left_over[0]}). Delete its folder; it is made again."
                )
            own = {key: tensor.data.clone() for key, tensor in module.named_parameters() if kept in f"{key}."}
            views[name] = swapped(module, own)
        return Resident(module, resident.device, views, layers=resident.layers)

    return load
