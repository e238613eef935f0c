"""Work on batches that may be too large for the memory there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from loraudit.errors import EnvironmentFault
from loraudit.models.numerics import is_out_of_memory

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_halves(
    work: Callable[[list[Item]], list[Outcome]], items: list[Item], too_large: Callable[[Item], EnvironmentFault]
) -> list[Outcome]:
    """Outcomes of a batch, which is halved as often as it does not fit.

    Args:
        work: From items to one outcome each.
        items: The batch.
        too_large: The error for one item that does not even fit alone.

    Raises:
        EnvironmentFault: That.
    """
    try:
        return work(items)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():  # outside the handler, whose traceback would keep the tensors alive
        torch.cuda.empty_cache()
    if len(items) == 1:
        raise too_large(items[0])
    middle = len(items) // 2
    return [found for half in (items[:middle], items[middle:]) for found in in_halves(work, half, too_large)]
