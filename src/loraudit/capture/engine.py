"""Gather the gradient norms an audit needs: what the store lacks is measured, unit by unit."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loraudit.capture.meter import GradientMeter, Piece
from loraudit.data import Encoded, Window, cut_windows, encode
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.models import ModelPlan
from loraudit.models.plan import TARGET
from loraudit.scoring import ScoringOptions, plan_units
from loraudit.store import EvidenceStore, NumberFolder
from loraudit.types import FloatArray, Record

GRADIENT_SCHEMA = 1
_SHARE_OF_BATCH = 4
"""A pass that is to be differentiated keeps its activations, so it gets a quarter of the tokens."""


@dataclass
class Gradients:
    """What was gathered, and how.

    Attributes:
        norms: [N] ‖∂(mean −log p)/∂θ‖₂ of each record; NaN where undefined.
        n_measured: Records that had to be measured.
        n_cached: Records whose norm was there.
        n_damaged_units: Units of the store that were damaged and measured again.
        n_backoffs: Batches halved because memory ran out.
        seconds: Spent, loading included.
        modes: How each copy of the model was run; empty where all was there.
    """

    norms: FloatArray
    n_measured: int = 0
    n_cached: int = 0
    n_damaged_units: int = 0
    n_backoffs: int = 0
    seconds: float = 0.0
    modes: list[str] = field(default_factory=list[str])


def gradient_batch_tokens(options: ScoringOptions) -> int:
    """Tokens per pass, forward and backward."""
    return max(16, options.tokens_at_once // _SHARE_OF_BATCH)


def gradient_folder(plan: ModelPlan, options: ScoringOptions, store: EvidenceStore) -> NumberFolder:
    """Where norms are kept that were measured so; the base decides which parameters of a checkpoint count."""
    conditions = options.conditions(plan, plan.target.fingerprint)
    del conditions["decodings"]
    base = plan.reference.fingerprint if plan.reference else None
    return store.numbers("gradients", {"gradient_schema": GRADIENT_SCHEMA, "base": base, **conditions})


def gather_gradients(
    plan: ModelPlan,
    records: Seq[Record],
    options: ScoringOptions,
    store: EvidenceStore,
    *,
    tokenizer: Callable[[], Any],
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Gradients:
    """The target's gradient norm on every record.

    Complete units are written as they come, so a killed run loses at most one; units are fixed by the records, so a
    resumed run gives the same numbers. Of several devices the first is used.

    Args:
        plan: Of the target and its base.
        records: To be measured.
        options: As for scoring.
        store: Where norms are looked up and kept.
        tokenizer: Gives the tokenizer; called only if something must be measured.
        progress: Told of the stage and tokens done.
        stop: Asked between passes.

    Raises:
        EnvironmentFault: There is no memory for the gradient of a short text.
        Interrupted: A stop was asked for.
        StoreError: A unit cannot be written.
    """
    progress = progress or Silent()
    began = time.perf_counter()
    folder = gradient_folder(plan, options, store)
    folder.refresh()
    n_missing = sum(folder.lacks(record.id) for record in records)
    found = Gradients(np.empty(0), n_measured=n_missing, n_cached=len(records) - n_missing)
    if n_missing:
        progress.say("Loading target for its gradients")
        load = next(loader for views, loader in plan.stages if TARGET in views)
        meter = GradientMeter(load(options.numerics, options.devices[0]), batch_tokens=gradient_batch_tokens(options))
        encoded = encode(records, tokenizer(), span=options.span, append_eos=options.append_eos)
        _measure(meter, folder, records, encoded, options, progress, stop)
        found.n_backoffs = meter.n_backoffs
        found.modes.append(meter.describe())
    found.n_damaged_units = folder.n_damaged
    found.norms = folder.values([record.id for record in records])
    found.seconds = time.perf_counter() - began
    return found


def _measure(
    meter: GradientMeter,
    folder: NumberFolder,
    records: Seq[Record],
    encoded: Seq[Encoded],
    options: ScoringOptions,
    progress: Progress,
    stop: StopRequest | None,
) -> None:
    windows = [cut_windows(len(item.ids), max_length=options.max_length, stride=options.stride) for item in encoded]
    lengths = [sum(w.end - w.start for w in cuts) for cuts in windows]
    planned = plan_units(lengths, batch_tokens=gradient_batch_tokens(options))
    units = [[i for i in unit if folder.lacks(records[i].id)] for unit in planned]
    progress.stage("Gradients of target", sum(lengths[i] for unit in units for i in unit), "tokens")
    for unit in units:
        if not unit:
            continue
        norms = meter.norms([pieces_of(encoded[i], windows[i]) for i in unit], stop)
        # What memory did not suffice for is not kept, so that a later run tries again.
        kept = [(records[i].id, norm) for i, norm in zip(unit, norms, strict=True) if norm is not None]
        if kept:
            folder.add([record_id for record_id, _ in kept], np.array([norm for _, norm in kept]))
        progress.advance(sum(lengths[i] for i in unit))


def pieces_of(item: Encoded, windows: Seq[Window]) -> list[Piece]:
    """The windows of a record, each with the audited tokens that it predicts; every token is predicted once."""
    pieces: list[Piece] = []
    for window in windows:
        new = np.arange(window.first_new, window.end)
        pieces.append(Piece(item.ids[window.start : window.end], new[item.is_audited[new]] - window.start))
    return pieces
