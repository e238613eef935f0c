"""What a kernel and the theory say of one tuning method, as the result states it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from loraudit.errors import ConfigError
from loraudit.forecast.grid import Candidate
from loraudit.forecast.probes import Probe
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
    published_first_entropy,
    published_second_entropy,
    top_energy,
    training_time_robustness,
)
from loraudit.types import Finding, FloatArray

_TOP = (1, 10, 50)
_COSINES = Interval(-1.0, 1.0)


class Widths(NamedTuple):
    """Sizes of the maps that a method can adapt.

    Attributes:
        inputs: n of each.
        outputs: k of each.
    """

    inputs: Sequence[int]
    outputs: Sequence[int]


def shape_of(
    kernel: FloatArray,
    full: FloatArray | None,
    labels: FloatArray,
    monte_carlo_error: float | None,
    *,
    confidence: float,
) -> KernelShape:
    """Size and shape of a kernel over the clean training records.

    Args:
        kernel: [n, n].
        full: [n, n] that of full tuning, where it was asked for.
        labels: [n] y.
        monte_carlo_error: Over draws of A.
        confidence: Of intervals.
    """
    spectrum = kernel_spectrum(kernel)
    return KernelShape(
        trace=spectrum.speed,
        monte_carlo_error=_stated(monte_carlo_error),
        effective_rank=_stated(spectrum.effective_rank),
        participation=_stated(spectrum.participation_ratio),
        entropies={f"{order:g}": _stated(value) for order, value in spectrum.entropies.items()},
        log_det=_stated(log_determinant(spectrum, spectrum.speed)) if spectrum.speed > 0 else None,
        top_share={k: _stated(top_energy(spectrum, k)) for k in _TOP if k <= spectrum.n_records},
        eigenvalues=spectrum.eigenvalues[:MOST_EIGENVALUES].tolist(),
        agreement_with_full=None if full is None else _aligned(kernel, full, confidence),
        alignment=_aligned(kernel, np.outer(labels, labels), confidence),
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


def twins_of(kernel: FloatArray, probe: Probe, confidence: float) -> list[TwinsResult]:
    """How the kernel sees poisoned records beside the same records clean, by attack.

    Args:
        kernel: [m, m] over the whole probe.
        probe: Its rows.
        confidence: Of intervals.
    """
    found: list[TwinsResult] = []
    for attack, twins in probe.twins.items():
        proxy = training_time_robustness(kernel, twins.clean, twins.poisoned, confidence=confidence)
        lengths = np.sqrt(kernel[twins.clean, twins.clean] * kernel[twins.poisoned, twins.poisoned])
        cosines = np.full(len(lengths), np.nan)
        np.divide(kernel[twins.clean, twins.poisoned], lengths, out=cosines, where=lengths > 0)
        largest = max(dose for name, dose in probe.poisoned if name == attack)
        fold = probe.poisoned[attack, largest]
        block = kernel[np.ix_(fold.rows, fold.rows)]
        found.append(
            TwinsResult(
                attack=attack,
                proxy=_found(proxy, "Student's t over twins", confidence),
                cosine=mean_finding(cosines, confidence=confidence, attainable=_COSINES),
                poison_alignment=_aligned(block, np.outer(fold.signs, fold.signs), confidence),
                n=proxy.n,
            )
        )
    return found


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


def _aligned(kernel: FloatArray, other: FloatArray, confidence: float) -> Finding:
    """Centred alignment of two kernels over the same training records."""
    return _found(centred_alignment(kernel, other, confidence=confidence), "jackknife over records", confidence)


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


def _stated(value: float | None) -> float | None:
    """A number as JSON holds it: what is undefined is null."""
    return None if value is None or not math.isfinite(value) else float(value)
