"""Which units are a shard's, for array jobs that share a folder."""

from __future__ import annotations

import re

from loraudit.errors import ConfigError


def positions_of_shard(shard: str | None, n_units: int) -> range:
    """Positions of the units that a shard carries out: every n-th, so that costs that rise along a grid are shared.

    The shards `1/n` … `n/n` are disjoint and together all units. None is all of them.

    >>> list(positions_of_shard("2/3", 8))
    [1, 4, 7]

    Args:
        shard: `i/n`, counted from 1.
        n_units: Of the whole work.

    Raises:
        ConfigError: It is no part of a whole.
    """
    if shard is None:
        return range(n_units)
    found = re.fullmatch(r"(\d+)/(\d+)", shard, re.ASCII)
    part, n_parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= n_parts:
        raise ConfigError(
            f"Shard '{shard}' is no part of a whole. Expected i/n with i from 1 to n, such as 2/5. "
            "Give each of n jobs one of 1/n … n/n."
        )
    return range(part - 1, n_units, n_parts)
