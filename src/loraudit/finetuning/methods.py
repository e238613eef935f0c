"""Ways of tuning: which parameters are trained, and what is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loraudit.registry import Registry
from loraudit.spec import Recipe

Method = Callable[[Any, Recipe], Any]
"""(base model, recipe) → the module to train, its trained parameters marked by `requires_grad`."""

METHODS: Registry[Method] = Registry("tuning method")


def full(model: Any, recipe: Recipe) -> Any:
    """Every parameter is trained."""
    del recipe
    return model.requires_grad_(True)


def lora(model: Any, recipe: Recipe) -> Any:
    """Only low-rank updates of the target modules are trained (Hu et al. 2021, arXiv:2106.09685)."""
    import peft

    targets: Any = recipe.targets[0] if recipe.targets == ("all-linear",) else list(recipe.targets)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # PEFT says int and takes any number
        lora_dropout=recipe.dropout,
        target_modules=targets,
        task_type=peft.TaskType.CAUSAL_LM,
    )
    return peft.get_peft_model(model, config)


METHODS.add("full", full)
METHODS.add("lora", lora)
