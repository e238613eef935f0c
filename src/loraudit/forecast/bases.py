"""The base as a forecast runs it: a language model, or a classifier with one of several random heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from loraudit.finetuning.heads import mark_new, task_head_names
from loraudit.models import Numerics
from loraudit.models.loading import load_checkpoint, load_classifier
from loraudit.models.locate import Source
from loraudit.models.numerics import device_kind
from loraudit.tasks import TaskData


class Base(NamedTuple):
    """A base with its head.

    Attributes:
        module: In evaluation mode.
        head: Names of the modules of the head; None where the model itself says which that is.
        is_random: Whether the head was drawn.
    """

    module: Any
    head: list[str] | None
    is_random: bool


def bases(source: Source, data: TaskData, device: str, *, n_heads: int, seed: int) -> Iterator[Base]:
    """The base once for each draw of its head, or once where the checkpoint has one.

    Args:
        source: The checkpoint.
        data: The task.
        device: Where to.
        n_heads: Draws.
        seed: Of all of them.

    Raises:
        LorauditError: It cannot be loaded.
    """
    numerics = Numerics(device_kind([device]), "fp32")
    if data.task == "causal_lm":
        yield Base(load_checkpoint(source, numerics, device), None, is_random=False)
        return
    for k in range(n_heads):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + k)
            module, new = load_classifier(source, numerics, device, data.labels, None)
        mark_new(module, new)
        yield Base(module, task_head_names(module), is_random=bool(new))
        if not new:
            return
