"""Which prompts go through a model together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CALL_IN_ROWS = 16
"""A call of the model for one token costs about as much as so many more rows in it do: 7 for a small model on
one core, many more on an accelerator."""


def plan_batches(lengths: Sequence[int], *, size: int, new_tokens: int) -> list[list[int]]:
    """Batches that cost least, the longest prompts first; fixed by the arguments alone.

    In a batch all prompts begin with as many tokens as its shortest has; the others hear the rest one by one, so that a
    batch takes `new_tokens` calls and one for each token by which lengths differ.

    Args:
        lengths: [N] tokens of each prompt.
        size: Most prompts in a batch.
        new_tokens: Tokens to come.

    Returns:
        Places of prompts by batch; each place once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    ordered = np.asarray(lengths, dtype=np.int64)[order]
    n = len(order)
    least: NDArray[np.int64] = np.zeros(n + 1, dtype=np.int64)
    begins: NDArray[np.int64] = np.zeros(n + 1, dtype=np.int64)
    for end in range(1, n + 1):
        starts = np.arange(max(0, end - size), end)
        calls = new_tokens + ordered[starts] - ordered[end - 1]
        costs = least[starts] + calls * (_CALL_IN_ROWS + end - starts)
        best = int(costs.argmin())
        least[end], begins[end] = costs[best], starts[best]
    batches: list[list[int]] = []
    end = n
    while end:
        start = int(begins[end])
        batches.append(order[start:end].tolist())
        end = start
    return batches[::-1]
