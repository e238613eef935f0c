"""How the memorization measures were made, and what they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loraudit.auditing.memorizing.sources import SHORTEST_COPY, Tools, TrainingSet
from loraudit.auditing.memorizing.speaking import Continuations
from loraudit.auditing.memorizing.tracing import Traced
from loraudit.auditing.request import Sides
from loraudit.models.plan import TARGET
from loraudit.spec import AuditSpec

NEAR_DECODING = "top_k_40"


def how_measured(
    spec: AuditSpec, sides: Sides, said: Sequence[Continuations], sources: TrainingSet | None
) -> dict[str, Any]:
    """Records prompted and searched, passages, models."""
    prompted = {str(one.prefix): len(one.said) for one in said if one.view == TARGET}
    return {
        "records_prompted": prompted,
        "training_records": len(sides.members.records) if sources is None else len(sources.texts),
        "shortest_exact_copy": SHORTEST_COPY,
        "unseen_records": len(sides.nonmembers.records),
        "files": [] if sources is None else list(sources.files),
        "near_verbatim_decoding": NEAR_DECODING if spec.near_records else None,
        "embedder": spec.embedder,
        "paraphrase_model": spec.paraphrase_model,
    }


def notes_of(tools: Tools, traced: Sequence[Traced]) -> list[str]:
    """What tracing leaves open, in sentences; none where nothing was traced."""
    n_unaligned = sum(one.n_unaligned for one in traced)
    unaligned = (
        f"{n_unaligned:,} pairs of a continuation and a training record that share a copied passage were not aligned, "
        "because too many records share one: of these pairs only the copies are counted."
    )
    return [*tools.notes, *([unaligned] if n_unaligned else [])] if traced else []
