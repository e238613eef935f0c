"""Members that can be pulled out, one by one, and the passages of theirs that were said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loraudit.auditing.memorizing.measures import (
    BITS,
    GREEDY,
    LOG_PROB,
    STRENGTH,
    Measures,
    allowed_prefixes,
    column,
)
from loraudit.auditing.memorizing.request import ALL_TOKENS, main_prefix
from loraudit.auditing.memorizing.sources import TrainingSet
from loraudit.auditing.memorizing.tracing import Traced, severity
from loraudit.auditing.request import Sides
from loraudit.data import audited_text, masked_snippet
from loraudit.memorization import attempts_needed
from loraudit.memorization.attribution import Hit
from loraudit.models.plan import TARGET
from loraudit.spec import AuditSpec, LeakedRecord, Passage
from loraudit.statistics import finite

N_SHOWN = 20


class _Said(NamedTuple):
    """A continuation of a record and its worst match."""

    text: str
    hit: Hit
    decoding: str
    prefix: int


def leaked_records(
    spec: AuditSpec, sides: Sides, measures: Measures, traced: Sequence[Traced], sources: TrainingSet | None
) -> list[LeakedRecord]:
    """The members with the worst passages and those that take the fewest attempts, half each, the worst first.

    Args:
        spec: Prefix lengths, and whether text was asked for.
        sides: The records.
        measures: Of them.
        traced: Their continuations.
        sources: The training set; None where nothing was said.
    """
    said = _worst_said(traced)
    prefix = main_prefix(spec, allowed_prefixes(measures, spec.prefix_tokens))
    by_passage = sorted(
        (row for row in said if measures.is_member[row]), key=lambda row: (*severity(said[row].hit), row)
    )
    easiest = most_extractable(measures, prefix, N_SHOWN)
    rows = list(dict.fromkeys([*by_passage[: N_SHOWN // 2], *easiest]))[:N_SHOWN]
    attempts = attempts_needed(measures[column(LOG_PROB, TARGET, prefix, ALL_TOKENS)], 0.5)
    bits = measures.values.get(column(BITS, prefix), np.full(len(attempts), np.nan))
    return [
        LeakedRecord(
            id=measures.ids[row],
            n_copies=int(measures.n_copies[row]),
            n_tokens=int(measures.n_tokens[row]),
            strength=finite(float(measures[column(STRENGTH, TARGET)][row])),
            greedy=[p for p in spec.prefix_tokens if measures[column(GREEDY, TARGET, p)][row] == 1],
            attempts=finite(float(attempts[row])),
            attempts_defined=not np.isnan(attempts[row]),
            bits=finite(float(bits[row])),
            passage=_passage(said[row], sources, with_text=spec.include_text) if sources and row in said else None,
            snippet=masked_snippet(audited_text(sides.records[row], spec.span)),
        )
        for row in rows
    ]


def _worst_said(traced: Sequence[Traced]) -> dict[int, _Said]:
    """By row, of all that the target said."""
    found: dict[int, _Said] = {}
    for one in traced:
        if one.of.view != TARGET:
            continue
        for item, text, hit in zip(one.of.beginnings, one.texts, one.worst, strict=True):
            if hit is not None and (item.row not in found or severity(hit) < severity(found[item.row].hit)):
                found[item.row] = _Said(text, hit, one.of.decoding.name, one.of.prefix)
    return found


def _passage(said: _Said, training: TrainingSet, *, with_text: bool) -> Passage:
    match, sources = said.hit.match, said.hit.sources
    here, there = said.text[slice(*match.here)], training.texts[sources.rows[0]][slice(*match.source)]
    return Passage(
        kind=match.kind,
        decoding=said.decoding,
        prefix=said.prefix,
        source=sources.ids[0],
        n_sources=sources.n,
        n_characters=match.n_characters,
        score=match.score,
        personal=sorted({field.kind for field in training.tools.find_personal(here)}),
        here=here if with_text else None,
        there=there if with_text else None,
    )


def most_extractable(measures: Measures, prefix: int, n: int) -> list[int]:
    """Rows of the members that are the easiest to pull out, by rising attempts, then by falling strength."""
    attempts = attempts_needed(measures[column(LOG_PROB, TARGET, prefix, ALL_TOKENS)], 0.5)
    strength = measures[column(STRENGTH, TARGET)]
    bits = measures.values.get(column(BITS, prefix), np.zeros(len(attempts)))
    rows = np.flatnonzero(measures.is_member & ~np.isnan(attempts))
    order = np.lexsort((-np.nan_to_num(bits[rows]), -np.nan_to_num(strength[rows]), attempts[rows]))
    return [int(row) for row in rows[order][:n]]
