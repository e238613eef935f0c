"""What slow attacks take, and what the result says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loraudit.auditing.copies.altered import AlteredTokens, WantedSlow, slow_options
from loraudit.auditing.copies.neighbours import N_LIKELIEST, REPLACED_SHARE, kept_substitutions, neighbour_records
from loraudit.auditing.copies.slow import SlowEvidence, kept_apart
from loraudit.auditing.request import Sides
from loraudit.models import ModelPlan
from loraudit.scoring import ScoringOptions, plan_units
from loraudit.scoring.batches import BATCHES_PER_UNIT
from loraudit.spec import SlowSummary
from loraudit.store import EvidenceStore
from loraudit.types import Record


class SlowWork(NamedTuple):
    """What slow attacks take that is not kept yet.

    Attributes:
        words: For a person.
        n_tokens: To send through a model.
        n_units: Of work.
    """

    words: str
    n_tokens: int
    n_units: int


def estimate_slow(
    wanted: WantedSlow | None,
    tokens: AlteredTokens | None,
    plan: ModelPlan,
    sides: Sides,
    options: ScoringOptions,
    store: EvidenceStore | None,
    fingerprints: Sequence[str],
) -> SlowWork | None:
    """What slow attacks take; None where nothing is missing.

    Args:
        wanted: What was asked for.
        tokens: Of records and prefix.
        plan: Of the target and its base.
        sides: The records.
        options: How the records themselves are scored.
        store: Of evidence, where there is one.
        fingerprints: Of each model that scores the copies; "" for one that is still to be made.
    """
    if wanted is None or tokens is None:
        return None
    own = slow_options(options)
    records = sides.records
    lengths = [len(item.ids) for item in tokens.encoded]
    at_once = options.tokens_at_once
    parts: list[str] = []
    n_tokens = n_units = 0
    evidence = [kept_apart(store).folder(own.conditions(plan, name)) for name in fingerprints] if store else []
    for folder in evidence:
        folder.refresh()

    def lacking(copies: Sequence[Record]) -> int:
        """Tokens of the copies that models still have to read."""
        sizes = [len(copy.tokens.ids) if copy.tokens else 0 for copy in copies]
        if not evidence:
            return sum(sizes) * len(fingerprints)
        return sum(n for folder in evidence for n, copy in zip(sizes, copies, strict=True) if folder.lacks(copy.id))

    if wanted.n_neighbours and plan.reference is not None:
        kept = kept_substitutions(wanted, plan, options, store) if store else None
        undrawn = [n for record, n in zip(records, lengths, strict=True) if kept is None or record.id not in kept]
        known = neighbour_records(kept, tokens, records, range(wanted.n_neighbours))[0] if kept else []
        n_copies = wanted.n_neighbours * sum(undrawn) * len(fingerprints) + lacking(known)
        if undrawn:
            parts.append(f"draw neighbours of {len(undrawn):,} records from the base: {sum(undrawn):,} tokens")
            n_units += len(plan_units(undrawn, batch_tokens=at_once))
        if n_copies:
            models = f"{len(fingerprints)} model{'s' * (len(fingerprints) > 1)}"
            parts.append(f"score {wanted.n_neighbours} neighbours of each by {models}: {n_copies:,} tokens")
            n_units += -(-n_copies // (BATCHES_PER_UNIT * at_once))
        n_tokens += sum(undrawn) + n_copies
    n_prefixed = lacking(tokens.prefixed())
    if n_prefixed and tokens.prefix is not None:
        parts.append(f"score each record behind {len(tokens.prefix.ids)} tokens of prefix: {n_prefixed:,} tokens")
        n_units += -(-n_prefixed // (BATCHES_PER_UNIT * at_once))
        n_tokens += n_prefixed
    return SlowWork("; ".join(parts), n_tokens, n_units) if parts else None


def slow_summary(
    wanted: WantedSlow | None, found: SlowEvidence, base_plan: ModelPlan, sides: Sides
) -> SlowSummary | None:
    """What the result says of altered copies."""
    if wanted is None or found.tokens is None:
        return None
    prefix = found.tokens.prefix
    base = base_plan.reference
    has_neighbours = bool(wanted.n_neighbours and base)
    return SlowSummary(
        n_neighbours=wanted.n_neighbours if has_neighbours else 0,
        replaced_share=REPLACED_SHARE,
        n_likeliest=N_LIKELIEST,
        drawn_by=base.name if has_neighbours and base else None,
        drawn_by_fingerprint=base.fingerprint if has_neighbours and base else None,
        n_without_neighbours=found.n_without_neighbours,
        n_shots=prefix.n_records if prefix else 0,
        n_shots_asked=len(wanted.shots),
        is_prefix_cut=bool(prefix and prefix.is_cut),
        n_prefix_tokens=len(prefix.ids) if prefix else 0,
        prefix_from=wanted.shots_from or None,
        n_set_aside=sides.nonmembers.n_set_aside,
        n_too_long=int((~found.tokens.fits).sum()) if prefix else 0,
        files=list(wanted.data.files) if wanted.data else [],
        n_tokens=found.n_tokens,
        seconds={part: round(seconds, 2) for part, seconds in found.seconds.items()},
    )


def slow_warnings(summary: SlowSummary | None, sides: Sides) -> list[str]:
    """What the report must say aloud."""
    if summary is None:
        return []
    warnings: list[str] = []
    aside = sides.nonmembers.n_set_aside
    if aside:
        n = len(sides.aside)
        shared = "" if aside == n else f", with {aside - n} more of the same documents,"
        warnings.append(
            f"{n} non-members{shared} were set aside for the prefix of recall and are audited by no attack; give other "
            "records with --recall-prefix to keep them."
        )
    if summary.n_shots and (summary.n_shots < summary.n_shots_asked or summary.is_prefix_cut):
        cut = ", the first of them without its beginning" if summary.is_prefix_cut else ""
        warnings.append(
            f"The window has room for {summary.n_shots} of the {summary.n_shots_asked} records of recall's prefix"
            f"{cut}: {summary.n_prefix_tokens} tokens."
        )
    if summary.n_too_long:
        warnings.append(
            f"{summary.n_too_long} records do not fit into one window with the prefix; recall is undefined for them."
        )
    if summary.n_without_neighbours:
        warnings.append(
            f"In {summary.n_without_neighbours} records no token could be replaced; attacks on neighbours are "
            "undefined for them."
        )
    return warnings
