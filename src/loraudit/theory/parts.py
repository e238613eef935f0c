"""Kernels of every tuning method, put together from Gram matrices that were measured once.

For a map W0 + s·B·A with B = 0 and A of variance c / n (n the width of that map) the kernel of its B is

    s² Σ_{q ≤ r} ⟨G_i A_q, G_j A_q⟩,    s = α / r, or α / √r for rsLoRA,

with G_i the gradient of f at record i with respect to the weight and A_q row q of A. It is quadratic in A, so one
measurement at c = 1 serves every variance and every α, and sums over the first r rows serve every rank.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np

from loraudit.errors import ConfigError, DataError, unknown_name
from loraudit.spec import InitialisationFamily, LoraScaling
from loraudit.types import FloatArray

Family = InitialisationFamily
Scaling = LoraScaling


@dataclass(frozen=True, slots=True, eq=False)
class KernelParts:
    """Gram matrices over m probe records from which the kernel of every tuning method is put together.

    A *kind* of module is its name with every number replaced by a star. The records stand in one order everywhere.

    Attributes:
        values: [m] f at the base, in logits.
        weights: By kind of linear map, [m, m] sum over its maps of ⟨G_i, G_j⟩; those of the head among them.
        biases: By kind, [m, m] of the biases of linear maps and norms (what BitFit trains); those of the head among
            them.
        others: By kind, [m, m] of embeddings and of the weights of norms: what full tuning trains besides. A head that
            shares its weight with the embedding stands here.
        head: [m, m] of the head's own weight and bias: what head-only tuning trains. Full tuning has it in the three
            above already. Head-only tuning first unties a head that shares its weight with the embedding, so there
            this is of its use as a head alone.
        lora: By kind, [draws, len(ranks), m, m]: sum over its maps of Σ_{q ≤ r} ⟨G_i A_q, G_j A_q⟩ for A of variance
            1 / n, n the width of that map.
        ranks: Of `lora`, ascending.
        family: Of A; "orthogonal" has orthogonal rows of length 1.
        head_kinds: Kinds of `weights` and `biases` that belong to the head: left out of `lora`, counted in `head`.

    Raises:
        DataError: Shapes do not fit or ranks do not ascend; every problem is listed.
        ConfigError: The family is unknown.
    """

    values: FloatArray
    weights: Mapping[str, FloatArray]
    biases: Mapping[str, FloatArray]
    others: Mapping[str, FloatArray]
    head: FloatArray
    lora: Mapping[str, FloatArray]
    ranks: tuple[int, ...]
    family: Family
    head_kinds: frozenset[str]

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise unknown_name("family of initialisation", self.family, get_args(Family))
        problems = [*self._misshapen(), *self._unfit_ranks()]
        if problems:
            raise DataError("Parts of a kernel do not fit each other. Measure them again in one pass.", problems)

    @property
    def n_records(self) -> int:
        """Probe records, m."""
        return len(self.values)

    @property
    def n_draws(self) -> int:
        """Draws of A that every kind was measured with; 0 where nothing was measured for LoRA."""
        return min((len(one) for one in self.lora.values()), default=0)

    def _misshapen(self) -> list[str]:
        square = (self.n_records, self.n_records)
        named = [("head", "", self.head)]
        for part, of_kind in (("weights", self.weights), ("biases", self.biases), ("others", self.others)):
            named += [(part, f" of '{kind}'", gram) for kind, gram in of_kind.items()]
        problems = [
            f"{part}{kind} has the shape {list(gram.shape)}; expected {list(square)}."
            for part, kind, gram in named
            if gram.shape != square
        ]
        n_draws = self.n_draws
        for kind, grams in self.lora.items():
            expected = (n_draws, len(self.ranks), *square)
            if grams.shape != expected:
                problems.append(f"lora of '{kind}' has the shape {list(grams.shape)}; expected {list(expected)}.")
            if kind in self.head_kinds:
                problems.append(f"lora holds '{kind}', which belongs to the head; expected it in `head` alone.")
        return problems

    def _unfit_ranks(self) -> list[str]:
        if all(rank >= 1 for rank in self.ranks) and all(low < high for low, high in pairwise(self.ranks)):
            return []
        return [f"ranks are {list(self.ranks)}; expected ascending numbers from 1 on."]


def full_kernel(parts: KernelParts) -> FloatArray:
    """[m, m] kernel of full tuning: every weight, bias, norm and embedding, the head among them."""
    return _sum([*parts.weights.values(), *parts.biases.values(), *parts.others.values()], parts.n_records)


def head_kernel(parts: KernelParts) -> FloatArray:
    """[m, m] kernel of head-only tuning."""
    return np.array(parts.head, dtype=np.float64)


def bitfit_kernel(parts: KernelParts, *, with_head: bool = True) -> FloatArray:
    """[m, m] kernel of bias-only tuning: every bias, and the head's own weight where it is trained too.

    Args:
        parts: Of one base.
        with_head: Whether the head's weight is trained besides, as for a classifier; its bias is in any case.

    References:
        Ben Zaken et al. 2022, arXiv:2106.10199.
    """
    if not with_head:
        return _sum(parts.biases.values(), parts.n_records)
    of_body = [gram for kind, gram in parts.biases.items() if kind not in parts.head_kinds]
    return _sum([*of_body, parts.head], parts.n_records)


def lora_scale(rank: int, alpha: float, scaling: Scaling = "alpha/r") -> float:
    """s, by which the product B·A is multiplied.

    Raises:
        ConfigError: `rank` or `alpha` is not above 0, or the scaling is unknown.

    References:
        Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (α / √r).

    >>> lora_scale(16, 8.0), lora_scale(16, 8.0, "alpha/sqrt(r)")
    (0.5, 2.0)
    """
    if rank < 1:
        raise ConfigError(f"Rank {rank} is too small. Expected at least 1. Give another rank.")
    if not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"Alpha {alpha} is not above 0. Expected a positive number. Give another alpha.")
    if scaling not in get_args(Scaling):
        raise unknown_name("scaling of LoRA", scaling, get_args(Scaling))
    return alpha / rank if scaling == "alpha/r" else alpha / math.sqrt(rank)


def lora_kernel(
    parts: KernelParts,
    *,
    rank: int,
    alpha: float,
    variance: float,
    kinds: Collection[str] | None = None,
    draw: int | None = None,
    with_head: bool = True,
    scaling: Scaling = "alpha/r",
) -> FloatArray:
    """[m, m] kernel of LoRA at B = 0, where a run begins.

    Args:
        parts: Of one base.
        rank: One of `parts.ranks`.
        alpha: Of s = α / r or α / √r.
        variance: c: the entries of A have variance c / n, n the width of their map; PEFT's default is 1 / 3.
        kinds: Modules that carry an adapter; None means every kind that was measured.
        draw: Which draw of A, as a run has one; None is the mean over D draws, which has the law of rank D · r instead.
        with_head: Whether the head is trained besides, on its own weight and bias.
        scaling: Of rsLoRA: "alpha/sqrt(r)".

    Raises:
        ConfigError: A rank, kind or draw was not measured, or a number is out of range.
    """
    drawn = _drawn(parts, rank, alpha, variance, kinds, scaling)
    if draw is not None and not 0 <= draw < len(drawn):
        raise ConfigError(f"Draw {draw} was not measured. Expected one of 0 to {len(drawn) - 1}. Measure more draws.")
    adapted = drawn.mean(axis=0) if draw is None else drawn[draw]
    return adapted + parts.head if with_head else adapted


def lora_kernel_error(
    parts: KernelParts,
    *,
    rank: int,
    alpha: float,
    variance: float,
    kinds: Collection[str] | None = None,
    with_head: bool = True,
    scaling: Scaling = "alpha/r",
) -> float:
    """Monte-Carlo standard error of the mean kernel over draws, relative to it, both in Frobenius norm.

    √(Σ_ij var_ij / draws) / ‖mean‖_F with var_ij the unbiased variance of an entry over draws.

    Args:
        parts: Of one base.
        rank: As in `lora_kernel`, like all the rest.
        alpha: Likewise.
        variance: Likewise.
        kinds: Likewise.
        with_head: Likewise; the head does not vary, so it makes the error smaller.
        scaling: Likewise.

    Returns:
        NaN for a single draw, which shows no spread, and for a kernel of zeros.

    Raises:
        ConfigError: As `lora_kernel`.
    """
    drawn = _drawn(parts, rank, alpha, variance, kinds, scaling)
    mean = drawn.mean(axis=0) + (parts.head if with_head else 0.0)
    length = float(np.linalg.norm(mean))
    if len(drawn) < 2 or length == 0.0:
        return math.nan
    return math.sqrt(float(np.var(drawn, axis=0, ddof=1).sum()) / len(drawn)) / length


def _drawn(
    parts: KernelParts, rank: int, alpha: float, variance: float, kinds: Collection[str] | None, scaling: Scaling
) -> FloatArray:
    """[draws, m, m] kernels of the adapters alone."""
    scale = lora_scale(rank, alpha, scaling)
    if not (math.isfinite(variance) and variance > 0):
        raise ConfigError(f"Variance {variance} is not above 0. Expected a positive number. Give another variance.")
    if rank not in parts.ranks:
        known = ", ".join(map(str, parts.ranks)) or "none"
        raise ConfigError(f"Rank {rank} was not measured. Expected one of: {known}. Measure it too.")
    chosen = sorted(parts.lora if kinds is None else set(kinds))
    for kind in chosen:
        if kind not in parts.lora:
            raise unknown_name("kind of module", kind, parts.lora)
    if not chosen:
        raise ConfigError("No kind of module carries an adapter. Expected at least one. Name the modules to adapt.")
    column = parts.ranks.index(rank)
    total = np.zeros((parts.n_draws, parts.n_records, parts.n_records))
    for kind in chosen:
        total += parts.lora[kind][:, column]
    return scale**2 * variance * total


def _sum(grams: Iterable[FloatArray], n_records: int) -> FloatArray:
    total = np.zeros((n_records, n_records))
    for gram in grams:
        total += gram
    return total
