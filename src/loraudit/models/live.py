"""A model that somebody else is training: looked at in place, and left exactly as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from loraudit.errors import ModelError, type_name
from loraudit.models.numerics import PRECISIONS, is_out_of_memory
from loraudit.models.plan import REFERENCE, TARGET, context_length
from loraudit.models.resident import Resident, View

_INITIALISATIONS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Others, such as PiSSA, OLoRA, CorDA and LoftQ, rewrite the base's own weights before training."""


def whole_module(module: Any) -> Any:
    """The model inside the wrappers that data parallelism and compilation put around it.

    Raises:
        ModelError: It is not there in one piece.
    """
    from accelerate.utils import extract_model_from_parallel

    refuse_shards(module)
    whole = extract_model_from_parallel(module)
    return getattr(whole, "_orig_mod", whole)


def refuse_shards(module: Any) -> None:
    """Refuse a model whose weights are spread over processes.

    One process alone would wait for the others for ever as soon as it runs such a model.

    Raises:
        ModelError: FSDP, DeepSpeed ZeRO-3 or tensor parallelism split its weights.
    """
    found = _sharding(module)
    if found:
        raise ModelError(
            f"The weights are spread over processes by {found}, so no process can run the model alone. Expected whole "
            "weights on each, as with one device, DDP, or DeepSpeed ZeRO-1 and -2. Train without AuditCallback and "
            "audit the saved checkpoints with: loraudit audit"
        )


def _sharding(module: Any) -> str | None:
    import torch

    if any(hasattr(parameter, "ds_id") for parameter in module.parameters()):
        return "DeepSpeed ZeRO-3"
    if not torch.distributed.is_available():
        return None
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    if any(isinstance(part, FullyShardedDataParallel) for part in module.modules()):
        return "FSDP"
    if any(isinstance(parameter, DTensor) for parameter in module.parameters()):
        return "FSDP or tensor parallelism"
    return None


def precision_of(module: Any) -> str:
    """Name of the precision its embeddings are held in."""
    dtype = str(module.get_input_embeddings().weight.dtype).removeprefix("torch.")
    return next((name for name, torch_name in PRECISIONS.items() if torch_name == dtype), "fp32")


def context_of(module: Any) -> int | None:
    """Its longest input in tokens; None where its config does not say."""
    context = context_length(module.config.to_dict())
    adapters = getattr(module, "peft_config", None)
    configs = adapters.values() if isinstance(adapters, Mapping) else ()
    n_virtual = max((getattr(config, "num_virtual_tokens", None) or 0 for config in configs), default=0)
    return context and context - n_virtual


def holds_its_base(module: Any) -> bool:
    """Whether the adapters switched off leave what training started from: no tensor of the base is or was changed."""
    import peft

    if not isinstance(module, peft.PeftModel | peft.PeftMixedModel):
        return False
    own = tuple(f".{name}." for name in module.peft_config)
    trains_base = any(
        parameter.requires_grad and not any(mark in f"{name}." for mark in own)
        for name, parameter in module.named_parameters()
    )
    initialisations = (getattr(config, "init_lora_weights", True) for config in module.peft_config.values())
    return not trains_base and all(how in _INITIALISATIONS_THAT_KEEP_THE_BASE for how in initialisations)


def live_resident(module: Any) -> Resident:
    """The model as it stands, as the target; and as its own reference where `holds_its_base`.

    Raises:
        ModelError: It is no causal language model.
    """
    head = getattr(module, "get_output_embeddings", lambda: None)()
    if head is None or not hasattr(module, "config"):
        raise ModelError(f"The model in training is {type_name(module)}. Expected a causal language model.")
    device = str(module.get_input_embeddings().weight.device)
    needs_autocast = not _runs_without_autocast(module)
    plain = contextlib.nullcontext if needs_autocast else _without_autocast

    @contextlib.contextmanager
    def as_it_stands() -> Iterator[None]:
        # Tensors made in inference mode could not be used in the training that goes on, where a model keeps some.
        import torch

        with torch.inference_mode(mode=False), torch.no_grad(), plain(module):
            yield

    @contextlib.contextmanager
    def switched_off() -> Iterator[None]:
        with as_it_stands(), module.disable_adapter():
            yield

    views: dict[str, View] = {TARGET: as_it_stands}
    if holds_its_base(module):
        views[REFERENCE] = switched_off
    return Resident(module, device, views, is_mixed=needs_autocast)


@contextlib.contextmanager
def _without_autocast(module: Any) -> Iterator[None]:
    """Without the mixed precision that accelerate wraps around `forward`: weights and activations as they are."""
    import torch

    original, kind = module.__dict__.get("_original_forward"), module.get_input_embeddings().weight.device.type
    wrapped = module.__dict__.get("forward")
    try:
        if original is not None:
            module.forward = original
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        if original is not None:
            module.forward = wrapped


def _runs_without_autocast(module: Any) -> bool:
    """Whether weights of several precisions do not need autocast to fit together."""
    import torch

    if "_original_forward" not in module.__dict__:
        return True
    ids = torch.zeros(1, 2, dtype=torch.long, device=module.get_input_embeddings().weight.device)
    try:
        with torch.no_grad(), _without_autocast(module):
            module(input_ids=ids)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return False
    return True


@contextlib.contextmanager
def undisturbed(module: Any) -> Iterator[None]:
    """Evaluation mode within; afterwards modes, `requires_grad` and random states are what they were.

    The modes are set one by one: `eval` and `train` of some modules do more than that, and a part that was frozen in
    evaluation mode must stay there.
    """
    modes = [(part, part.training) for part in module.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    with _random_states_kept(module):
        try:
            for part, _ in modes:
                part.training = False
            yield
        finally:
            for part, was_training in modes:
                part.training = was_training
            for parameter, was_trained in flags:  # switching an adapter on again sets them all
                if parameter.requires_grad != was_trained:
                    parameter.requires_grad_(was_trained)
            free_cache(module)


@contextlib.contextmanager
def _random_states_kept(module: Any) -> Iterator[None]:
    import torch

    device = module.get_input_embeddings().weight.device
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    on_cpu, of_python, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(on_cpu)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002 - kept for whoever trains, not used
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)


def free_cache(module: Any) -> None:
    """Give back the memory that blocks of other sizes than training's would hold."""
    import torch

    if module.get_input_embeddings().weight.device.type == "cuda":
        torch.cuda.empty_cache()
