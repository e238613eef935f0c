"""Ways of tuning: which parameters are trained, and what is saved.

Each entry of `METHODS` states the recipe settings that belong to it, so that a setting that would have no
effect is refused instead of ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loraudit.errors import ConfigError
from loraudit.finetuning.adapters import LORA_SETTINGS, freeze_a, put_lora, put_peft
from loraudit.finetuning.heads import newly_made, task_head, untie_head
from loraudit.models.resident import find_layers
from loraudit.registry import Registry
from loraudit.spec import Recipe


@dataclass(frozen=True, slots=True)
class Method:
    """One way of tuning.

    Attributes:
        name: As registered.
        summary: What is trained, in one sentence.
        source: Where it was published.
        prepare: (base model, recipe) → the module to train, its trained parameters marked by `requires_grad`.
        settings: Fields of a recipe that only some methods have and this one does.
    """

    name: str
    summary: str
    source: str
    prepare: Callable[[Any, Recipe], Any]
    settings: frozenset[str] = frozenset()


METHODS: Registry[Method] = Registry("tuning method")


def check_settings(recipe: Recipe) -> Method:
    """The method of a recipe.

    Raises:
        ConfigError: It is unknown, or the recipe sets what has no effect with it; all of that is listed.
    """
    method = METHODS[recipe.method]
    special = {setting for other in METHODS.values() for setting in other.settings}
    defaults = {name: field.default for name, field in Recipe.model_fields.items()}
    problems = [
        f"'{name}' = {getattr(recipe, name)!r} has no effect with method '{recipe.method}'; it belongs to "
        f"{', '.join(other.name for other in METHODS.values() if name in other.settings)}. Leave it out."
        for name in sorted(special - method.settings)
        if getattr(recipe, name) != defaults[name]
    ]
    problems += [*_of_method(recipe), *_of_training(recipe), *_of_privacy(recipe), *_of_task(recipe, defaults)]
    if problems:
        raise ConfigError("\n".join(problems))
    return method


def mark_trained(module: Any, recipe: Recipe) -> Any:
    """A finished model, read back, with `requires_grad` on the parameters that its recipe trained and on no other.

    Args:
        module: A checkpoint or a `PeftModel`; returned.
        recipe: It was tuned by.
    """
    import peft

    if not isinstance(module, peft.PeftModel):
        return METHODS[recipe.method].prepare(module, recipe)
    module.requires_grad_(False)
    module.set_adapter(module.active_adapters[0])
    if recipe.freeze_a:
        freeze_a(module)
    return module


def _of_method(recipe: Recipe) -> list[str]:
    problems: list[str] = []
    if recipe.method == "peft" and recipe.peft_config is None:
        problems.append("Method 'peft' needs a configuration. Give its file with --peft-config.")
    if recipe.init_variance is not None and recipe.init not in {"kaiming", "gaussian"}:
        problems.append(
            f"'init_variance' has no effect with init '{recipe.init}', which sets its own scale. "
            "Expected init kaiming or gaussian. Leave it out."
        )
    if recipe.init == "orthogonal" and recipe.rank % 2:
        problems.append(f"Rank {recipe.rank} is odd. Expected an even rank with init orthogonal.")
    return problems


def _of_training(recipe: Recipe) -> list[str]:
    problems: list[str] = []
    if recipe.micro_batch_size and recipe.micro_batch_size > recipe.batch_size:
        problems.append(
            f"micro_batch_size {recipe.micro_batch_size} is more than batch_size {recipe.batch_size}. Expected at most "
            "that; leave it out."
        )
    if recipe.ngram_limit is None and recipe.ngram_length != Recipe.model_fields["ngram_length"].default:
        problems.append("'ngram_length' has no effect without 'ngram_limit'. Give both, or leave it out.")
    if recipe.ngram_limit is not None and recipe.select == "best":
        problems.append("select = 'best' and ngram_limit both choose the epoch that is kept. Give one of them.")
    late = [f"{epoch:g}" for epoch in recipe.checkpoint_epochs if epoch > recipe.epochs]
    if late:
        problems.append(f"checkpoint_epochs {', '.join(late)} lie beyond the {recipe.epochs} epochs. Leave them out.")
    return problems


def _of_privacy(recipe: Recipe) -> list[str]:
    problems: list[str] = []
    if recipe.is_private and recipe.packing:
        problems.append(
            "packing puts several records into one row, and differential privacy must tell their gradients apart. "
            "Leave it out."
        )
    if recipe.is_private and recipe.mixed_precision == "fp16":
        problems.append(
            "mixed_precision fp16 scales gradients, which differential privacy must bound. Use bf16 or fp32."
        )
    if recipe.is_private and recipe.ngram_limit is not None:
        problems.append(
            "ngram_limit chooses the epoch by looking at training records, which ε does not account for. Leave it out."
        )
    if recipe.is_private and recipe.spread:
        problems.append(
            "'spread' adds a gradient that belongs to no record, which differential privacy cannot bound. Leave it out."
        )
    if recipe.dp_epsilon is not None and recipe.dp_noise is not None:
        problems.append("'dp_epsilon' and 'dp_noise' were both given. One follows from the other; give one.")
    if not recipe.is_private:
        problems += [
            f"'{name}' has no effect without 'dp_epsilon' or 'dp_noise'. Give one of them."
            for name, is_given in (("dp_delta", recipe.dp_delta is not None), ("dp_repeatable", recipe.dp_repeatable))
            if is_given
        ]
    return problems


def _of_task(recipe: Recipe, defaults: dict[str, Any]) -> list[str]:
    if recipe.task == "classification":
        return [
            f"'{name}' belongs to causal language models and has no effect with classification. Leave it out."
            for name in ("packing", "token_drop", "ngram_limit", "append_eos", "span")
            if getattr(recipe, name) != defaults[name]
        ]
    if recipe.on_long != "error":
        long = "longer records of a language model are cut into windows and none of their tokens is lost"
        return [f"'on_long' belongs to classification; {long}. Leave it out."]
    return []


def _full(model: Any, recipe: Recipe) -> Any:
    del recipe
    return model.requires_grad_(True)


def _head(model: Any, recipe: Recipe) -> Any:
    if recipe.task == "classification":
        return _trained(model, task_head(model))
    untie_head(model)
    return _trained(model, [model.get_output_embeddings()])


def _last_k(model: Any, recipe: Recipe) -> Any:
    layers = find_layers(model)[1]
    if not layers:
        raise ConfigError(
            f"Method 'last_k' does not apply to {type(model).__name__}: its layers are not found. Use full, head or "
            "lora."
        )
    if recipe.layers > len(layers):
        raise ConfigError(
            f"layers = {recipe.layers} is out of range. Expected at most {len(layers)}, which this model has."
        )
    return _trained(model, [*layers[-recipe.layers :], *_classification_head(model, recipe)])


def _bitfit(model: Any, recipe: Recipe) -> Any:
    _trained(model, _classification_head(model, recipe))
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    if not biases:
        raise ConfigError(
            f"Method 'bitfit' does not apply to {type(model).__name__}: it has no bias. Use full, head or lora."
        )
    for parameter in biases:
        parameter.requires_grad_(True)
    return model


def _classification_head(model: Any, recipe: Recipe) -> list[Any]:
    """A new head is random; a method that left it untrained would be measured by what it cannot change."""
    return task_head(model) if recipe.task == "classification" else []


def _trained(model: Any, modules: list[Any]) -> Any:
    model.requires_grad_(False)
    for module in (*modules, *newly_made(model)):
        module.requires_grad_(True)
    return model


def _register(name: str, summary: str, source: str, prepare: Any, *settings: str) -> None:
    METHODS.add(name, Method(name, summary, source, prepare, frozenset(settings)))


_register("full", "Every parameter is trained.", "common practice", _full)
_register(
    "head",
    "The output head alone is trained; a head tied to the embedding is untied first.",
    "Mireshghallah et al. 2022, arXiv:2205.12506; arXiv:2506.20856",
    _head,
)
_register(
    "lora",
    "Low-rank updates of the target modules are trained, with their whole family of variants.",
    "Hu et al. 2021, arXiv:2106.09685",
    put_lora,
    *LORA_SETTINGS,
)
_register("last_k", "The last k layers are trained.", "common practice", _last_k, "layers")
_register("bitfit", "Bias terms alone are trained.", "Ben Zaken et al. 2022, arXiv:2106.10199", _bitfit)
_register("peft", "What a PEFT configuration file says is trained.", "the PEFT library", put_peft, "peft_config")
