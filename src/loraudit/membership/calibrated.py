"""Attacks that compare the audited model's whole-record score with the reference's."""

from __future__ import annotations

import numpy as np

from loraudit.membership.attack import attack
from loraudit.membership.target_only import min_k_plus_plus_score, min_k_score, zlib_score
from loraudit.types import FloatArray, Views

_LORA_LEAK = "LoRA-Leak 2025, arXiv:2507.18302"
_BOTH = ("target", "reference")


@attack(
    "reference_difference",
    needs=_BOTH,
    source="Watson et al. 2022, arXiv:2111.08440; Carlini et al. 2021, arXiv:2012.07805",
    summary="Mean log-probability gained over the reference.",
)
def reference_difference(views: Views) -> FloatArray:
    """[N] mean δ, nats per token."""
    return views.log_ratio.mean(axis=1)


@attack(
    "reference_ratio",
    needs=_BOTH,
    source="Carlini et al. 2021, arXiv:2012.07805",
    summary="Reference's mean loss over the target's mean loss.",
)
def reference_ratio(views: Views) -> FloatArray:
    """[N] mean l_R / mean l_T; +inf where only the target's loss is 0, NaN where both are."""
    target_loss = -views.target.log_prob.mean(axis=1, dtype=np.float64)
    reference_loss = -views.reference.log_prob.mean(axis=1, dtype=np.float64)
    # A target loss of exactly 0 is the clearest sign of a member there is, so it must rank first.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(reference_loss) / np.abs(target_loss)


@attack(
    "calibrated_zlib",
    needs=_BOTH,
    source=_LORA_LEAK,
    summary="zlib of the target minus zlib of the reference.",
)
def calibrated_zlib(views: Views) -> FloatArray:
    """[N] nats per zlib byte."""
    return zlib_score(views.target, views.facts) - zlib_score(views.reference, views.facts)


@attack(
    "calibrated_min_k",
    needs=_BOTH,
    source=_LORA_LEAK,
    summary="min_k of the target minus min_k of the reference.",
)
def calibrated_min_k(views: Views) -> FloatArray:
    """[N] nats per token."""
    return min_k_score(views.target) - min_k_score(views.reference)


@attack(
    "calibrated_min_k_plus_plus",
    needs=_BOTH,
    source=_LORA_LEAK,
    summary="min_k_plus_plus of the target minus that of the reference.",
)
def calibrated_min_k_plus_plus(views: Views) -> FloatArray:
    """[N] in units of σ."""
    return min_k_plus_plus_score(views.target) - min_k_plus_plus_score(views.reference)
