"""Which module of an adapter stands out among its own kind.

Modules of one kind (all `q_proj`, all `down_proj`, …) are a family. A family has a middle (median) and a spread (median
absolute deviation), and a module's robust z is how many spreads it lies above the middle. Higher means more unusual.

z alone says little: in a small family the largest of ordinary modules reaches a large z, and in an even family a tiny
deviation does. So each z comes with a p-value for having looked at all modules, and with a factor: by how much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loraudit.types import FloatArray

SMALLEST_FAMILY = 4
N_DRAWS = 20_000
_NORMAL = 1.4826
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Deviation:
    """How one module lies in its family, in one measure.

    Attributes:
        z: (x − median) / (1.4826 · MAD) of the logarithm x; NaN where the family defines none.
        factor: exp(x − median): how many times the family's median; NaN where undefined.
        p_value: Chance that the largest z of so many normal modules is at least this one; NaN where z is.
    """

    z: float
    factor: float
    p_value: float


UNDEFINED = Deviation(float("nan"), float("nan"), float("nan"))


def family_of(name: str) -> str:
    """The family of a module: its path with every number replaced by a star.

    >>> family_of("model.layers.11.self_attn.q_proj")
    'model.layers.*.self_attn.q_proj'
    """
    return ".".join("*" if _NUMBER.fullmatch(part) else part for part in name.split("."))


def short_names(families: Sequence[str]) -> dict[str, str]:
    """What stands behind the last star of each family, where that names one alone.

    >>> short_names(["layers.*.q_proj", "layers.*.mlp.up_proj", "head"])
    {'layers.*.q_proj': 'q_proj', 'layers.*.mlp.up_proj': 'mlp.up_proj', 'head': 'head'}
    """
    tails = {family: family.rpartition("*.")[2] for family in families}
    counts = list(tails.values())
    return {family: tail if counts.count(tail) == 1 else family for family, tail in tails.items()}


def robust_z(values: FloatArray) -> FloatArray:
    """[n] (x − median) / (1.4826 · MAD), which is the usual z for many normal values.

    Args:
        values: [n]; NaN takes no part and stays NaN.

    Returns:
        NaN throughout where fewer than four values are known, or where more than half of them are equal.

    >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 90.0])).round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 58.68]
    """
    known = values[~np.isnan(values)]
    if len(known) < SMALLEST_FAMILY:
        return np.full(len(values), np.nan)
    middle = float(np.median(known))
    spread = _NORMAL * float(np.median(np.abs(known - middle)))
    if spread == 0.0:
        return np.full(len(values), np.nan)
    return (values - middle) / spread


def largest_of_ordinary(n: int, rng: np.random.Generator, *, n_draws: int = N_DRAWS) -> FloatArray:
    """[n_draws] sorted: the largest robust z of a family of n independent normal values, drawn so often.

    With it a z of a family of 4 and one of a family of 80 mean the same. Location and scale of the values drop out.
    """
    drawn = rng.standard_normal((n_draws, n))
    middle = np.median(drawn, axis=1)
    spread = _NORMAL * np.median(np.abs(drawn - middle[:, None]), axis=1)
    return np.sort((drawn.max(axis=1) - middle) / spread)


class Ordinary:
    """`largest_of_ordinary` by size of the family, each drawn once.

    Args:
        rng: Of the draws.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn: dict[int, FloatArray] = {}

    def __getitem__(self, n: int) -> FloatArray:
        """[N_DRAWS] sorted, of families of n."""
        if n not in self._drawn:
            self._drawn[n] = largest_of_ordinary(n, self._rng)
        return self._drawn[n]


def deviations(values: Mapping[str, float], families: Mapping[str, str], ordinary: Ordinary) -> dict[str, Deviation]:
    """How each module lies in its family, in one measure.

    Args:
        values: By module, the measure. What is not above 0 or not finite has no logarithm: it takes no part and is
            undefined.
        families: By module.
        ordinary: What p-values are taken from.

    Returns:
        By module. p-values are corrected for the modules of the family, not for the number of families and measures.
    """
    found = dict.fromkeys(values, UNDEFINED)
    for family in dict.fromkeys(families[name] for name in values):
        names = [name for name in values if families[name] == family and 0 < values[name] < np.inf]
        logs = np.log([values[name] for name in names])
        z = robust_z(logs)
        if not len(z) or np.isnan(z).all():
            continue
        null = ordinary[len(names)]
        p_values = (1 + len(null) - np.searchsorted(null, z, side="left")) / (1 + len(null))
        factors = np.exp(logs - np.median(logs))
        for name, *figures in zip(names, z.tolist(), factors.tolist(), p_values.tolist(), strict=True):
            found[name] = Deviation(*figures)
    return found


def smallest_z(n: int, level: float, ordinary: Ordinary) -> float:
    """The z from which on a module of a family of n is called unusual at this level; NaN where no z is.

    Args:
        n: Modules of the family.
        level: Of the p-value, after any division by the number of tests.
        ordinary: What p-values are taken from.
    """
    if n < SMALLEST_FAMILY or level * (N_DRAWS + 1) < 1:
        return float("nan")
    return float(np.quantile(ordinary[n], 1 - level))
