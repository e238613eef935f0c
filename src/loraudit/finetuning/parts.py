"""The parts that a training step is cut into, ordinary or private."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from loraudit.finetuning.examples import Pack
from loraudit.types import IntArray

Row = tuple[IntArray, Any, IntArray]
"""Positions of examples, the summed loss of each, and its number of predictions."""


def seed_part(seed: int, step: int, part: int) -> None:
    """Seed torch for one part of one step, so that dropout needs no earlier step to be repeated."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0]))


def per_example(losses: torch.Tensor, owner: IntArray, packs: Sequence[Pack]) -> Row:
    """The losses of a batch summed by example."""
    positions = np.array([position for pack in packs for position in pack])
    total = np.bincount(owner, weights=losses.double().cpu().numpy(), minlength=len(positions))
    return positions, total, np.bincount(owner, minlength=len(positions))
