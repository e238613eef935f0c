"""LoRA and its variants, and any other PEFT method by its configuration file."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from loraudit.errors import ConfigError
from loraudit.finetuning.heads import task_head_names
from loraudit.models.loading import quiet_libraries
from loraudit.spec import Recipe

LORA_SETTINGS = (
    "rank", "alpha", "dropout", "targets", "rslora", "dora", "init", "init_variance", "freeze_a", "spread",
)  # fmt: skip
DEFAULT_INIT_VARIANCE = 1 / 3
_REWRITE_THE_BASE = ("pissa", "olora")
_NEED_MORE = ("ADALORA", "XLORA")
_NEED_DATA = ("eva", "corda", "loftq", "lora_ga")
_PEFT_INIT: dict[str, bool | str] = {"kaiming": True, "gaussian": "gaussian"}


def put_lora(model: Any, recipe: Recipe) -> Any:
    """`model` with low-rank updates on its target modules.

    Entries of A start with variance c / n, n being the input width: uniform for `kaiming` (PEFT's own
    default, c = 1/3) and normal for `gaussian`, where PEFT's own would have the standard deviation 1 / rank.
    """
    import peft

    targets: Any = recipe.targets[0] if recipe.targets == ("all-linear",) else list(recipe.targets)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.scale,  # type: ignore[arg-type]  # PEFT says int and takes any number
        lora_dropout=recipe.dropout,
        target_modules=targets,
        use_rslora=recipe.rslora,
        use_dora=recipe.dora,
        init_lora_weights=_PEFT_INIT.get(recipe.init, recipe.init),  # type: ignore[arg-type]
    )
    adapted = _wrap(model, config, recipe)
    is_ours = recipe.init == "gaussian" or (recipe.init == "kaiming" and recipe.init_variance is not None)
    if is_ours and any(".lora_embedding_A." in name for name, _ in adapted.named_parameters()):
        raise ConfigError(
            f"init '{recipe.init}' with a stated variance does not apply to an embedding, whose A PEFT starts at 0. "
            "Leave the embedding out of the targets, or the variance out of the recipe."
        )
    if is_ours:
        _draw_a(adapted, recipe.init, recipe.init_variance or DEFAULT_INIT_VARIANCE)
    if recipe.freeze_a:
        freeze_a(adapted)
    return adapted


def freeze_a(adapted: Any) -> None:
    """Train B alone."""
    for name, parameter in adapted.named_parameters():
        if ".lora_A." in name or ".lora_embedding_A." in name:
            parameter.requires_grad_(False)


def put_peft(model: Any, recipe: Recipe) -> Any:
    """`model` with the adapter that a PEFT configuration file describes.

    Raises:
        ConfigError: The file is none, asks for more than a training loop gives, or does not fit this model.
    """
    import peft

    path, settings = recipe.peft_config, read_peft_config(recipe.peft_config or "")
    known = peft.PEFT_TYPE_TO_CONFIG_MAPPING.get(settings["peft_type"])
    unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(known)}) if known else []
    if unknown:
        raise ConfigError(
            f"PEFT configuration '{path}' is not understood: the installed PEFT knows no {', '.join(unknown)} for "
            f"{settings['peft_type']}. Mend that field."
        )
    try:
        config: Any = peft.PeftConfig.from_peft_type(**settings)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"PEFT configuration '{path}' is not understood: {error}. Mend that field.") from None
    init = str(settings.get("init_lora_weights", "")).lower()
    if settings["peft_type"] in _NEED_MORE or init.startswith(_NEED_DATA):
        what = settings["peft_type"] if settings["peft_type"] in _NEED_MORE else f"init_lora_weights = {init!r}"
        raise ConfigError(
            f"PEFT configuration '{path}' asks for {what}, which needs steps of its own before or during training. "
            "Train it with PEFT and audit the result, or choose another method."
        )
    return _wrap(model, config, recipe)


def rewrites_the_base(init: str) -> bool:
    """Whether an initialisation moves a part of the base's weights into the adapter."""
    return init.lower().startswith(_REWRITE_THE_BASE)


