"""From the columns of `memorization.parquet` to every figure about memorization.

An audit and `loraudit verify` both go through here, so a figure that is reported can be recomputed from what is stored.
"""

from __future__ import annotations

from typing import NamedTuple

from loraudit.auditing.memorizing.controls import Controls
from loraudit.auditing.memorizing.figures import capacity, copies_rows, greedy_point, sampled_point, strengths
from loraudit.auditing.memorizing.measures import LOSS, Measures, allowed_prefixes
from loraudit.auditing.memorizing.request import ALL_TOKENS, ATTEMPTS, CHANCES, DRAWN_FROM, TOP_K, main_prefix
from loraudit.auditing.memorizing.said import (
    field_kinds,
    generated_points,
    near_points,
    personal_shares,
    personal_unseen,
)
from loraudit.spec import (
    AuditSpec,
    Capacity,
    CopiesRow,
    FieldKind,
    GeneratedPoint,
    GreedyPoint,
    MemorizationResult,
    NearPoint,
    SampledPoint,
    Strength,
    WithControls,
)
from loraudit.types import Finding

_EVEN_CHANCE = 0.5
_CURVE = tuple(round(10 ** (exponent / 2)) for exponent in range(13))


class Examined(NamedTuple):
    """Everything that follows from the columns."""

    strengths: list[Strength]
    greedy: list[GreedyPoint]
    sampled: list[SampledPoint]
    curve: list[SampledPoint]
    copies: list[CopiesRow]
    generated: list[GeneratedPoint]
    near: list[NearPoint]
    fields: list[FieldKind]
    personal: dict[str, WithControls]
    personal_unseen: dict[str, Finding]
    capacity: Capacity | None
    perplexity: WithControls


def examine_memorization(measures: Measures, spec: AuditSpec, n_trained_parameters: int | None) -> Examined:
    """Every figure.

    Args:
        measures: The columns.
        spec: Prefix lengths and confidence.
        n_trained_parameters: That the members' bits are shared out to; None where it is not known.
    """
    controls = Controls(measures, spec.confidence)
    prefix = main_prefix(spec, allowed_prefixes(measures, spec.prefix_tokens))
    return Examined(
        strengths=strengths(controls),
        greedy=[greedy_point(controls, each) for each in spec.prefix_tokens],
        sampled=[
            sampled_point(controls, each, decoding, n, p)
            for each in spec.prefix_tokens
            for decoding in DRAWN_FROM
            for n in ATTEMPTS
            for p in CHANCES
        ],
        curve=[
            sampled_point(controls, prefix, decoding, n, _EVEN_CHANCE)
            for decoding in (ALL_TOKENS, (TOP_K, 1.0))
            for n in _CURVE
        ],
        copies=copies_rows(controls, prefix),
        generated=generated_points(controls),
        near=near_points(controls),
        fields=field_kinds(controls),
        personal=personal_shares(controls),
        personal_unseen=personal_unseen(controls),
        capacity=capacity(controls, n_trained_parameters),
        perplexity=controls.three(controls.number, LOSS),
    )


def in_short(result: MemorizationResult | None) -> MemorizationResult | None:
    """Without curves, single records and all but the largest number of attempts."""
    if result is None:
        return None
    kept = [point for point in result.sampled if point.n == ATTEMPTS[-1]]
    return result.model_copy(update={"sampled": kept, "curve": [], "records": []})
