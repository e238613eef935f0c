"""What every checkpoint leaks: its evidence, its attacks' scores, and its loss on both sides."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loraudit.auditing.preparation import (
    requested_models,
    requested_tokenizer,
    scoring_options,
    split_by_views,
    with_decodings,
)
from loraudit.auditing.request import Sides, chosen_attacks
from loraudit.auditing.summary import record_statuses, refuse_unscored_sides
from loraudit.contrast.shadows import ArmShadows
from loraudit.data import record_facts
from loraudit.execution import Progress, StopRequest
from loraudit.membership import AnyAttack, score_attacks, without_noise
from loraudit.models import JointPlan
from loraudit.scoring import gather_evidence
from loraudit.spec import N_TOKENS, SUMMED_LOSS, AuditSpec
from loraudit.store import EvidenceStore, open_private_folder, write_atomically
from loraudit.types import BoolArray, FloatArray, RecordFacts, TokenTable

_KEY = b"measured"
_BASE = "base"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What one checkpoint gives away.

    Attributes:
        attacks: [N] per attack, NaN = undefined.
        losses: [N] summed −log p of the audited tokens, nats; NaN where the record could not be scored.
        n_tokens: [N] audited tokens.
    """

    attacks: Mapping[str, FloatArray]
    losses: FloatArray
    n_tokens: FloatArray

    def mean_loss(self, where: BoolArray) -> float:
        """Nats per audited token of some records."""
        known = where & ~np.isnan(self.losses)
        return float(self.losses[known].sum() / max(1, self.n_tokens[known].sum()))


class Meter:
    """Measures checkpoints on the same records; what was measured before is read back.

    Args:
        request: Of an audit: everything but the model.
        sides: The records.
        folder: For the scores of each checkpoint.
        store: For evidence: the base is scored once.
        progress: Told how far it is.
        stop: Asked between batches.
    """

    def __init__(
        self,
        request: AuditSpec,
        sides: Sides,
        folder: Path,
        store: EvidenceStore,
        progress: Progress,
        stop: StopRequest | None,
    ) -> None:
        self.request, self.sides, self.store = request, sides, store
        self.folder = open_private_folder(folder)
        self.progress, self.stop = progress, stop
        self.facts: RecordFacts = record_facts(sides.records, request.span)
        self.attacks: list[AnyAttack] = chosen_attacks(request)

    def key(self, *made_from: object) -> str:
        """What scores of something made from this rest on; scores under another key are not read back."""
        content = json.dumps([made_from, [record.id for record in self.sides.records]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def knows(self, name: str, made_from: Mapping[str, Any]) -> bool:
        """Whether this checkpoint was measured before, and the base with it."""
        return (
            self._read(name, self.key(made_from)) is not None
            and self._read(_BASE, self._base_key(made_from)) is not None
        )

    def measure(
        self,
        model: Path,
        name: str,
        made_from: Mapping[str, Any],
        *,
        epoch: float,
        is_final: bool,
        shadows: ArmShadows | None,
    ) -> Scores:
        """The scores of one checkpoint.

        Args:
            model: Its folder.
            name: Of its file of scores.
            made_from: Hashes of what it, and the shadows it is compared with, were trained from.
            epoch: After which it was taken.
            is_final: Whether its evidence is worth keeping, for a whole audit.
            shadows: Of its method; None where none were asked for.
        """
        kept = self._read(name, self.key(made_from))
        base_key = self._base_key(made_from)
        is_base_known = self._read(_BASE, base_key) is not None
        if kept is not None and is_base_known:
            return kept
        request = self.request.model_copy(update={"model": str(model)})
        plan = requested_models(request, self.store)
        measured, _ = split_by_views(self.attacks, plan, request)
        options, _ = scoring_options(request, plan, self.sides, measured[0], self.store, self.progress)
        gather = functools.partial(
            gather_evidence,
            records=self.sides.records,
            store=self.store,
            tokenizer=lambda: requested_tokenizer(request, plan),
            progress=self.progress,
            stop=self.stop,
        )
        # What the whole audit of a final model reads, so that neither it nor the base is scored a second time.
        own = with_decodings(options) if request.memorization else options
        evidence = gather(plan, views=["target", "reference"], options=own)
        refuse_unscored_sides(self.sides, record_statuses(evidence))
        reference = evidence.tables["reference"]
        said: dict[str, TokenTable] = {}
        if shadows is not None:

            def gather_joint(joint: JointPlan) -> Mapping[str, TokenTable]:
                if not is_final:
                    shadows.passing_evidence |= {
                        self.store.folder(options.conditions(joint, digest)).path
                        for digest in joint.fingerprints.values()
                    }
                return gather(joint, options=options).tables

            said = shadows.views(epoch, gather_joint)
        if not is_base_known:
            # Before the first step target, base and shadows are one model.
            untouched = self._scored(measured, dict.fromkeys(["target", "reference", *said], reference))
            self._write(_BASE, base_key, untouched)
        scores = self._scored(measured, {**evidence.tables, **said})
        self._write(name, self.key(made_from), scores)
        if not is_final:
            shutil.rmtree(self.store.folder(own.conditions(plan, plan.target.fingerprint)).path, ignore_errors=True)
        return scores

    def _base_key(self, made_from: Mapping[str, Any]) -> str:
        return self.key(made_from["base_fingerprint"], made_from["tokenizer_fingerprint"])

    def untouched(self, made_from: Mapping[str, Any]) -> Scores:
        """The base in the target's role; known once any checkpoint was measured."""
        scores = self._read(_BASE, self._base_key(made_from))
        if scores is None:
            raise RuntimeError("the base is measured with the first checkpoint")
        return scores

    def _scored(self, attacks: Sequence[AnyAttack], tables: Mapping[str, TokenTable]) -> Scores:
        folds = self.sides.folds(self.request.seed)
        found = score_attacks(attacks, tables, self.facts, folds=folds, timeout=self.request.attack_timeout)
        target = tables["target"].audited()
        with np.errstate(invalid="ignore"):
            losses = -np.add.reduceat(
                np.append(target.columns["log_prob"].astype(np.float64), 0.0), target.offsets[:-1]
            )
        losses = np.where((target.n_tokens > 0) & (np.array(target.status) == "ok"), losses, np.nan)
        return Scores(
            {name: without_noise(scores.scores) for name, scores in found.items()},
            losses,
            target.n_tokens.astype(np.float64),
        )

    # --- files ------------------------------------------------------------------------------------------

    def _read(self, name: str, key: str) -> Scores | None:
        try:
            table = pq.read_table(
                io.BytesIO((self.folder / f"{name}.parquet").read_bytes()), page_checksum_verification=True
            )
        except (OSError, pa.ArrowException):
            return None
        if (table.schema.metadata or {}).get(_KEY) != key.encode():
            return None
        columns = {column: np.asarray(table.column(column), dtype=np.float64) for column in table.column_names}
        if not {SUMMED_LOSS, N_TOKENS, *(attack.name for attack in self.attacks)} <= set(columns):
            return None
        losses, n_tokens = columns.pop(SUMMED_LOSS), columns.pop(N_TOKENS)
        return Scores(columns, losses, n_tokens)

    def _write(self, name: str, key: str, scores: Scores) -> None:
        buffer = io.BytesIO()
        columns = {**scores.attacks, SUMMED_LOSS: scores.losses, N_TOKENS: scores.n_tokens}
        pq.write_table(
            pa.table(columns).replace_schema_metadata({_KEY: key}), buffer, compression="zstd", write_page_checksum=True
        )
        write_atomically(self.folder / f"{name}.parquet", buffer.getvalue())
