"""LoRA and its variants, and any other PEFT method by its configuration file."""

from __future__ import annotations

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
    "rank", "alpha", "dropout", "targets", "rslora", "dora", "init", "init_variance", "freeze_a",
)  # fmt: skip
DEFAULT_INIT_VARIANCE = 1 / 3
_REWRITE_THE_BASE = ("pissa", "olora")
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
    if is_ours:
        _draw_a(adapted, recipe.init, recipe.init_variance or DEFAULT_INIT_VARIANCE)
    if recipe.freeze_a:
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name or ".lora_embedding_A." in name:
                parameter.requires_grad_(False)
    return adapted


def put_peft(model: Any, recipe: Recipe) -> Any:
    """`model` with the adapter that a PEFT configuration file describes.

    Raises:
        ConfigError: The file is none, or does not fit this model.
    """
    import peft

    path = Path(recipe.peft_config or "")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
    settings = {name: value for name, value in content.items() if name not in {"inference_mode", "task_type"}}
    try:
        config: Any = peft.PeftConfig.from_peft_type(**settings)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"PEFT configuration '{path}' is not understood: {error}. Mend that field.") from None
    return _wrap(model, config, recipe)


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
    if not any(parameter.requires_grad for parameter in adapted.parameters()):
        raise ConfigError(
            f"Method '{recipe.method}' would train nothing in {type(model).__name__}. Change targets or the PEFT "
            "configuration."
        )
    return adapted


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
        if not self._init.lower().startswith(_REWRITE_THE_BASE):
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
