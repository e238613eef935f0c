"""Which canaries there are, which of them are in, and where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loraudit.canaries.law import draw_contexts, draw_secret
from loraudit.spec import Canary, CanaryInsertSpec


def draw_canaries(
    spec: CanaryInsertSpec, n_lines: int, *, rng: np.random.Generator, flip: Callable[[], bool]
) -> list[Canary]:
    """Canaries of every use, in an order that says nothing about how the coins fell.

    Args:
        spec: How many of which.
        n_lines: Of the training file.
        rng: Source of contexts, secrets and places.
        flip: A fair coin, independent of `rng` and of all else.
    """
    planned: list[tuple[str, int]] = [("coin", spec.coin_repeats)] * spec.coins
    for repeats in sorted(set(spec.repeats)):
        if not (spec.coins and repeats == spec.coin_repeats):
            planned += [("repeats", repeats)] * spec.per_repeats
    planned += [("control", 0)] * spec.per_repeats
    contexts = draw_contexts(len(planned), rng)
    texts = [(context, draw_secret(rng)) for context in contexts]
    is_flipped = spec.inclusion == "drawn"
    coins = [flip() if use == "coin" and is_flipped else None for use, _ in planned]
    digits = len(str(len(planned)))
    return [
        Canary(
            name=f"c{number:0{digits}d}",
            use=use,  # type: ignore[arg-type]
            repeats=repeats,
            context=context,
            secret=secret,
            coin=coin,
            places=() if coin is False else tuple(int(p) for p in rng.integers(n_lines + 1, size=repeats)),
        )
        for number, ((use, repeats), (context, secret), coin) in enumerate(
            zip(planned, texts, coins, strict=True), start=1
        )
    ]
