"""How target and reference come to be: which files, what relation, what must be loaded when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loraudit.errors import ModelError
from loraudit.models.comparison import HEADS, Difference, compare_checkpoints
from loraudit.models.fingerprint import count_parameters, fingerprint, has_tokenizer, tokenizer_fingerprint
from loraudit.models.loading import load_adapter, load_checkpoint, quiet_libraries
from loraudit.models.locate import Source, is_hub_name, locate
from loraudit.models.numerics import Numerics
from loraudit.models.resident import Resident, View, always, count_shared_layers, find_layers, swapped
from loraudit.spec import ModelSummary

TARGET = "target"
REFERENCE = "reference"
RECIPE_FILE = "loraudit_recipe.json"
DEFAULT_CONTEXT = 2048
_PROBE_TOKENS = 24
_SAME_LOGITS = 1e-5
_MOSTLY_CHANGED = 0.5

Loader = Callable[[Numerics, str], Resident]


class Memory(Protocol):
    """Where answers that are costly to find are kept between runs."""

    def recall(self, question: Mapping[str, Any]) -> Any | None:
        """The answer kept for this question, or None."""
        ...

    def remember(self, question: Mapping[str, Any], answer: Any) -> None:
        """Keep an answer."""
        ...


@dataclass
class ModelPlan:
    """What will be loaded, in stages of one resident copy each.

    Attributes:
        target: As the report names it.
        reference: Likewise, or None where no base is known.
        tokenizer_folder: Where the tokenizer is read from.
        tokenizer_fingerprint: Of its files.
        context_length: Longest input of the model in tokens; None where its config does not say.
        stages: (views, loader) pairs; a stage is loaded only if evidence of its views is missing.
        target_source: Files of the target.
        base_source: Files of the base; None where none is known.
        load_target: Loads what can speak as the target, and not more than that where it can be helped.
        n_parameters: Of the larger of the models that are in memory together.
        width: Size of a hidden state; None where its config does not say.
        warnings: What the report must say about these models.
        hashes: sha256 of each set of files that was loaded, by what it is.
        folders: Where those files are.
    """

    target: ModelSummary
    reference: ModelSummary | None
    tokenizer_folder: Path
    tokenizer_fingerprint: str
    context_length: int | None
    stages: list[tuple[tuple[str, ...], Loader]]
    target_source: Source
    base_source: Source | None
    load_target: Loader
    n_parameters: int
    width: int | None
    warnings: list[str] = field(default_factory=list[str])
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Options:
    offline: bool
    allow_pickle: bool
    allow_remote_code: bool

    def locate(self, name: str) -> Source:
        return locate(
            name,
            offline=self.offline,
            allow_pickle=self.allow_pickle,
            allow_remote_code=self.allow_remote_code,
        )

    def load(self, source: Source, numerics: Numerics, device: str) -> Any:
        return load_checkpoint(
            source,
            numerics,
            device,
            allow_pickle=self.allow_pickle,
            allow_remote_code=self.allow_remote_code,
        )


def plan_models(
    model: str,
    *,
    base: str | None = None,
    memory: Memory | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
    allow_remote_code: bool = False,
    allow_other_base: bool = False,
    alone: bool = False,
) -> ModelPlan:
    """Find target and reference and decide how few weights need to be in memory for both.

    - an adapter: base and adapter are one resident copy, the reference is the adapter switched off;
    - a checkpoint that shares at least half its tensors with the base: one resident copy, the changed
      tensors swapped; with only the head changed the body runs once for both;
    - any other checkpoint: target first, then base, one at a time.

    Args:
        model: Checkpoint or adapter; folder or hub name.
        base: What it was tuned from; needed where neither adapter nor recipe records it.
        memory: Keeps the comparison of two checkpoints between runs.
        offline: As `locate`.
        allow_pickle: As `locate`.
        allow_remote_code: As `locate`.
        allow_other_base: Accept a `base` other than the recorded one.
        alone: The model is itself a reference: a checkpoint is not compared with any base.

    Raises:
        ModelError: Target or base cannot be used, or do not belong together.
        EnvironmentFault: A hub name cannot be resolved.
    """
    options = _Options(offline, allow_pickle, allow_remote_code)
    target = options.locate(model)
    if target.kind == "adapter":
        plan = _plan_adapter(target, base, options, allow_other_base=allow_other_base)
    else:
        name = None if alone else base or _base_of_checkpoint(target)
        plan = _plan_checkpoint(target, name, base, options, memory, allow_other_base=allow_other_base)
    if allow_pickle:
        plan.warnings.append("Pickled weights were allowed (--allow-pickle).")
    if allow_remote_code:
        plan.warnings.append("Code that comes with the model was allowed to run (--allow-remote-code).")
    return plan


def load_tokenizer(folder: Path, *, allow_remote_code: bool = False) -> Any:
    """The tokenizer in `folder`.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=allow_remote_code, local_files_only=True
        )
    except Exception as error:  # every failure of the loader means the same here
        reason = str(error).strip().split("\n", 1)[0].rstrip(".")
        remedy = (
            "Read the code that comes with it, then accept it with --allow-remote-code."
            if "trust_remote_code" in str(error)
            else "Save or download it again."
        )
        raise ModelError(f"The tokenizer in '{folder}' cannot be loaded: {reason}. {remedy}") from error


