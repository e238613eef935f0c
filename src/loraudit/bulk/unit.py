"""The work of a bulk run: one unit's records read, scored with the worker's models, written as one part."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from loraudit.auditing.preparation import requested_tokenizer
from loraudit.bulk.blocks import Block, Unit
from loraudit.bulk.columns import scored_rows, unscored_rows
from loraudit.bulk.parts import Mark, read_mark, write_part
from loraudit.bulk.records import RecordReader
from loraudit.bulk.request import audit_request, models_and_options
from loraudit.data import Encoded, encode, record_facts
from loraudit.engines import stop_of_worker
from loraudit.errors import DataError, ModelError
from loraudit.membership import ATTACKS, AnyAttack, score_attacks
from loraudit.models import ModelPlan
from loraudit.scoring import Scorer, ScoringOptions, make_scorer, score_views
from loraudit.spec import ScoreSpec
from loraudit.store import EvidenceStore, shown_ids
from loraudit.types import Record, TokenTable


class Scored(NamedTuple):
    """What became of a unit.

    Attributes:
        number: Of the unit.
        mark: Of its part.
        was_there: Whether the part was whole already.
    """

    number: int
    mark: Mark
    was_there: bool


@dataclass
class _Voices:
    """The models of a worker, in memory for as long as it lives.

    Attributes:
        plan: Where they come from.
        options: How they score.
        attacks: What is computed from what they say.
        tokenizer: Of the target.
        scorers: Views and what gives them; a target that shares no copy with its base stands beside it.
        reader: Of records.
    """

    plan: ModelPlan
    options: ScoringOptions
    attacks: list[AnyAttack]
    tokenizer: Any
    scorers: list[tuple[tuple[str, ...], Scorer]]
    reader: RecordReader


@dataclass
class ScoreUnit:
    """Picklable; loads its models when the first unit comes.

    Args:
        spec: The request.
        folder: Of the run.
        store: Of evidence and of what is known of models.
        attacks: Names.
        key: Of the ids that are shown.
        asked: As of `Mark`.
        fingerprints: Of each view's weights, as the run began with; a worker that finds others refuses.
        names_sources: Whether the parts may say where records stand.
    """

    spec: ScoreSpec
    folder: Path
    store: Path
    attacks: tuple[str, ...]
    key: bytes = field(repr=False)
    asked: str
    fingerprints: dict[str, str]
    names_sources: bool
    _voices: _Voices | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_voices": None}

    def __call__(self, unit: Unit) -> Scored:
        """Write the unit's part, unless it is there and whole.

        Raises:
            DataError: A file changed, or records cannot be rendered and are not to be skipped.
            ModelError: The models cannot be used, or are not those that the run began with.
            EnvironmentFault: There is no memory for the models.
            StoreError: The part cannot be written.
            Interrupted: A stop was asked for.
        """
        mark, _ = read_mark(self.folder, unit, self.asked)
        if mark is not None:
            return Scored(unit.number, mark, was_there=True)
        began = time.perf_counter()
        if self._voices is None:
            self._voices = self._load()
        voices = self._voices
        n_backoffs = sum(scorer.n_backoffs for _, scorer in voices.scorers)
        found = [self._score(voices, block) for block in unit.blocks]
        facts = {
            "n_tokens": sum(one.n_tokens for one in found),
            "n_model_tokens": sum(one.n_model_tokens for one in found),
            "n_windowed": sum(one.n_windowed for one in found),
            "errors": {name: reason for one in found for name, reason in one.errors.items()},
            "n_backoffs": sum(scorer.n_backoffs for _, scorer in voices.scorers) - n_backoffs,
            "device": voices.options.numerics.device,
            "modes": [words(scorer, views) for views, scorer in voices.scorers],
            "seconds": round(time.perf_counter() - began, 3),
        }
        rows = pa.concat_tables([one.rows for one in found])
        return Scored(
            unit.number, write_part(self.folder, unit, rows.combine_chunks(), self.asked, **facts), was_there=False
        )

    def close(self) -> None:
        """Let go of the models and of the file that is open."""
        if self._voices is not None:
            self._voices.reader.close()
        self._voices = None

    def _load(self) -> _Voices:
        plan, options = models_and_options(self.spec, EvidenceStore(self.store), is_worker=True)
        if plan.fingerprints != self.fingerprints:
            raise ModelError(
                f"Model '{self.spec.model}' or its base changed since the run began, or is another one on this "
                "machine. Expected the same weights for every worker. Run the same command again where they are."
            )
        tokenizer = requested_tokenizer(audit_request(self.spec), plan)
        (device,) = options.devices
        scorers = [(views, make_scorer(load(options.numerics, device), device, options)) for views, load in plan.stages]
        attacks = [ATTACKS[name] for name in self.attacks]
        return _Voices(plan, options, attacks, tokenizer, scorers, RecordReader(self.spec.records, self.spec))

    def _score(self, voices: _Voices, block: Block) -> _Block:
        stop = stop_of_worker()
        stop.check()
        records = voices.reader.records(block)
        encoded, unrendered = self._encoded(records, voices)
        positions = [i for i in range(len(records)) if i not in unrendered]
        kept = [records[i] for i in positions]
        tables: dict[str, TokenTable] = {}
        for views, scorer in voices.scorers if kept else ():
            tables |= score_views(scorer, encoded, voices.options, list(views), stop)
        audited = {view: tables[view].audited() for view in voices.plan.fingerprints if kept}
        how: dict[str, Any] = {"layout": self.spec, "names_sources": self.names_sources}
        ids = shown_ids(records, self.key)
        parts: list[pa.Table] = []
        errors: dict[str, str] = {}
        if kept:
            facts = record_facts(kept, self.spec.span)
            scores = score_attacks(voices.attacks, audited, facts)
            errors = {name: found.error for name, found in scores.items() if found.error}
            parts.append(scored_rows(kept, [ids[i] for i in positions], audited, facts, scores, **how))
            if self.spec.keep_evidence:
                self._keep(voices, kept, tables)
        if unrendered:
            others = [records[i] for i in unrendered]
            facts = record_facts(others, self.spec.span)
            views = list(voices.plan.fingerprints)
            parts.append(unscored_rows(others, [ids[i] for i in unrendered], views, voices.attacks, facts, **how))
        rows = pa.concat_tables(parts)
        if unrendered:
            order = sorted(range(len(records)), key=[*positions, *unrendered].__getitem__)
            rows = rows.take(order)
        n_windows = rows.column("n_windows").to_numpy()
        return _Block(
            rows=rows,
            n_tokens=int(rows.column("n_tokens").to_numpy().sum()),
            n_model_tokens=sum(len(item.ids) for item in encoded) * len(voices.plan.fingerprints),
            n_windowed=int((n_windows > 1).sum()),
            errors=errors,
        )

    def _encoded(self, records: Sequence[Record], voices: _Voices) -> tuple[list[Encoded], list[int]]:
        """The records as tokens, and the positions of those that the chat template cannot render."""
        how: dict[str, Any] = {"span": self.spec.span, "append_eos": self.spec.append_eos}
        try:
            return encode(records, voices.tokenizer, **how), []
        except DataError as error:
            if self.spec.on_bad_record == "error" or not error.problems:
                raise
        encoded: list[Encoded] = []
        unrendered: list[int] = []
        for position, record in enumerate(records):
            try:
                encoded += encode([record], voices.tokenizer, **how)
            except DataError:
                unrendered.append(position)
        return encoded, unrendered

    def _keep(self, voices: _Voices, records: Sequence[Record], tables: dict[str, TokenTable]) -> None:
        """Evidence as an audit keeps it. Nothing is read back, so that memory does not grow with what is there."""
        store = EvidenceStore(self.store)
        for view, fingerprint in voices.plan.fingerprints.items():
            folder = store.folder(voices.options.conditions(voices.plan, fingerprint))
            folder.add([record.id for record in records], tables[view])


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """What came of a block; attributes as of `Mark`, and its rows."""

    rows: pa.Table
    n_tokens: int
    n_model_tokens: int
    n_windowed: int
    errors: dict[str, str]


def words(scorer: Scorer, views: Sequence[str]) -> str:
    """How a worker runs a model."""
    how = "head on audited positions" if scorer.mode.uses_head else "full logits of each batch"
    shared = ", one copy" if len(views) > 1 else ""
    return f"{' and '.join(views)}: {how}{shared}"
