"""Gather the evidence an audit needs: what the store lacks is scored, unit by unit."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

from loraudit.data import Encoded, Window, cut_windows, encode
from loraudit.errors import EnvironmentFault, ModelError
from loraudit.execution import Map, Progress, Silent, StopRequest, serial_map, threaded_map
from loraudit.models import JointPlan, ModelPlan, Numerics, Resident
from loraudit.models.numerics import is_out_of_memory
from loraudit.scoring.batches import Sequence, plan_units
from loraudit.scoring.scorer import Arrays, Scorer
from loraudit.scoring.tables import token_table
from loraudit.store import EvidenceFolder, EvidenceStore
from loraudit.types import Decoding, Record, TokenTable

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768, "mps": 8192}
"""Tokens per forward pass by kind of device."""


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How records are scored.

    Attributes:
        devices: One resident copy on each.
        numerics: Kind of device and precision.
        max_length: Longest window in tokens.
        stride: New tokens of each further window.
        span: "trained" or "all".
        append_eos: As `data.encode`.
        batch_tokens: None for the default of the device.
        decodings: Log-sum-exps to keep.
    """

    devices: Seq[str]
    numerics: Numerics
    max_length: int
    stride: int
    span: str = "trained"
    append_eos: bool = False
    batch_tokens: int | None = None
    decodings: tuple[Decoding, ...] = ()

    @property
    def tokens_at_once(self) -> int:
        """Tokens per forward pass."""
        return self.batch_tokens or BATCH_TOKENS.get(self.numerics.device, 8192)

    def conditions(self, plan: ModelPlan | JointPlan, model_fingerprint: str) -> dict[str, Any]:
        """The key of one model's evidence: everything but the records that could change a score."""
        return {
            "model": model_fingerprint,
            "tokenizer": plan.tokenizer_fingerprint,
            "numerics": self.numerics.conditions(),
            "span": self.span,
            "append_eos": self.append_eos,
            "max_length": self.max_length,
            "stride": self.stride,
            "decodings": [list(decoding) for decoding in self.decodings],
        }


@dataclass
class Evidence:
    """What was gathered, and how.

    Attributes:
        tables: By view, over the records in the order asked for.
        n_scored: Records that had to be scored for at least one view.
        n_cached: Records whose evidence was complete.
        n_damaged_units: Units of the store that were damaged and scored again.
        n_backoffs: Batches halved because memory ran out.
        n_tokens: Tokens sent through a model, padding not counted.
        seconds: Spent scoring, loading included.
        modes: How each stage ran its model.
    """

    tables: dict[str, TokenTable]
    n_scored: int = 0
    n_cached: int = 0
    n_damaged_units: int = 0
    n_backoffs: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    modes: list[str] = field(default_factory=list[str])


