"""The plan of an adapter: base and adapter are one copy, and the reference is the adapter switched off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from loraudit.errors import ModelError
from loraudit.models.fingerprint import count_parameters, fingerprint, has_tokenizer, tokenizer_fingerprint
from loraudit.models.loading import load_adapter, quiet_libraries
from loraudit.models.locate import Source
from loraudit.models.numerics import Numerics
from loraudit.models.plan import (
    REFERENCE,
    TARGET,
    LoadingOptions,
    ModelPlan,
    context_length,
    shared_copy,
    summary_of,
    width_of,
)
from loraudit.models.recorded import prove_base, recorded_base
from loraudit.models.resident import Resident

_PROBE_TOKENS = 24
_SAME_LOGITS = 1e-5


def plan_adapter(target: Source, given: str | None, options: LoadingOptions, *, allow_other_base: bool) -> ModelPlan:
    """One copy of the base with the adapter on it.

    Args:
        target: The adapter.
        given: Its base, as the user names it; None takes the recorded one.
        options: How to load.
        allow_other_base: Accept a base that the record contradicts.

    Raises:
        ModelError: No base is known, or it is not the adapter's.
    """
    recorded = target.config.get("base_model_name_or_path") or None
    name = given or recorded_base(target, recorded)
    base = options.locate(name)
    if base.kind != "checkpoint":
        raise ModelError(
            f"Base '{name}' is itself an adapter. Expected a full checkpoint; merge it first with merge_and_unload()."
        )
    base_digest = fingerprint(base.folder)
    how, warnings = prove_base(target, base, given, recorded, base_digest, allow_other_base=allow_other_base)
    adapter_digest = fingerprint(target.folder)
    config = target.config
    facts = {"type": config.get("peft_type"), "base": base.name, "base_evidence": how}
    for key in ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "init_lora_weights"):
        if key in config:
            facts[key] = config[key]

    def load(numerics: Numerics, device: str) -> Resident:
        bare = options.load(base, numerics, device)
        probe = _probe_ids(bare, _trained_tokens(config))
        before = _logits(bare, probe)
        module = load_adapter(bare, target, base.name)
        after = _logits(module, probe)
        with quiet_libraries(), module.disable_adapter():
            off = _logits(module, probe)
        if float((after - off).abs().max()) == 0:
            raise ModelError(
                f"Adapter '{target.name}' changes nothing: with it and without it the logits are the same. "
                "It was saved before training, or its weights were not loaded; audit a trained adapter."
            )
        gap = float((off - before).abs().max())
        if gap > _SAME_LOGITS:
            raise ModelError(
                f"Adapter '{target.name}' cannot be switched off: without it the logits differ from base "
                f"'{base.name}' by up to {gap:.2g}, so it rewrites the base's own weights (init_lora_weights = "
                f"{config.get('init_lora_weights')!r}, bias = {config.get('bias')!r}). Merge it with "
                "merge_and_unload() and audit the checkpoint with --base; PiSSA and OLoRA can instead be saved "
                "converted, with path_initial_model_for_weight_conversion."
            )
        # PEFT keeps what an adapter adds, copies of whole modules included, under the adapter's name.
        added = {
            name.removeprefix("base_model.model."): parameter
            for name, parameter in module.named_parameters()
            if f".{module.active_adapter}." in f"{name}."
        }
        inner, tuned = module.get_base_model(), list(added.values())
        return shared_copy(module, device, inner, list(added), module.disable_adapter, tuned)

    context = context_length(base.config)
    tokenizer_folder = target.folder if has_tokenizer(target.folder) else base.folder
    return ModelPlan(
        target=summary_of(target, "adapter", _combine(base_digest, adapter_digest), **facts),
        reference=summary_of(base, "base, as the adapter switched off", base_digest),
        tokenizer_folder=tokenizer_folder,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer_folder),
        context_length=context and context - (config.get("num_virtual_tokens") or 0),
        stages=[((TARGET, REFERENCE), load)],
        target_source=target,
        base_source=base,
        load_target=load,
        n_parameters=count_parameters(base.folder) + count_parameters(target.folder),
        width=width_of(base.config),
        n_tuned_parameters=count_parameters(target.folder),
        warnings=warnings,
        hashes={"base": base_digest, "adapter": adapter_digest},
        folders=(base.folder, target.folder),
    )


def _combine(*digests: str) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _trained_tokens(config: Mapping[str, Any]) -> list[int]:
    """Ids of single tokens whose embedding an adapter trains; a probe without them would see no change."""
    found = config.get("trainable_token_indices") or config.get("token_indices") or []
    groups = found.values() if isinstance(found, dict) else [found]
    return [int(i) for group in groups for i in group][: 2 * _PROBE_TOKENS]


def _probe_ids(module: Any, tokens: list[int]) -> Any:
    import torch

    embedding = module.get_input_embeddings().weight
    ids = (torch.arange(2 * _PROBE_TOKENS) * 7919 + 11) % embedding.shape[0]
    ids[: len(tokens)] = torch.tensor(tokens, dtype=ids.dtype)
    return ids.reshape(2, _PROBE_TOKENS).to(embedding.device)


def _logits(module: Any, ids: Any) -> Any:
    import torch

    with torch.inference_mode():
        logits = module(input_ids=ids, use_cache=False).logits
        return logits[:, -ids.shape[1] :].float()  # without the virtual tokens of a prompt-learning adapter
