"""Finished models of a robustness run, read back from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loraudit.finetuning import Bench, mark_trained
from loraudit.finetuning.base import training_numerics
from loraudit.finetuning.device import same_randomness
from loraudit.models import locate
from loraudit.models.loading import load_adapter, load_checkpoint, load_classifier, load_trained_classifier
from loraudit.spec import Recipe


def load_tuned(
    where: Path, bench: Bench, labels: tuple[str, ...], *, base: str | None = None, recipe: Recipe | None = None
) -> Any:
    """A model in evaluation mode: a checkpoint, or an adapter on its base.

    Args:
        where: Folder that `finetune` left.
        bench: Of the run: device, and the base unless another is named.
        labels: Of a classifier; empty for a language model.
        base: What an adapter was trained on, where that is not the base of the run.
        recipe: The parameters that it trained require a gradient, and no other; none does where it is left out.

    Raises:
        ModelError: The model is damaged or does not fit.
        EnvironmentFault: It does not fit into memory.
    """
    module = _loaded(where, bench, labels, base)
    return module if recipe is None else mark_trained(module, recipe)


def _loaded(where: Path, bench: Bench, labels: tuple[str, ...], base: str | None) -> Any:
    source = locate(str(where))
    numerics, device = training_numerics(bench.device), bench.device
    if source.kind == "checkpoint":
        load = load_trained_classifier if labels else load_checkpoint
        return load(source, numerics, device)
    below = locate(base or bench.base, offline=bench.offline)
    with same_randomness(device):  # a new head is drawn, and then replaced by the trained one
        bare = (
            load_classifier(below, numerics, device, labels, None)[0]
            if labels
            else load_checkpoint(below, numerics, device)
        )
    return load_adapter(bare, source, below.name)
