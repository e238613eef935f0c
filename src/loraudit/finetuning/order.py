"""Which examples each step of an ordinary training sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from loraudit.finetuning.examples import Example, Pack, epoch_order, packed
from loraudit.spec import Recipe
from loraudit.types import IntArray

_PACKS = 0


class Order:
    """The batches of every epoch; none needs an earlier one.

    Args:
        recipe: Seed, batch size and whether rows are packed.
        examples: To train on.
        n_copies: [examples] how often each stands in an epoch.
        max_length: Of a pack, in tokens.
    """

    def __init__(self, recipe: Recipe, examples: Sequence[Example], n_copies: IntArray, max_length: int) -> None:
        self.recipe, self.examples, self.n_copies, self.max_length = recipe, examples, n_copies, max_length

    @cached_property
    def steps_per_epoch(self) -> int:
        """As many in every epoch."""
        n_packs = len(self._rows) if self.recipe.packing else int(self.n_copies.sum())
        return math.ceil(n_packs / self.recipe.batch_size)

    def batches(self, epoch: int) -> list[list[Pack]]:
        """The packs of each step of one epoch, counted from 0."""
        packs, size = self._packs(epoch), self.recipe.batch_size
        return [packs[start : start + size] for start in range(0, len(packs), size)]

    def _packs(self, epoch: int) -> list[Pack]:
        if self.recipe.packing:
            shuffled = np.random.default_rng([self.recipe.seed, epoch, _PACKS]).permutation(len(self._rows))
            return [self._rows[i] for i in shuffled]
        return [[int(position)] for position in epoch_order(self.n_copies, self.recipe.seed, epoch)]

    @cached_property
    def _rows(self) -> list[Pack]:
        """Packed in the order of the first epoch, so that every epoch has as many."""
        return packed(self.examples, epoch_order(self.n_copies, self.recipe.seed, 0), self.max_length)
