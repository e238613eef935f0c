"""What stands after the body of a model: output heads and classification heads."""

from __future__ import annotations

from typing import Any

_NEW = "_loraudit_new_parameters"


def untie_head(model: Any) -> None:
    """Give the output head weights of its own, equal to the embedding it was tied to.

    Training a tied head would train the input embedding with it, which is not head-only tuning.
    """
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.config.get_text_config().tie_word_embeddings = False
    if hasattr(model, "all_tied_weights_keys"):  # transformers 5 remembers ties when it saves
        model.all_tied_weights_keys = {}


def task_head(model: Any) -> list[Any]:
    """The modules of a sequence classifier that follow its body."""
    body = getattr(model, model.base_model_prefix, None)
    return [module for module in model.children() if module is not body and any(True for _ in module.parameters())]


def task_head_names(model: Any) -> list[str]:
    """Names of those modules, and of new ones inside the body such as a pooler."""
    heads = {id(module) for module in (*task_head(model), *newly_made(model))}
    return [name for name, module in model.named_modules() if id(module) in heads]


def mark_new(model: Any, names: list[str]) -> None:
    """Remember which modules the checkpoint had no weights for: they are random and must be trained."""
    owners = {name.rsplit(".", 1)[0] for name in names}
    setattr(model, _NEW, [module for name, module in model.named_modules() if name in owners])


def newly_made(model: Any) -> list[Any]:
    """The modules that `mark_new` remembered."""
    return getattr(model, _NEW, [])