def _summary(source: Source, kind: str, digest: str, **details: Any) -> ModelSummary:
    return ModelSummary(name=source.name, kind=kind, fingerprint=digest, details=details)


def context_length(config: Mapping[str, Any]) -> int | None:
    """Longest input in tokens that a `config.json` states; None where it states none."""
    config = {**(config.get("text_config") or {}), **config}
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        if isinstance(config.get(name), int):
            return config[name]
    return None


def _width(config: Mapping[str, Any]) -> int | None:
    config = {**(config.get("text_config") or {}), **config}
    found = config.get("hidden_size") or config.get("n_embd") or config.get("d_model")
    return found if isinstance(found, int) else None


def recorded_recipe(folder: Path) -> dict[str, Any]:
    """What loraudit's own fine-tuning recorded beside the weights, if it made them."""
    try:
        recipe = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


# --- adapters -----------------------------------------------------------------------------------------


def _plan_adapter(target: Source, given: str | None, options: _Options, *, allow_other_base: bool) -> ModelPlan:
    recorded = target.config.get("base_model_name_or_path") or None
    name = given or _recorded_base(target, recorded)
    base = options.locate(name)
    if base.kind != "checkpoint":
        raise ModelError(
            f"Base '{name}' is itself an adapter. Expected a full checkpoint; merge it first with merge_and_unload()."
        )
    base_digest = fingerprint(base.folder)
    how, warnings = _prove_base(target, base, given, recorded, base_digest, allow_other_base=allow_other_base)
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
        added = [
            name.removeprefix("base_model.model.")
            for name, _ in module.named_parameters()
            if f".{module.active_adapter}." in f"{name}."
        ]
        return _shared_copy(module, device, module.get_base_model(), added, module.disable_adapter)

    context = context_length(base.config)
    tokenizer_folder = target.folder if has_tokenizer(target.folder) else base.folder
    return ModelPlan(
        target=_summary(target, "adapter", _combine(base_digest, adapter_digest), **facts),
        reference=_summary(base, "base, as the adapter switched off", base_digest),
        tokenizer_folder=tokenizer_folder,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer_folder),
        context_length=context and context - (config.get("num_virtual_tokens") or 0),
        stages=[((TARGET, REFERENCE), load)],
        target_source=target,
        base_source=base,
        load_target=load,
        n_parameters=count_parameters(base.folder) + count_parameters(target.folder),
        width=_width(base.config),
        warnings=warnings,
        hashes={"base": base_digest, "adapter": adapter_digest},
        folders=(base.folder, target.folder),
    )


def _recorded_base(target: Source, recorded: str | None) -> str:
    if not recorded:
        raise ModelError(f"Adapter '{target.name}' records no base model. Give it with --base.")
    for place in (Path(recorded), target.folder / recorded):
        if (place / "config.json").exists():
            return str(place)
    if is_hub_name(recorded):
        return recorded
    raise ModelError(
        f"The base that adapter '{target.name}' records, '{recorded}', does not exist here. Give it with --base."
    )


def _prove_base(
    target: Source, base: Source, given: str | None, recorded: str | None, base_digest: str, *, allow_other_base: bool
) -> tuple[str, list[str]]:
    """How it is known that this is the base the target was trained on, and what the report must warn of.

    Raises:
        ModelError: It is not, and that was not allowed.
    """
    contradiction = None
    recorded_digest = recorded_recipe(target.folder).get("base_fingerprint")
    if recorded_digest and recorded_digest != base_digest:
        contradiction = f"'{target.name}' records a base with another content hash than '{base.name}' has"
    elif recorded_digest:
        return "content hash recorded at training", []
    elif given and recorded and given != recorded and is_hub_name(recorded) and base.is_from_hub:
        contradiction = f"'{target.name}' records base '{recorded}', but --base is '{given}'"
    if contradiction:
        if not allow_other_base:
            raise ModelError(
                f"Model {contradiction}. Give the base it was trained on with --base, or accept this one with "
                "--allow-other-base."
            )
        return "contradicted by the record", [f"Model {contradiction}; it was used all the same (--allow-other-base)."]
    if given is None or given == recorded or recorded is None:
        return "name recorded with the model" if recorded else "as given", []
    return "not proven", [
        f"Base not proven: the model records '{recorded}', and a local folder cannot be checked against that name."
    ]


