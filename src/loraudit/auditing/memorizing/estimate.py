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
from loraudit.types import BoolArray, Status, TokenTable


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
    table = _without_scores(encoded)
    is_long = {p: is_long_enough(table, p, spec.suffix_tokens, options.max_length) for p in spec.prefix_tokens}
    has_base = plan.reference is not None
    asked = (_asked(is_long[prefix], sides.is_member, spec.generations, has_base) for prefix in spec.prefix_tokens)
    n_continuations = sum(asked) * len(spec.decodings)
    n_candidates, n_candidate_tokens = 0, 0
    if spec.candidates:
        placed = placed_fields(sides, spec.span, spec.candidates, spec.seed, personal_finder(spec))
        candidates = candidate_records(placed.fields, sides, spec.span)
        n_candidates = len(candidates) * (1 + has_base)
        n_candidate_tokens = sum(len(item.ids) for item in encode(candidates, tokenizer)) * (1 + has_base)
    main = main_prefix(spec, [length for length, fits in is_long.items() if fits[sides.is_member].any()])
    n_searches = _asked(is_long[main], sides.is_member, spec.near_records, has_base)
    return MemorizationWork(
        n_continuations,
        n_continuations * spec.suffix_tokens,
        n_searches,
        n_searches * BEAM_WIDTH * spec.suffix_tokens,
        n_candidates,
        n_candidate_tokens,
    )


def _asked(is_long: BoolArray, is_member: BoolArray, n_records: int, has_base: bool) -> int:
    """Members and others by the target, members by the base: so many of those that are long enough."""
    members, others = (min(n_records, int((is_long & side).sum())) for side in (is_member, ~is_member))
    return members * (1 + has_base) + others


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