def read_peft_config(path: str) -> dict[str, Any]:
    """The settings in a PEFT configuration file.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"PEFT configuration '{path}' cannot be read: {error.strerror}. Check the path (--peft-config)."
        ) from None
    except ValueError as error:
        raise ConfigError(f"PEFT configuration '{path}' is no JSON: {error}. Mend it at that place.") from None
    if not isinstance(content, dict) or "peft_type" not in content:
        raise ConfigError(
            f"PEFT configuration '{path}' names no 'peft_type'. Expected a file such as the adapter_config.json that "
            "save_pretrained() of a PEFT model writes."
        )
    return {name: value for name, value in content.items() if name not in {"inference_mode", "task_type"}}


def virtual_tokens(recipe: Recipe) -> int:
    """Positions of the context that an adapter takes for itself."""
    found = read_peft_config(recipe.peft_config).get("num_virtual_tokens") if recipe.peft_config else None
    return found if isinstance(found, int) else 0


def _wrap(model: Any, config: Any, recipe: Recipe) -> Any:
    import peft

    is_classifier = recipe.task == "classification"
    config.task_type = peft.TaskType.SEQ_CLS if is_classifier else peft.TaskType.CAUSAL_LM
    if is_classifier and hasattr(config, "modules_to_save"):
        config.modules_to_save = sorted({*(config.modules_to_save or ()), *task_head_names(model)})
    try:
        with quiet_libraries():
            adapted: Any = peft.get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(
            f"Method '{recipe.method}' does not apply to {type(model).__name__}: {reason}. Change targets, init or the "
            "PEFT configuration."
        ) from None
    _refuse_rewritten(adapted)
    if not any(parameter.requires_grad for parameter in adapted.parameters()):
        raise ConfigError(
            f"Method '{recipe.method}' would train nothing in {type(model).__name__}. Change targets or the PEFT "
            "configuration."
        )
    return adapted


def _refuse_rewritten(adapted: Any) -> None:
    """PiSSA and OLoRA on layers where they cannot be told apart from the base afterwards.

    Raises:
        ConfigError: On an embedding, a head tied to it, a rank above the layer's width, or together with DoRA.
    """
    config = adapted.peft_config[adapted.active_adapter]
    init = str(getattr(config, "init_lora_weights", "")).lower()
    if not rewrites_the_base(init):
        return
    embedding = adapted.get_input_embeddings()
    embedding = getattr(embedding, "base_layer", embedding)
    reasons: list[str] = []
    if getattr(config, "use_dora", False):
        reasons.append("it cannot be saved together with DoRA")
    if getattr(config, "modules_to_save", None):
        reasons.append("what is trained beside it (a classification head) would not be saved")
    for name, part in adapted.named_modules():
        if not hasattr(part, "lora_A") or not hasattr(part, "get_base_layer"):
            continue
        weight = part.get_base_layer().weight
        where = name.removeprefix("base_model.model.")
        if part.get_base_layer() is embedding:
            reasons.append(f"'{where}' is an embedding")
        elif weight is embedding.weight:
            reasons.append(f"'{where}' shares its weights with the embedding")
        elif config.r > min(weight.shape):
            reasons.append(f"rank {config.r} is more than '{where}' has directions ({min(weight.shape)})")
        elif init == "olora" and getattr(part, "fan_in_fan_out", False):
            reasons.append(f"'{where}' stores its weights the other way round, which PEFT's OLoRA does not allow for")
    if reasons:
        raise ConfigError(
            f"Initialisation '{init}' does not apply to {type(adapted.get_base_model()).__name__} with this recipe: "
            f"{reasons[0]}. Change targets, rank or init."
        )


def _draw_a(adapted: Any, init: str, variance: float) -> None:
    import torch

    for name, parameter in adapted.named_parameters():
        if ".lora_A." not in name or parameter.ndim != 2:
            continue
        width = parameter.shape[1]
        with torch.no_grad():
            if init == "gaussian":
                parameter.normal_(std=math.sqrt(variance / width))
            else:
                bound = math.sqrt(3 * variance / width)
                parameter.uniform_(-bound, bound)


class Converter:
    """Keeps what PiSSA and OLoRA started from, so that they can be saved against the original base.

    Both take the leading part of each weight out of the base and into the adapter. Saved as they are, the
    adapter fits only that changed base; converted, it is a LoRA of twice the rank on the original.
    """

    def __init__(self, adapted: Any, recipe: Recipe) -> None:
        self._start: tempfile.TemporaryDirectory[str] | None = None
        self._init = recipe.init
        if recipe.method == "peft":
            self._init = str(getattr(adapted.peft_config[adapted.active_adapter], "init_lora_weights", ""))
        if not rewrites_the_base(self._init):
            return
        self._start = tempfile.TemporaryDirectory(prefix="loraudit-")
        config = adapted.peft_config[adapted.active_adapter]
        config.init_lora_weights = True
        with quiet_libraries():
            adapted.save_pretrained(self._start.name)
        config.init_lora_weights = self._init

    @property
    def options(self) -> dict[str, Any]:
        """For `save_pretrained` of the adapter."""
        return {"path_initial_model_for_weight_conversion": self._start.name} if self._start else {}

    def close(self) -> None:
        """Remove what was kept."""
        if self._start:
            self._start.cleanup()
