"""What scoring would cost, before anything is loaded."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from loraudit.models import ModelPlan
from loraudit.scoring.engine import ScoringOptions
from loraudit.scoring.head import LOGITS_AT_ONCE

_ACTIVATIONS_PER_TOKEN = 16
"""Hidden states alive at once, in multiples of the width: a feed-forward layer and its inputs."""
_EFFICIENCY = 0.5
"""Share of a matrix product's speed that a whole forward pass reaches."""


class Cost(NamedTuple):
    """Peak memory of weights and activations, and seconds of scoring; both rough."""

    memory_bytes: int
    seconds: float


def estimate_cost(plan: ModelPlan, options: ScoringOptions, n_tokens: int) -> Cost:
    """Memory from the sizes on disk, time from the speed of one matrix product on the device."""
    bytes_each = options.numerics.dtype.itemsize
    activations = options.tokens_at_once * (plan.width or 0) * _ACTIVATIONS_PER_TOKEN * bytes_each
    logits = 2 * 4 * LOGITS_AT_ONCE.get(options.numerics.device, 0)
    copies = len(options.devices) if options.numerics.device == "cpu" else 1
    memory = copies * plan.n_parameters * bytes_each + activations + logits
    operations = 2 * plan.n_parameters * n_tokens / len(options.devices)
    return Cost(memory, operations / (_EFFICIENCY * _matrix_speed(options)))


def _matrix_speed(options: ScoringOptions) -> float:
    """Floating-point operations per second of a product of two 1024 × 1024 matrices."""
    device = "cuda" if options.devices[0] == "balanced" else options.devices[0]
    matrix = torch.ones(1024, 1024, dtype=options.numerics.dtype, device=device)
    best = float("inf")
    for _ in range(4):  # the first is slow everywhere
        began = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * 1024**3 / best