def gather_evidence(
    plan: ModelPlan | JointPlan,
    records: Seq[Record],
    options: ScoringOptions,
    store: EvidenceStore,
    *,
    tokenizer: Callable[[], Any],
    views: Seq[str] | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Evidence:
    """Evidence on every record from every view of the plan.

    Complete units are written as they come, so a killed run loses at most one; units and batches are
    fixed by the records, so a resumed run gives the same numbers.

    Args:
        plan: The models.
        records: To be scored.
        options: How.
        store: Where evidence is looked up and kept.
        tokenizer: Gives the tokenizer; called only if something must be scored.
        views: Views to gather; all of the plan by default.
        progress: Told of stages and tokens done.
        stop: Asked between batches.

    Raises:
        ModelError: Tokens and model do not fit together.
        Interrupted: A stop was asked for.
        StoreError: A unit cannot be written.
    """
    progress = progress or Silent()
    began = time.perf_counter()
    fingerprints = plan.fingerprints
    wanted = [view for view in fingerprints if views is None or view in views]
    folders = {view: store.folder(options.conditions(plan, fingerprints[view])) for view in wanted}
    for folder in folders.values():
        folder.refresh()
    missing = [i for i, record in enumerate(records) if any(f.lacks(record.id) for f in folders.values())]
    evidence = Evidence({}, n_scored=len(missing), n_cached=len(records) - len(missing))
    if missing:
        progress.say(f"Tokenising {len(records):,} records")
        encoded = encode(records, tokenizer(), span=options.span, append_eos=options.append_eos)
        for stage_views, load in plan.stages:
            needed = {view: folders[view] for view in stage_views if view in folders}
            if any(folder.lacks(record.id) for record in records for folder in needed.values()):
                _run_stage(load, needed, records, encoded, options, evidence, progress, stop)
    evidence.n_damaged_units = sum(folder.n_damaged for folder in folders.values())
    ids = [record.id for record in records]
    evidence.tables = {view: folder.table(ids) for view, folder in folders.items()}
    evidence.seconds = time.perf_counter() - began
    return evidence


@dataclass(frozen=True, slots=True)
class _Unit:
    """Records to be scored for some views."""

    positions: list[int]
    views: tuple[str, ...]


def _run_stage(
    load: Callable[[Numerics, str], Resident],
    folders: Mapping[str, EvidenceFolder],
    records: Seq[Record],
    encoded: Seq[Encoded],
    options: ScoringOptions,
    evidence: Evidence,
    progress: Progress,
    stop: StopRequest | None,
) -> None:
    windows, lengths = _cut(encoded, options)
    units = [
        unit
        for positions in plan_units(lengths, batch_tokens=options.tokens_at_once)
        for unit in _missing_parts(positions, folders, records)
    ]
    scorers: queue.Queue[Scorer] = queue.Queue()
    progress.say("Loading " + " and ".join(folders))
    for device in options.devices:
        scorers.put(_scorer(load(options.numerics, device), device, encoded, options))
    n_tokens = {id(unit): sum(lengths[i] for i in unit.positions) * len(unit.views) for unit in units}
    progress.stage("Scoring " + " and ".join(folders), sum(n_tokens.values()), "tokens")

    def work(unit: _Unit) -> tuple[_Unit, dict[str, TokenTable]]:
        scorer = scorers.get()
        try:
            return unit, _score_unit(scorer, unit, encoded, windows, stop)
        finally:
            scorers.put(scorer)

    n_devices = len(options.devices)
    run: Map = serial_map if n_devices == 1 else threaded_map(n_devices)
    for unit, tables in run(work, units):
        for view, table in tables.items():
            folders[view].add([records[i].id for i in unit.positions], table)
        evidence.n_tokens += n_tokens[id(unit)]
        progress.advance(n_tokens[id(unit)])
    while not scorers.empty():
        scorer = scorers.get()
        evidence.n_backoffs += scorer.n_backoffs
        evidence.modes.append(_describe(scorer, list(folders)))


def _scorer(resident: Resident, device: str, encoded: Seq[Encoded], options: ScoringOptions) -> Scorer:
    _refuse_unknown_ids(encoded, resident)
    return make_scorer(resident, device, options)


def make_scorer(resident: Resident, device: str, options: ScoringOptions) -> Scorer:
    """A scorer of a model that is in memory, once it has proved that it may be run in batches.

    Raises:
        ModelError: It may not.
        EnvironmentFault: There is no memory to run anything.
    """
    try:
        return Scorer(resident, batch_tokens=options.tokens_at_once, decodings=options.decodings)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EnvironmentFault(
            f"The model leaves no memory on {device} to run even two short texts. Use a lower --precision, "
            "another --device, or --device balanced."
        ) from None


def score_resident(
    resident: Resident, encoded: Seq[Encoded], options: ScoringOptions, view: str, stop: StopRequest | None = None
) -> TokenTable:
    """Evidence of a model that is in memory already, in the batches `gather_evidence` would make; nothing is stored.

    Args:
        resident: The model.
        encoded: Records as token ids.
        options: How; the devices are not looked at.
        view: Which of the model's views.
        stop: Asked between batches.

    Raises:
        ModelError: Tokens and model do not fit together.
        EnvironmentFault: There is no memory to run anything.
        Interrupted: A stop was asked for.
    """
    scorer = _scorer(resident, resident.device, encoded, options)
    return score_views(scorer, encoded, options, [view], stop)[view]


def score_views(
    scorer: Scorer, encoded: Seq[Encoded], options: ScoringOptions, views: Seq[str], stop: StopRequest | None = None
) -> dict[str, TokenTable]:
    """Evidence of several views of a model that has proved itself already; nothing is stored.

    Args:
        scorer: Of the model.
        encoded: Records as token ids.
        options: How; the devices are not looked at.
        views: Of the model.
        stop: Asked between batches.

    Raises:
        ModelError: Tokens and model do not fit together.
        Interrupted: A stop was asked for.
    """
    _refuse_unknown_ids(encoded, scorer.resident)
    windows, lengths = _cut(encoded, options)
    parts: dict[str, list[list[Arrays | None]]] = {view: [[] for _ in encoded] for view in views}
    for positions in plan_units(lengths, batch_tokens=options.tokens_at_once):
        owners = [i for i in positions for _ in windows[i]]
        for view, scored in scorer.score(_sequences(positions, encoded, windows), views, stop).items():
            for owner, part in zip(owners, scored, strict=True):
                parts[view][owner].append(part)
    masks = [item.is_audited[1:] for item in encoded]
    n_windows = [len(cuts) for cuts in windows]
    in_order = {view: [part for own in of_view for part in own] for view, of_view in parts.items()}
    return {view: token_table(arrays, masks, n_windows, scorer.decodings) for view, arrays in in_order.items()}


def _cut(encoded: Seq[Encoded], options: ScoringOptions) -> tuple[list[list[Window]], list[int]]:
    """Windows of each record, and the tokens that all of them take in the model."""
    windows = [cut_windows(len(item.ids), max_length=options.max_length, stride=options.stride) for item in encoded]
    return windows, [sum(w.end - w.start for w in cuts) for cuts in windows]


def _sequences(positions: Seq[int], encoded: Seq[Encoded], windows: Seq[Seq[Window]]) -> list[Sequence]:
    return [Sequence(encoded[i].ids[w.start : w.end], w.first_new - w.start) for i in positions for w in windows[i]]


def _missing_parts(positions: Seq[int], folders: Mapping[str, EvidenceFolder], records: Seq[Record]) -> list[_Unit]:
    """The part of a unit that each set of views still lacks."""
    lacking: dict[tuple[str, ...], list[int]] = {}
    for position in positions:
        views = tuple(view for view, folder in folders.items() if folder.lacks(records[position].id))
        if views:
            lacking.setdefault(views, []).append(position)
    return [_Unit(where, views) for views, where in lacking.items()]


def _score_unit(
    scorer: Scorer, unit: _Unit, encoded: Seq[Encoded], windows: Seq[Seq[Window]], stop: StopRequest | None
) -> dict[str, TokenTable]:
    scored = scorer.score(_sequences(unit.positions, encoded, windows), unit.views, stop)
    masks = [encoded[i].is_audited[1:] for i in unit.positions]
    n_windows = [len(windows[i]) for i in unit.positions]
    return {view: token_table(parts, masks, n_windows, scorer.decodings) for view, parts in scored.items()}


def _refuse_unknown_ids(encoded: Seq[Encoded], resident: Resident) -> None:
    largest = max((int(item.ids.max()) for item in encoded if len(item.ids)), default=0)
    if largest >= resident.vocabulary_size:
        raise ModelError(
            f"The tokenizer gives token id {largest}, but the model has only {resident.vocabulary_size} embeddings. "
            "The tokenizer belongs to another model, or tokens were added and the resized embedding was not saved; "
            "loraudit never resizes a model. Give the checkpoint with its own tokenizer."
        )


def _describe(scorer: Scorer, views: list[str]) -> str:
    resident = scorer.resident
    how = "head on audited positions" if scorer.mode.uses_head else "full logits of each batch"
    if len(resident.views) > 1 and len(views) > 1:
        how += ", one copy for target and reference" if "target" in views else f", one copy for {len(views)} models"
        if scorer.shares_layers and resident.shares_trunk:
            how += ", body run once"
        elif scorer.shares_layers:
            how += f", first {resident.n_shared_layers} of {len(resident.layers)} layers run once"
    return how
