"""The plan of a checkpoint: alone, beside its base, or as one copy with the changed tensors swapped."""

from __future__ import annotations

from typing import Any

from loraudit.errors import ModelError
from loraudit.models.comparison import HEADS, Difference, compare_checkpoints
from loraudit.models.fingerprint import count_parameters, fingerprint, has_tokenizer, tokenizer_fingerprint
from loraudit.models.locate import Source
from loraudit.models.numerics import Numerics
from loraudit.models.plan import (
    REFERENCE,
    TARGET,
    Loader,
    LoadingOptions,
    Memory,
    ModelPlan,
    context_length,
    input_device,
    shared_copy,
    summary_of,
    width_of,
)
from loraudit.models.recorded import prove_base
from loraudit.models.resident import Resident, always, swapped

_MOSTLY_CHANGED = 0.5


def plan_checkpoint(
    target: Source,
    name: str | None,
    given: str | None,
    options: LoadingOptions,
    memory: Memory | None,
    *,
    allow_other_base: bool,
) -> ModelPlan:
    """One copy where few tensors differ from the base, or first the target, then the base.

    Args:
        target: The checkpoint.
        name: Its base, given or recorded; None plans the checkpoint alone.
        given: The base as the user names it.
        options: How to load.
        memory: Keeps the comparison of both between runs.
        allow_other_base: Accept a base that the record contradicts.

    Raises:
        ModelError: Both are the same, or the base is not the checkpoint's.
    """
    digest = fingerprint(target.folder)
    context = context_length(target.config)
    if name is None:
        return ModelPlan(
            target=summary_of(target, "checkpoint", digest),
            reference=None,
            tokenizer_folder=target.folder,
            tokenizer_fingerprint=tokenizer_fingerprint(target.folder),
            context_length=context,
            stages=[((TARGET,), _load_alone(target, TARGET, options))],
            target_source=target,
            base_source=None,
            load_target=_load_alone(target, TARGET, options),
            n_parameters=count_parameters(target.folder),
            width=width_of(target.config),
            hashes={"checkpoint": digest},
            folders=(target.folder,),
        )
    base = options.locate(name)
    if base.kind != "checkpoint":
        raise ModelError(f"Base '{name}' is an adapter. Expected a full checkpoint.")
    base_digest = fingerprint(base.folder)
    if base_digest == digest:
        raise ModelError(
            f"Model '{target.name}' and base '{base.name}' are the same checkpoint. Give the fine-tuned one first."
        )
    _, warnings = prove_base(target, base, given, None, base_digest, allow_other_base=allow_other_base)
    difference = _difference(target, base, digest, base_digest, memory)
    kind, note = _describe(difference)
    if not difference.is_comparable:
        warnings.append(
            "Target and base have different architectures or tensor names; their tensors were not compared."
        )
    if difference.is_comparable and not difference.changed:
        raise ModelError(
            f"Model '{target.name}' has the same weights as base '{base.name}'. Give the fine-tuned checkpoint first."
        )
    shares = difference.is_comparable and len(difference.changed) <= _MOSTLY_CHANGED * difference.n_tensors
    stages: list[tuple[tuple[str, ...], Loader]]
    if shares:
        stages = [((TARGET, REFERENCE), _load_swapping(target, base, options))]
    else:
        stages = [
            ((TARGET,), _load_alone(target, TARGET, options)),
            ((REFERENCE,), _load_alone(base, REFERENCE, options)),
        ]
    tokenizer_folder = target.folder if has_tokenizer(target.folder) else base.folder
    return ModelPlan(
        target=summary_of(target, kind, digest, base=base.name, tensors_changed=note),
        reference=summary_of(base, "base checkpoint", base_digest),
        tokenizer_folder=tokenizer_folder,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer_folder),
        context_length=context,
        stages=stages,
        target_source=target,
        base_source=base,
        load_target=_load_alone(target, TARGET, options),
        n_parameters=count_parameters(target.folder) + (count_parameters(base.folder) if shares else 0),
        width=width_of(target.config),
        n_tuned_parameters=count_parameters(target.folder, difference.changed) if difference.is_comparable else None,
        warnings=warnings,
        hashes={"base": base_digest, "checkpoint": digest},
        folders=(base.folder, target.folder),
    )


def _difference(target: Source, base: Source, digest: str, base_digest: str, memory: Memory | None) -> Difference:
    question = {"question": "tensors changed", "target": digest, "base": base_digest}
    known = memory.recall(question) if memory else None
    if known:
        return Difference(tuple(known["changed"]), int(known["n_tensors"]), bool(known["is_comparable"]))
    difference = compare_checkpoints(target.folder, base.folder, target.config, base.config)
    if memory:
        memory.remember(
            question,
            {
                "changed": list(difference.changed),
                "n_tensors": difference.n_tensors,
                "is_comparable": difference.is_comparable,
            },
        )
    return difference


def _describe(difference: Difference) -> tuple[str, str]:
    if not difference.is_comparable:
        return "checkpoint", "not comparable"
    note = f"{len(difference.changed)} of {difference.n_tensors}"
    if len(difference.changed) == 1 and difference.changed[0] in HEADS:
        return "checkpoint, head only", note
    if len(difference.changed) <= _MOSTLY_CHANGED * difference.n_tensors:
        return "checkpoint, partly tuned", note
    return "checkpoint", note


def _load_alone(source: Source, view: str, options: LoadingOptions) -> Loader:
    def load(numerics: Numerics, device: str) -> Resident:
        module = options.load(source, numerics, device)
        return Resident(module, input_device(module, device), {view: always(module)})

    return load


def _load_swapping(target: Source, base: Source, options: LoadingOptions) -> Loader:
    def load(numerics: Numerics, device: str) -> Resident:
        module = options.load(target, numerics, device)
        # Parameter by parameter as loaded, because loaders rename, split and tie what files store.
        original = dict(options.load(base, numerics, "cpu").named_parameters(remove_duplicate=False))
        tensors: dict[str, Any] = {}
        tuned: list[Any] = []
        for name, parameter in module.named_parameters():
            if name not in original or original[name].shape != parameter.shape:
                raise ModelError(
                    f"Parameter '{name}' of model '{target.name}' has no counterpart in base '{base.name}'. "
                    "Save both with the installed transformers version."
                )
            value = original[name].data.to(parameter.device)
            if not value.equal(parameter.data):
                tensors[name] = value
                tuned.append(parameter)
        return shared_copy(module, device, module, list(tensors), swapped(module, tensors), tuned)

    return load