# --- checkpoints --------------------------------------------------------------------------------------


def _plan_checkpoint(
    target: Source,
    name: str | None,
    given: str | None,
    options: _Options,
    memory: Memory | None,
    *,
    allow_other_base: bool,
) -> ModelPlan:
    digest = fingerprint(target.folder)
    context = context_length(target.config)
    if name is None:
        return ModelPlan(
            target=_summary(target, "checkpoint", digest),
            reference=None,
            tokenizer_folder=target.folder,
            tokenizer_fingerprint=tokenizer_fingerprint(target.folder),
            context_length=context,
            stages=[((TARGET,), _load_alone(target, TARGET, options))],
            target_source=target,
            base_source=None,
            load_target=_load_alone(target, TARGET, options),
            n_parameters=count_parameters(target.folder),
            width=_width(target.config),
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
    _, warnings = _prove_base(target, base, given, None, base_digest, allow_other_base=allow_other_base)
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
        target=_summary(target, kind, digest, base=base.name, tensors_changed=note),
        reference=_summary(base, "base checkpoint", base_digest),
        tokenizer_folder=tokenizer_folder,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer_folder),
        context_length=context,
        stages=stages,
        target_source=target,
        base_source=base,
        load_target=_load_alone(target, TARGET, options),
        n_parameters=count_parameters(target.folder) + (count_parameters(base.folder) if shares else 0),
        width=_width(target.config),
        warnings=warnings,
        hashes={"base": base_digest, "checkpoint": digest},
        folders=(base.folder, target.folder),
    )


def _base_of_checkpoint(target: Source) -> str | None:
    """A base that the checkpoint records and that is at hand without the network."""
    recorded = recorded_recipe(target.folder).get("base") or target.config.get("_name_or_path")
    if isinstance(recorded, str) and recorded and Path(recorded).is_dir():
        return None if Path(recorded).resolve() == target.folder.resolve() else recorded
    return None


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


def _load_alone(source: Source, view: str, options: _Options) -> Loader:
    def load(numerics: Numerics, device: str) -> Resident:
        module = options.load(source, numerics, device)
        return Resident(module, _input_device(module, device), {view: always(module)})

    return load


def _load_swapping(target: Source, base: Source, options: _Options) -> Loader:
    def load(numerics: Numerics, device: str) -> Resident:
        module = options.load(target, numerics, device)
        # Parameter by parameter as loaded, because loaders rename, split and tie what files store.
        original = dict(options.load(base, numerics, "cpu").named_parameters(remove_duplicate=False))
        tensors: dict[str, Any] = {}
        for name, parameter in module.named_parameters():
            if name not in original or original[name].shape != parameter.shape:
                raise ModelError(
                    f"Parameter '{name}' of model '{target.name}' has no counterpart in base '{base.name}'. "
                    "Save both with the installed transformers version."
                )
            value = original[name].data.to(parameter.device)
            if not value.equal(parameter.data):
                tensors[name] = value
        return _shared_copy(module, device, module, list(tensors), swapped(module, tensors))

    return load


def _shared_copy(module: Any, device: str, inner: Any, changed: list[str], as_reference: View) -> Resident:
    """One copy that gives both views; `changed` are the parameters of `inner` in which they differ."""
    layers = find_layers(inner)[1]
    n_shared = count_shared_layers(inner, changed) if changed else 0
    head = next((name for name, child in inner.named_modules() if child is inner.get_output_embeddings()), None)
    return Resident(
        module,
        _input_device(module, device),
        {TARGET: always(module), REFERENCE: as_reference},
        n_shared_layers=n_shared,
        shares_trunk=bool(layers)
        and n_shared == len(layers)
        and all(head is not None and name.startswith(f"{head}.") for name in changed),
        layers=layers,
    )


# --- shared -------------------------------------------------------------------------------------------


def _combine(*digests: str) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _input_device(module: Any, device: str) -> str:
    return str(module.get_input_embeddings().weight.device) if device == "balanced" else device


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
