"""What the memorization measures would take beside the evidence on the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.auditing.memorizing.beginnings import is_long_enough
from loraudit.auditing.memorizing.fields import candidate_records, placed_fields
from loraudit.auditing.memorizing.request import main_prefix
from loraudit.auditing.memorizing.sources import personal_finder
from loraudit.auditing.request import Sides
from loraudit.data import Encoded, encode
from loraudit.generation.constrained import BEAM_WIDTH
from loraudit.models import ModelPlan
from loraudit.scoring import ScoringOptions
from loraudit.spec import AuditSpec
from loraudit.types import Status, TokenTable


@dataclass(frozen=True, slots=True)
class MemorizationWork:
    """What is generated, searched and compared, at most: what was kept from before is not taken off.

    Attributes:
        n_continuations: By all models, prefix lengths and decodings together.
        n_generated_tokens: Of these, if none ends early.
        n_searches: Records searched for near-verbatim continuations, once for each model.
        n_searched_tokens: Of the beginnings that these extend.
        n_candidates: Values of personal information to score in their context, once for each model.
        n_candidate_tokens: Of these with their contexts.
    """

    n_continuations: int
    n_generated_tokens: int
    n_searches: int
    n_searched_tokens: int
    n_candidates: int
    n_candidate_tokens: int

    @property
    def n_tokens(self) -> int:
        """To send through a model for all of it, prompts not counted."""
        return self.n_generated_tokens + self.n_searched_tokens + self.n_candidate_tokens

    @property
    def words(self) -> str:
        """What there is to do, each part that there is."""
        parts = (
            (self.n_continuations, f"{self.n_generated_tokens:,} tokens in {self.n_continuations:,} continuations"),
            (self.n_searches, f"{self.n_searches:,} near-verbatim searches"),
            (self.n_candidates, f"{self.n_candidates:,} candidate values ({self.n_candidate_tokens:,} tokens)"),
        )
        return ", ".join(words for n, words in parts if n) or "nothing beside the evidence"


def estimate_memorization(
    spec: AuditSpec,
    plan: ModelPlan,
    sides: Sides,
    encoded: Sequence[Encoded],
    options: ScoringOptions,
    tokenizer: Any,
) -> MemorizationWork | None:
    """What this request asks for; None where it asks for no memorization.

    Args:
        spec: The request.
        plan: The target and its base.
        sides: The records.
        encoded: [N] as tokens.
        options: How they are scored.
        tokenizer: Of the target.
    """
    if not spec.memorization:
        return None
    has_base = plan.reference is not None
    return memorization_work(spec, sides, encoded, options.max_length, tokenizer, n_targets=1, n_bases=int(has_base))


def memorization_work(
    spec: AuditSpec,
    sides: Sides,
    encoded: Sequence[Encoded],
    max_length: int,
    tokenizer: Any,
    *,
    n_targets: int,
    n_bases: int,
) -> MemorizationWork:
    """What this request asks of so many models, each asked once.

    Args:
        spec: The request.
        sides: The records.
        encoded: [N] as tokens.
        max_length: Of a window.
        tokenizer: Of the models.
        n_targets: Asked about both sides.
        n_bases: Asked about the members.
    """
    table = _without_scores(encoded)
    is_long = {p: is_long_enough(table, p, spec.suffix_tokens, max_length) for p in spec.prefix_tokens}

    def asked(prefix: int, n_records: int) -> int:
        sides_long = (is_long[prefix] & side for side in (sides.is_member, ~sides.is_member))
        members, others = (min(n_records, int(fits.sum())) for fits in sides_long)
        return (n_targets + n_bases) * members + n_targets * others

    n_continuations = sum(asked(prefix, spec.generations) for prefix in spec.prefix_tokens) * len(spec.decodings)
    n_candidates, n_candidate_tokens = 0, 0
    if spec.candidates:
        placed = placed_fields(sides, spec.span, spec.candidates, spec.seed, personal_finder(spec))
        candidates = candidate_records(placed.fields, sides, spec.span)
        n_candidates = len(candidates) * (n_targets + n_bases)
        n_candidate_tokens = sum(len(item.ids) for item in encode(candidates, tokenizer)) * (n_targets + n_bases)
    main = main_prefix(spec, [length for length, fits in is_long.items() if fits[sides.is_member].any()])
    n_searches = asked(main, spec.near_records)
    return MemorizationWork(
        n_continuations,
        n_continuations * spec.suffix_tokens,
        n_searches,
        n_searches * BEAM_WIDTH * spec.suffix_tokens,
        n_candidates,
        n_candidate_tokens,
    )


def _without_scores(encoded: Sequence[Encoded]) -> TokenTable:
    """The places of tokens as evidence has them: the first of a record is never predicted."""
    statuses: list[Status] = ["ok"] * len(encoded)
    lengths = np.array([max(0, len(item.ids) - 1) for item in encoded], dtype=np.int64)
    return TokenTable(
        columns={},
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        is_audited=np.concatenate([item.is_audited[1:] for item in encoded]),
        n_windows=np.zeros(len(encoded), dtype=np.int64),
        status=statuses,
    )
