"""The model that training starts from: loaded whole, its method's parts put on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraudit.errors import ConfigError
from loraudit.finetuning.adapters import Converter, rewrites_the_base, virtual_tokens
from loraudit.finetuning.heads import mark_new
from loraudit.finetuning.methods import check_settings
from loraudit.models import Numerics, fingerprint, load_tokenizer
from loraudit.models.loading import load_checkpoint, load_classifier, quiet_libraries
from loraudit.models.locate import Source
from loraudit.models.plan import context_length
from loraudit.spec import Recipe

DEFAULT_WINDOW = 1024
_DROPOUT_NAMES = ("dropout", "pdrop", "dropout_prob")


@dataclass
class Trainable:
    """A model ready to be trained.

    Attributes:
        module: Trained parameters are marked by `requires_grad`.
        converter: Saves adapters that started by rewriting the base.
        n_trained: Parameters that are trained.
        n_parameters: All of them.
    """

    module: Any
    converter: Converter
    n_trained: int
    n_parameters: int


class ResidentBase:
    """A base that stays in memory from one training run to the next.

    LoRA never changes the weights it is put on, so it is taken off again and the next run begins with the same
    copy. For everything else the base is read anew. Its hash and tokenizer are found once.

    Args:
        keeps_weights: False for hash and tokenizer alone, where something else needs the memory between runs.
    """

    def __init__(self, *, keeps_weights: bool = True) -> None:
        self._keeps_weights = keeps_weights
        self._free: tuple[Path, str, Any] | None = None
        self._fingerprints: dict[Path, str] = {}
        self._tokenizers: dict[Path, Any] = {}

    def fingerprint(self, source: Source) -> str:
        """Of the base's files, when they were first asked for."""
        if source.folder not in self._fingerprints:
            self._fingerprints[source.folder] = fingerprint(source.folder)
        return self._fingerprints[source.folder]

    def tokenizer(self, source: Source) -> Any:
        """The base's own."""
        if source.folder not in self._tokenizers:
            self._tokenizers[source.folder] = load_tokenizer(source.folder)
        return self._tokenizers[source.folder]

    def take(self, source: Source, device: str) -> Any:
        """The bare model for one run, which gives it back or does not."""
        free, self._free = self._free, None
        if free is not None and free[:2] == (source.folder, device):
            return free[2]
        return load_checkpoint(source, training_numerics(device), device)

    def give_back(self, trained: Any, source: Source, recipe: Recipe, device: str) -> None:
        """Take the adapter off; a model whose own parts may have been changed is let go."""
        is_untouched = (
            self._keeps_weights
            and recipe.method == "lora"
            and recipe.task == "causal_lm"
            and recipe.model_dropout is None
            and not recipe.is_private
            and not rewrites_the_base(recipe.init)
        )
        if is_untouched:
            with quiet_libraries():
                bare = trained.unload()
            self._free = (source.folder, device, bare.requires_grad_(False).eval())


def training_numerics(device: str) -> Numerics:
    """Weights are trained in full precision, whatever products are computed in."""
    return Numerics(device.split(":", maxsplit=1)[0], "fp32")


def make_trainable(
    source: Source,
    recipe: Recipe,
    device: str,
    labels: tuple[str, ...],
    pad_id: int | None,
    resident: ResidentBase | None = None,
) -> Trainable:
    """Load a base and put the recipe's method on it; the caller has seeded torch.

    Raises:
        ConfigError: The recipe does not apply to this model.
        ModelError: The base cannot be loaded.
    """
    method = check_settings(recipe)
    if recipe.task == "classification":
        bare, new = load_classifier(source, training_numerics(device), device, labels, pad_id)
        mark_new(bare, new)
    else:
        bare = (resident or ResidentBase()).take(source, device)
    if recipe.model_dropout is not None:
        set_dropout(bare, recipe.model_dropout)
    with quiet_libraries():
        module = method.prepare(bare, recipe)
    module.to(device)
    trained = [p for p in module.parameters() if p.requires_grad]
    return Trainable(
        module,
        Converter(module, recipe),
        sum(p.numel() for p in trained),
        sum(p.numel() for p in module.parameters()),
    )


def set_dropout(model: Any, share: float) -> None:
    """Set every dropout that the model's configuration names, and the layers built from them.

    Raises:
        ConfigError: The architecture has none.
    """
    import torch

    config = model.config.get_text_config()
    names = [
        name
        for name, value in config.to_dict().items()
        if name.endswith(_DROPOUT_NAMES) and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    kept_as_numbers = [
        (part, name) for part in model.modules() for name in ("attention_dropout", "dropout") if _is_share(part, name)
    ]
    if not names and not layers:
        raise ConfigError(f"model_dropout does not apply to {type(model).__name__}: it has no dropout. Leave it out.")
    for name in names:
        setattr(config, name, share)
    for layer in layers:
        layer.p = share
    for part, name in kept_as_numbers:
        setattr(part, name, share)


def _is_share(part: Any, name: str) -> bool:
    return isinstance(part.__dict__.get(name), float)


def window_length(recipe: Recipe, config: dict[str, Any]) -> int:
    """Longest window of a recipe on a model of this `config.json`.

    Raises:
        ConfigError: The recipe asks for more than the model's context.
    """
    context = context_length(config)
    if context is not None:
        context -= virtual_tokens(recipe)
    if recipe.max_length and context is not None and recipe.max_length > context:
        raise ConfigError(
            f"Window length {recipe.max_length} is longer than the model's context of {context} tokens. "
            f"Expected max_length of at most {context}."
        )
    return recipe.max_length or context or DEFAULT_WINDOW
