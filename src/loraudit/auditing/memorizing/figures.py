"""Figures about memorization that follow from evidence alone."""

from __future__ import annotations

import numpy as np

from loraudit.auditing.memorizing.controls import Controls
from loraudit.auditing.memorizing.measures import CAPACITY, CLOSE, EXACT, GREEDY, LOG_PROB, STRENGTH, column
from loraudit.auditing.memorizing.request import ALL_TOKENS
from loraudit.memorization import attempts_needed, probability_within
from loraudit.models.plan import TARGET
from loraudit.spec import Capacity, CopiesRow, GreedyPoint, SampledPoint, Strength
from loraudit.types import Decoding, FloatArray

_LEVELS = ((1, 1), (2, 3), (4, 15), (16, 63), (64, None))


def strengths(controls: Controls) -> list[Strength]:
    """Mean exact memorization and extraction strength."""
    return [
        Strength(
            name="exact_memorization",
            summary="Share of a record's tokens that are the most likely one, given all before them.",
            mean=controls.three(controls.share, EXACT),
        ),
        Strength(
            name="extraction_strength",
            summary="Share of a record that is said greedily once the rest of it is given.",
            mean=controls.three(controls.share, STRENGTH),
        ),
    ]


def greedy_point(controls: Controls, prefix: int) -> GreedyPoint:
    """Records said greedily."""
    close = controls.measures[column(CLOSE, TARGET, prefix)]
    return GreedyPoint(
        prefix=prefix,
        extracted=controls.three(controls.yes, GREEDY, prefix),
        n_close=int(np.nansum(close[controls.measures.is_member])),
    )


def sampled_point(controls: Controls, prefix: int, decoding: Decoding, n: int, p: float) -> SampledPoint:
    """Records of which n attempts say the suffix with probability p or more."""

    def extracted(view: str) -> FloatArray | None:
        log_probs = controls.measures.values.get(column(LOG_PROB, view, prefix, decoding))
        if log_probs is None:
            return None
        return np.where(np.isnan(log_probs), np.nan, attempts_needed(log_probs, p) <= n)

    return SampledPoint(
        prefix=prefix,
        top_k=decoding[0],
        temperature=decoding[1],
        n=n,
        p=p,
        extracted=controls.of(controls.yes, extracted),
    )


def copies_rows(controls: Controls, prefix: int) -> list[CopiesRow]:
    """Members by copies in the training set; none where all stand equally often."""
    measures = controls.measures
    if len(np.unique(measures.n_copies[measures.is_member])) < 2:
        return []
    once = probability_within(measures[column(LOG_PROB, TARGET, prefix, ALL_TOKENS)], 1)
    found: list[CopiesRow] = []
    for low, high in _LEVELS:
        is_below = measures.n_copies <= (high or np.iinfo(np.int64).max)
        where = measures.is_member & (measures.n_copies >= low) & is_below
        if where.any():
            found.append(
                CopiesRow(
                    copies=str(low) if high == low else f"{low} or more" if high is None else f"{low} to {high}",
                    n_members=int(where.sum()),
                    prefix=prefix,
                    greedy=controls.yes(measures[column(GREEDY, TARGET, prefix)], where, True),
                    sampled=controls.share(once, where, True),
                    strength=controls.share(measures[column(STRENGTH, TARGET)], where, True),
                )
            )
    return found


def capacity(controls: Controls, n_trained_parameters: int | None) -> Capacity | None:
    """Bits above the base; None where no base is known. The sum over no record is undefined, not 0."""
    measures = controls.measures
    if CAPACITY not in measures:
        return None
    bits, is_member = measures[CAPACITY], measures.is_member
    sides = [bits[side & ~np.isnan(bits)] for side in (is_member, ~is_member)]
    members, held_out = (float(known.sum()) if len(known) else None for known in sides)
    return Capacity(
        bits=members,
        held_out_bits=held_out,
        per_record=controls.of(controls.number, lambda view: bits if view == TARGET else None),
        n_members=len(sides[0]),
        n_held_out=len(sides[1]),
        n_trained_parameters=n_trained_parameters,
        bits_per_parameter=members / n_trained_parameters if n_trained_parameters and members is not None else None,
    )
