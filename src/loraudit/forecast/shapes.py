"""What a kernel and the theory say of one tuning method, as the result states it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from loraudit.errors import ConfigError
from loraudit.forecast.grid import Candidate
from loraudit.forecast.probes import Fold, Probe, Twins
from loraudit.spec import MOST_EIGENVALUES, KernelShape, LoraTheory, TwinsResult
from loraudit.statistics import Interval, finding, mean_finding
from loraudit.theory import (
    Estimate,
    Family,
    centred_alignment,
    corrected_second_entropy,
    expected_participation,
    function_space_speed,
    kernel_spectrum,
    log_determinant,
    over_starts,
    published_first_entropy,
    published_second_entropy,
    top_energy,
    training_time_robustness,
)
from loraudit.types import Finding, FloatArray, IntArray

_TOP = (1, 10, 50)
_COSINES = Interval(-1.0, 1.0)


class Start(NamedTuple):
    """Weights that training begins with.

    Attributes:
        head: Which draw of the head.
        values: [m] f.
        kernel: [m, m], with that head and one draw of A.
    """

    head: int
    values: FloatArray
    kernel: FloatArray


class Widths(NamedTuple):
    """Sizes of the maps that a method can adapt.

    Attributes:
        inputs: n of each.
        outputs: k of each.
    """

    inputs: Sequence[int]
    outputs: Sequence[int]


def shape_of(
    starts: Sequence[Start],
    full: Sequence[FloatArray] | None,
    clean: Fold,
    monte_carlo_error: float | None,
    *,
    confidence: float,
) -> KernelShape:
    """Size and shape of a method's kernels over the clean training records: each figure is a mean over its starts.

    Args:
        starts: Of the method.
        full: [m, m] of each draw of the head, that of full tuning; None where it was not asked for.
        clean: The records.
        monte_carlo_error: Over draws of A.
        confidence: Of intervals.
    """
    kernels = [start.kernel[np.ix_(clean.rows, clean.rows)] for start in starts]
    spectra = [kernel_spectrum(kernel) for kernel in kernels]
    labels = np.outer(clean.signs, clean.signs)
    beside = None if full is None else [full[start.head][np.ix_(clean.rows, clean.rows)] for start in starts]
    return KernelShape(
        trace=float(np.mean([one.speed for one in spectra])),
        monte_carlo_error=_stated(monte_carlo_error),
        effective_rank=_mean(one.effective_rank for one in spectra),
        participation=_mean(one.participation_ratio for one in spectra),
        entropies={f"{order:g}": _mean(one.entropies[order] for one in spectra) for order in spectra[0].entropies},
        log_det=_mean(log_determinant(one, one.speed) if one.speed > 0 else None for one in spectra),
        top_share={k: _mean(top_energy(one, k) for one in spectra) for k in _TOP if k <= spectra[0].n_records},
        eigenvalues=np.mean([one.eigenvalues for one in spectra], axis=0)[:MOST_EIGENVALUES].tolist(),
        agreement_with_full=None if beside is None else _aligned(kernels, beside, clean.groups, confidence),
        alignment=_aligned(kernels, [labels] * len(kernels), clean.groups, confidence),
    )


def theory_of(candidate: Candidate, widths: Widths, family: Family) -> LoraTheory:
    """Closed forms for LoRA, as means over the maps it adapts; those that do not hold for the family are left out."""

    def mean(formula: Callable[..., float]) -> float | None:
        try:
            values = [formula(n, candidate.variance / n) for n in widths.inputs]
        except ConfigError:
            return None
        return float(np.mean(values)) if values else None

    rank = candidate.rank
    return LoraTheory(
        h1_published=mean(lambda n, v: published_first_entropy(rank=rank, width=n, entry_variance=v).value),
        h2_published=mean(
            lambda n, v: published_second_entropy(rank=rank, width=n, entry_variance=v, family=family).value
        ),
        h2_corrected=mean(
            lambda n, v: corrected_second_entropy(rank=rank, width=n, entry_variance=v, family=family).value
        ),
        participation=mean(lambda n, _: expected_participation(rank=rank, width=n, family=family).value),
        speed_sgd=mean(lambda _, v: _speed(candidate, v, is_adam=False)),
        speed_adam=mean(lambda _, v: _speed(candidate, v, is_adam=True)),
    )


def twins_of(starts: Sequence[Start], probe: Probe, confidence: float) -> list[TwinsResult]:
    """How a method sees poisoned records beside the same records clean, by attack: means over its starts.

    Args:
        starts: Of the method.
        probe: Its rows.
        confidence: Of intervals.
    """
    found: list[TwinsResult] = []
    for attack, twins in probe.twins.items():
        proxy = over_starts(
            [
                training_time_robustness(
                    one.kernel, twins.clean, twins.poisoned, confidence=confidence, groups=twins.groups
                )
                for one in starts
            ]
        )
        largest = max(dose for name, dose in probe.poisoned if name == attack)
        fold = probe.poisoned[attack, largest]
        blocks = [one.kernel[np.ix_(fold.rows, fold.rows)] for one in starts]
        labels = [np.outer(fold.signs, fold.signs)] * len(blocks)
        found.append(
            TwinsResult(
                attack=attack,
                proxy=_found(proxy, "Student's t over twins", confidence),
                cosine=mean_finding(
                    np.mean([_cosines(one.kernel, twins) for one in starts], axis=0),
                    confidence=confidence,
                    groups=twins.groups,
                    attainable=_COSINES,
                ),
                poison_alignment=_aligned(blocks, labels, fold.groups, confidence),
                n=proxy.n,
            )
        )
    return found


def _cosines(kernel: FloatArray, twins: Twins) -> FloatArray:
    """[N] of each pair; NaN where a record moves nothing."""
    lengths = np.sqrt(kernel[twins.clean, twins.clean] * kernel[twins.poisoned, twins.poisoned])
    cosines = np.full(len(lengths), np.nan)
    np.divide(kernel[twins.clean, twins.poisoned], lengths, out=cosines, where=lengths > 0)
    return cosines


def n_trained(candidate: Candidate, counts: Mapping[str, int], widths: Widths | None) -> int:
    """Parameters that the method trains.

    Args:
        candidate: The method.
        counts: Parameters by part: all, head, biases (those of the head among them), head_biases.
        widths: Of the maps that it adapts; None where it adapts none.
    """
    if candidate.method == "full":
        return counts["all"]
    if candidate.method == "head":
        return counts["head"]
    of_head = counts["head"] if candidate.trains_head else 0
    if widths is None:
        return counts["biases"] - (counts["head_biases"] if candidate.trains_head else 0) + of_head
    return candidate.rank * (sum(widths.inputs) + sum(widths.outputs)) + of_head


def _aligned(
    kernels: Sequence[FloatArray], others: Sequence[FloatArray], groups: IntArray, confidence: float
) -> Finding:
    """Mean over starts of the centred alignment of two kernels over the same training records."""
    estimates = [
        centred_alignment(kernel, other, confidence=confidence, groups=groups)
        for kernel, other in zip(kernels, others, strict=True)
    ]
    return _found(over_starts(estimates), "jackknife over documents", confidence)


def _found(estimate: Estimate, method: str, confidence: float) -> Finding:
    return finding(
        estimate.value, estimate.interval, method, n_members=estimate.n, n_nonmembers=0, confidence=confidence
    )


def _speed(candidate: Candidate, entry_variance: float, *, is_adam: bool) -> float:
    return function_space_speed(
        rank=candidate.rank,
        alpha=candidate.alpha,
        entry_variance=entry_variance,
        optimizer="adam" if is_adam else "sgd",
        scaling=candidate.scaling,
    ).value


def _mean(values: Iterable[float | None]) -> float | None:
    """Over starts; null where one of them has none."""
    known = list(values)
    return None if None in known else _stated(float(np.mean(np.array(known, dtype=np.float64))))


def _stated(value: float | None) -> float | None:
    """A number as JSON holds it: what is undefined is null."""
    return None if value is None or not math.isfinite(value) else float(value)
