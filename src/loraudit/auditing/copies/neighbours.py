"""Altered copies of the audited records, drawn from the base's predictions, so that they never depend on the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loraudit.auditing.copies.altered import AlteredTokens, WantedSlow
from loraudit.data import draw_substitutions, token_record, with_substitutions
from loraudit.execution import Progress, StopRequest
from loraudit.models import ModelPlan
from loraudit.models.plan import REFERENCE
from loraudit.scoring import ScoringOptions, likeliest_tokens
from loraudit.store import EvidenceStore, SubstitutionFolder
from loraudit.types import BoolArray, Record

REPLACED_SHARE = 0.2
"""Of the audited tokens that can be replaced, in each neighbour (ours)."""
N_LIKELIEST = 10
"""The base's likeliest other tokens, among which a replacement is drawn (ours)."""
_N_PROPOSED = N_LIKELIEST + 6
"""A few more, of which the record's own token and special ones are taken away."""
_SCHEMA = 1
_DRAWN = 40


def kept_substitutions(
    wanted: WantedSlow, plan: ModelPlan, options: ScoringOptions, store: EvidenceStore
) -> SubstitutionFolder | None:
    """Where substitutions are kept, with those of earlier runs; None where no attack looks at neighbours.

    Args:
        wanted: What was asked for.
        plan: Of the target and its base, whatever the audit's reference is.
        options: How the base is run.
        store: Of evidence.
    """
    if not wanted.n_neighbours or plan.reference is None:
        return None
    question = {
        "question": "neighbours",
        "schema": _SCHEMA,
        "n": wanted.n_neighbours,
        "share": REPLACED_SHARE,
        "n_likeliest": N_LIKELIEST,
        "seed": wanted.seed,
        **options.conditions(plan, plan.reference.fingerprint),
    }
    folder = store.substitutions({name: value for name, value in question.items() if name != "decodings"})
    folder.refresh()
    return folder


def draw_neighbours(
    folder: SubstitutionFolder,
    tokens: AlteredTokens,
    records: Sequence[Record],
    wanted: WantedSlow,
    plan: ModelPlan,
    options: ScoringOptions,
    *,
    progress: Progress,
    stop: StopRequest | None,
) -> int:
    """Draw what is not kept yet, unit by unit; returns the tokens that the base had to read for it.

    Raises:
        EnvironmentFault: There is no memory to run anything.
        Interrupted: A stop was asked for; complete units are kept.
        StoreError: A unit cannot be written.
    """
    missing = [record.id not in folder for record in records]
    if not any(missing):
        return 0
    load = next(load for views, load in plan.stages if REFERENCE in views)
    n_tokens = 0
    for positions, proposals in likeliest_tokens(
        load,
        tokens.encoded,
        missing,
        options,
        view=REFERENCE,
        n_likeliest=_N_PROPOSED,
        progress=progress,
        stop=stop,
    ):
        n_tokens += sum(len(tokens.encoded[i].ids) for i in positions)
        drawn = {
            records[i].id: draw_substitutions(
                tokens.encoded[i],
                proposed,
                n_copies=wanted.n_neighbours,
                share=REPLACED_SHARE,
                n_likeliest=N_LIKELIEST,
                kept_ids=tokens.special_ids,
                # By the content, so that a record has the same neighbours whatever stands beside it.
                rng=np.random.default_rng([wanted.seed, _DRAWN, int(records[i].id[:16], 16)]),
            )
            for i, proposed in zip(positions, proposals, strict=True)
            if proposed is not None
        }
        folder.add(list(drawn), list(drawn.values()))
    return n_tokens


def neighbour_records(
    folder: SubstitutionFolder, tokens: AlteredTokens, records: Sequence[Record], numbers: Sequence[int]
) -> tuple[list[Record], BoolArray]:
    """The copies of these numbers, one number after the other, of the records that have any; and [N] which have."""
    has_any = np.array([record.id in folder and folder[record.id].shape[1] > 0 for record in records], dtype=bool)
    copies = [
        token_record(
            with_substitutions(tokens.encoded[i], folder[records[i].id][number]),
            source=f"neighbour {number}",
            line=i + 1,
        )
        for number in numbers
        for i in np.flatnonzero(has_any).tolist()
    ]
    return copies, has_any
