"""What the model in training is compared with, and how that outlives a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loraudit.errors import ConfigError, ModelError
from loraudit.integrations.live_audit import Prepared
from loraudit.models import Resident, locate
from loraudit.models.live import live_resident
from loraudit.models.loading import load_checkpoint
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.models.resident import always
from loraudit.store import EvidenceStore
from loraudit.types import TokenTable

START_KEY = "loraudit/start"
"""In the trainer's log: the number of the evidence kept of the start of this training."""

_ID_HEX_DIGITS = 12
"""48 bits, which a JSON number holds exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the reference said.

    Attributes:
        table: Of all records.
        words: What it is, for people.
        start_id: Number under which it is kept, where it is the start of this training.
    """

    table: TokenTable
    words: str
    start_id: int | None = None


def find_reference(
    prepared: Prepared,
    module: Any,
    *,
    base: str | None,
    is_start: bool,
    log_history: Sequence[Mapping[str, Any]],
    store: EvidenceStore,
) -> Reference:
    """Score the reference, or find what was kept of it.

    A base that is named comes first; then the adapter switched off; then the model as it is at the start of
    training, which a training that goes on from a checkpoint has to remember.

    Args:
        prepared: The records.
        module: The model in training.
        base: Folder or hub name of the model it started from.
        is_start: Whether no step has been taken.
        log_history: The trainer's, which a checkpoint brings along.
        store: Where evidence of the start is kept.

    Raises:
        ConfigError: Nothing is known of the start of a training that goes on.
        ModelError: The base cannot be used.
    """
    live = live_resident(module)
    if base is not None:
        prepared.probe(live)
        return Reference(prepared.score(_base_resident(prepared, base), REFERENCE), f"base '{base}'")
    if REFERENCE in live.views:
        return Reference(prepared.score(live, REFERENCE), "the adapter switched off")
    words = "the model at the start of training"
    ids = [record.id for record in prepared.sides.records]
    if is_start:
        table = prepared.score(live, TARGET)
        start_id = _identity(table)
        store.folder(_conditions(prepared, start_id)).add(ids, table)
        return Reference(table, words, start_id)
    start_id = next((int(entry[START_KEY]) for entry in log_history if START_KEY in entry), None)
    if start_id is not None:
        kept = store.folder(_conditions(prepared, start_id))
        kept.refresh()
        if all(record_id in kept for record_id in ids):
            prepared.probe(live)
            return Reference(kept.table(ids), words, start_id)
    why = (
        "the training began without AuditCallback"
        if start_id is None
        else f"'{store.root}' holds nothing on these records as this tokenizer reads them"
    )
    raise ConfigError(
        "This training goes on from a checkpoint, so its weights are no longer those it started from, and what they "
        f"said at the start is not known: {why}. Give the model it started from as base, or the folder of the first "
        "start as folder."
    )


def _conditions(prepared: Prepared, start_id: int) -> dict[str, Any]:
    return {"start": start_id, "tokens": prepared.key(), "numerics": prepared.options.numerics.conditions()}


def _identity(table: TokenTable) -> int:
    """A number that follows from what the model said, so the same start has the same."""
    total = hashlib.sha256(np.ascontiguousarray(table.columns["log_prob"]).tobytes())
    return int(total.hexdigest()[:_ID_HEX_DIGITS], 16)


def _base_resident(prepared: Prepared, base: str) -> Resident:
    source = locate(base)
    if source.kind != "checkpoint":
        raise ModelError(f"Base '{base}' is an adapter. Expected a full checkpoint.")
    (device,) = prepared.options.devices
    module = load_checkpoint(source, prepared.options.numerics, device)
    return Resident(module, device, {REFERENCE: always(module)})
