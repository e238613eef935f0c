"""Rows of LoRA's A as an initialisation draws them."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from loraudit.errors import ConfigError
from loraudit.theory import Family


def draw_directions(family: Family, *, rank: int, width: int, name: str, draw: int, seed: int) -> NDArray[np.float32]:
    """[rank, width] entries of mean 0 and variance 1 / width.

    The first rows of a larger rank are those of a smaller one, so that sums over rows serve every rank. A draw depends
    on the seed, the name of the map and its own number alone.

    Args:
        family: "gaussian"; "uniform", as PEFT's own default, which has a third of this variance; or "orthogonal":
            rows of an orthogonal matrix drawn by Haar measure, of length 1.
        rank: Rows.
        width: n, of what goes into the map.
        name: Of the map.
        draw: Its number.
        seed: Of all draws.

    Raises:
        ConfigError: More orthogonal rows are asked for than there are dimensions.

    References:
        Mezzadri 2007, arXiv:math-ph/0609050 (the sign that makes the QR decomposition of normal numbers Haar).
    """
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, own, draw])
    if family == "uniform":
        bound = np.sqrt(3 / width)
        return rng.uniform(-bound, bound, (rank, width)).astype(np.float32)
    drawn = rng.standard_normal((rank, width))
    if family == "gaussian":
        return (drawn / np.sqrt(width)).astype(np.float32)
    if rank > width:
        raise ConfigError(
            f"Rank {rank} is more than '{name}' has input dimensions ({width}), so its rows cannot be orthogonal. "
            f"Expected at most {width}. Ask for lower ranks or another family."
        )
    rows, triangle = np.linalg.qr(drawn.T)
    return (rows * np.sign(np.diag(triangle))).T.astype(np.float32)
